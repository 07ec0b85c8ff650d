package localstore

import (
	"fmt"
	"strings"

	"scrawl/labelserver/datastore"
)

// segNRRD is Slicer's format of segmentations. It is the one double extension beside .nii.gz that means a format of its own.
const segNRRD = ".seg.nrrd"

// extensions are the file name extensions by which files in the folder are taken for images and labels, with their dots.
//
// The incumbent strips every occurrence of the last configured extension that matches, so that its id for a.nii.gz.nii.gz
// names a file that does not exist, and its ids depend on the order of the configuration. Here the longest matching extension
// counts, and only at the end of the name. With the usual configuration both give the same ids; a file the index already knows
// is never split again, so ids of an existing folder do not change.
type extensions []string

// newExtensions reads patterns such as "*.nii.gz".
func newExtensions(patterns []string) (extensions, error) {
	var x extensions
	for _, p := range patterns {
		ext, ok := strings.CutPrefix(p, "*")
		if !ok || ext == "" || datastore.CheckExt(ext) != nil || strings.ContainsAny(ext, "*?[") {
			return nil, fmt.Errorf("pattern %q of image files, want one such as *.nii.gz", p)
		}
		x = append(x, ext)
	}
	if len(x) == 0 {
		return nil, fmt.Errorf("no pattern of image files, want at least one such as *.nii.gz")
	}
	return x, nil
}

// known returns the longest extension that a name ends with.
func (x extensions) known(name string) (ext string, ok bool) {
	for _, e := range x {
		if strings.HasSuffix(name, e) && len(e) > len(ext) {
			ext = e
		}
	}
	return ext, ext != ""
}

// split is a file name as id and extension.
type split struct{ id, ext string }

// image splits the name of an image file found in the folder. It is not ok for a name without a known extension or one that
// leaves no id. x.seg.nrrd gives the id "x.seg", as with the incumbent: two servers on one folder must agree on it.
func (x extensions) image(name string) (s split, ok bool) {
	ext, ok := x.known(name)
	if !ok {
		return split{}, false
	}
	s = split{strings.TrimSuffix(name, ext), ext}
	return s, datastore.CheckID(s.id) == nil
}

// label lists the ways in which the name of a label file can be split, the longest id first. Which one is meant the images tell:
// x.seg.nrrd is a label of the image "x.seg" if there is one, of "x" otherwise. The incumbent knows the first way only and
// passes over Slicer's segmentations.
func (x extensions) label(name string) []split {
	var splits []split
	if s, ok := x.image(name); ok {
		splits = append(splits, s)
	}
	if id, ok := strings.CutSuffix(name, segNRRD); ok && datastore.CheckID(id) == nil {
		splits = append(splits, split{id, segNRRD})
	}
	return splits
}

// storedImage is the extension under which an upload is kept: the known one that it ends with, or all of it. The client's
// my.vol.v2.nii.gz has the extension .vol.v2.nii.gz, which says nothing about the format.
func (x extensions) storedImage(ext string) string {
	if known, ok := x.known(ext); ok {
		return known
	}
	return ext
}

// storedLabel is storedImage for labels, where .seg.nrrd stays: it tells a reader that the segments' names are in the header.
func (x extensions) storedLabel(ext string) string {
	if strings.HasSuffix(ext, segNRRD) {
		return segNRRD
	}
	return x.storedImage(ext)
}
