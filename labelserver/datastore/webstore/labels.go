package webstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/format"
	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/labelinfo"
)

// The member of a final label's info that tells what became of it in the archive: {"state", "reason", "instance", "made"}.
const keyArchive = "archive"

// States of a final label.
const (
	statePending = "pending" // to be sent (again)
	stateStored  = "stored"  // in the archive
	stateRefused = "refused" // the archive does not take it, or no segmentation can be made of it
	stateEmpty   = "empty"   // nothing to send: no voxel has a label
)

func stateOf(info *api.Object) (state, reason string) {
	archive, _ := info.Object(keyArchive)
	state, _ = archive.Text("state")
	reason, _ = archive.Text("reason")
	return state, reason
}

// PutImage implements datastore.Store: images come to an archive by its own ways.
func (s *Store) PutImage(_ context.Context, id, ext string, _ io.Reader, _ *api.Object) error {
	if err := datastore.CheckID(id); err != nil {
		return err
	}
	if err := datastore.CheckExt(ext); err != nil {
		return err
	}
	return fmt.Errorf("image %q: images are stored in the archive itself (%s): %w", id, s.client.URL(), datastore.ErrReadOnly)
}

// DeleteImage implements datastore.Store: DICOMweb has no way to delete.
func (s *Store) DeleteImage(ctx context.Context, id string) error {
	if _, _, err := s.find(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("image %q: images are deleted in the archive itself (%s): %w", id, s.client.URL(), datastore.ErrReadOnly)
}

// UpdateImageInfo implements datastore.Store.
func (s *Store) UpdateImageInfo(ctx context.Context, id string, info *api.Object) error {
	_, found, err := s.writable(ctx, id)
	if err != nil {
		return err
	}
	if err := s.local.Register(ctx, id, imageExt, found.info); err != nil {
		return err
	}
	return s.local.UpdateImageInfo(ctx, id, info)
}

// UpdateLabelInfo implements datastore.Store. A label that only the archive has is taken over first.
func (s *Store) UpdateLabelInfo(ctx context.Context, id, tag string, info *api.Object) error {
	v, found, err := s.writable(ctx, id)
	if err != nil {
		return err
	}
	if err := datastore.CheckTag(tag); err != nil {
		return err
	}
	if tag == datastore.TagFinal {
		if seg := v.archived(found.uid); seg != nil {
			if err := s.takeOver(ctx, found, seg); err != nil {
				return err
			}
		}
	}
	if !slices.Contains(v.tags(found.uid), tag) {
		return noLabel(id, tag)
	}
	return s.local.UpdateLabelInfo(ctx, id, tag, info)
}

// takeOver stores what was made of a segmentation of the archive as if it had been submitted here.
func (s *Store) takeOver(ctx context.Context, of *series, seg *segmentation) error {
	item := s.archivedLabel(ctx, of.uid, seg)
	f, err := item.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if err := s.local.Register(ctx, of.uid, imageExt, of.info); err != nil {
		return err
	}
	return s.local.PutLabel(ctx, of.uid, datastore.TagFinal, item.Ext, f, item.Info)
}

// writable is find for a change.
func (s *Store) writable(ctx context.Context, id string) (*view, *series, error) {
	v, found, err := s.find(ctx, id)
	if err == nil && s.o.ReadOnly {
		err = datastore.ErrReadOnly
	}
	return v, found, err
}

// PutLabel implements datastore.Store. A label under the tag final also goes to the archive, so it has to be a label map on the grid of
// its image. It is stored here whatever the archive says to it: while the archive cannot be reached the label is pending, which is no error; what the archive refuses for good, or what no
// segmentation can be made of, is an error that wraps datastore.ErrUndelivered. The label's info tells under archive.
func (s *Store) PutLabel(ctx context.Context, id, tag, ext string, r io.Reader, info *api.Object) error {
	if err := errors.Join(datastore.CheckTag(tag), datastore.CheckExt(ext)); err != nil {
		return err
	}
	_, found, err := s.writable(ctx, id)
	if err != nil {
		return err
	}
	if tag != datastore.TagFinal {
		if err := s.local.Register(ctx, id, imageExt, found.info); err != nil {
			return err
		}
		return s.local.PutLabel(ctx, id, tag, ext, r, info)
	}
	temp, err := s.receive(ctx, ext, r)
	if err != nil {
		return fmt.Errorf("storing label %q of image %q: %w", tag, id, err)
	}
	defer func() { _ = os.Remove(temp) }() // the local store has its own copy
	m, err := s.readUpload(ctx, found, ext, temp)
	if err != nil {
		return err
	}
	defer s.delivery.Lock(id)()
	if err := s.storeFinal(ctx, found, ext, temp, m, info); err != nil {
		return err
	}
	return s.deliver(ctx, found)
}

// receive writes an upload to a temporary file.
func (s *Store) receive(ctx context.Context, ext string, r io.Reader) (path string, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, outboxDir), ".upload-*"+ext)
	if err != nil {
		return "", err
	}
	n, err := io.Copy(f, io.LimitReader(r, s.o.MaxUpload+1))
	if err == nil && n > s.o.MaxUpload {
		err = fmt.Errorf("file has more than %d bytes: %w", s.o.MaxUpload, datastore.ErrTooLarge)
	}
	if err = errors.Join(err, f.Close(), ctx.Err()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// readUpload reads a submitted label as far as that is possible now: nil means that its series cannot be had. What is no label of the
// image is an error; what is wrong with the series is not the label's fault.
func (s *Store) readUpload(ctx context.Context, of *series, ext, path string) (*volume.LabelMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	m, _, err := s.readLabel(ctx, of, ext, f)
	if errors.Is(err, datastore.ErrInvalid) {
		return nil, err
	}
	return m, ctx.Err()
}

// storeFinal stores a submitted label here, to be sent. A raw mask becomes a file with the grid of its image, if that is known now.
func (s *Store) storeFinal(ctx context.Context, of *series, ext, path string, m *volume.LabelMap, info *api.Object) error {
	if ext == ".bin" && m != nil {
		ext, path = imageExt, path+imageExt
		defer func() { _ = os.Remove(path) }() // the local store has its own copy
		if err := s.write(path, func(w io.Writer) error { return format.EncodeLabels(path, w, m, format.Options{Compress: true}) }); err != nil {
			return err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info = info.Clone()
	for _, name := range []string{keyModality, keyPatientID, keyStudyUID} {
		text, _ := of.info.Text(name)
		info.Set(name, text)
	}
	info.Set(keyArchive, api.NewObject("state", statePending))
	info.Delete(keySeriesUID)
	if err := s.local.Register(ctx, of.uid, imageExt, of.info); err != nil {
		return err
	}
	if err := os.Remove(s.outboxPath(of.uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // made of the label before
	}
	return s.local.PutLabel(ctx, of.uid, datastore.TagFinal, ext, f, info)
}

// DeleteLabel implements datastore.Store. Segmentations of the archive stay there, and are not offered as the image's label again.
func (s *Store) DeleteLabel(ctx context.Context, id, tag string) error {
	v, found, err := s.writable(ctx, id)
	if err != nil {
		return err
	}
	if err := datastore.CheckTag(tag); err != nil {
		return err
	}
	if !slices.Contains(v.tags(found.uid), tag) {
		return noLabel(id, tag)
	}
	defer s.delivery.Lock(id)()
	if tag == datastore.TagFinal {
		if err := s.dismiss(ctx, v, found); err != nil {
			return err
		}
	}
	if !v.localLabels(found.uid).Has(tag) {
		return nil
	}
	return s.local.DeleteLabel(ctx, id, tag)
}

// dismiss notes all segmentations of an image as deleted, and forgets what was to be sent.
func (s *Store) dismiss(ctx context.Context, v *view, of *series) error {
	if err := os.Remove(s.outboxPath(of.uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	segs := v.list.segs[of.uid]
	if len(segs) == 0 {
		return nil
	}
	entry, _ := v.objects.Object(of.uid)
	image, _ := entry.Object("image")
	info, _ := image.Object("info")
	dismissed := textsOf(info, keyDismissed)
	for _, seg := range segs {
		if !slices.Contains(dismissed, seg.series) {
			dismissed = append(dismissed, seg.series)
		}
	}
	if err := s.local.Register(ctx, of.uid, imageExt, of.info); err != nil {
		return err
	}
	return s.local.UpdateImageInfo(ctx, of.uid, api.NewObject(keyDismissed, dismissed))
}

// archivedLabel is a segmentation of the archive as a label.
func (s *Store) archivedLabel(ctx context.Context, id string, seg *segmentation) datastore.Item {
	info := api.NewObject("label_info", labelInfo(seg.segments), keySeriesUID, seg.series, keyModality, "SEG", keyStudyUID, seg.study)
	if at, err := time.ParseInLocation("20060102150405", seg.made[:min(len(seg.made), 14)], time.Local); err == nil {
		info.Set("ts", at.Unix())
	}
	info.Set("name", id+imageExt)
	info.Set(keyArchive, api.NewObject("state", stateStored, "instance", seg.instance, "made", seg.made))
	path := s.cache.segmentationPath(id, seg.instance)
	return datastore.Item{ID: id, Path: path, Ext: imageExt, Info: info, Open: func() (*os.File, error) {
		_, of, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		return s.openMade(ctx, of, path, func(ctx context.Context) error { return s.makeLabel(ctx, of, seg, path) })
	}}
}

func labelInfo(segments []named) []any {
	list := []any{}
	for _, segment := range segments {
		list = append(list, api.NewObject("name", segment.Name, "idx", int(segment.Number)))
	}
	return list
}

// makeLabel fetches a segmentation and makes a label map of it on the grid of its series.
func (s *Store) makeLabel(ctx context.Context, of *series, seg *segmentation, path string) error {
	release, err := s.reading(of)
	if err != nil {
		return err
	}
	defer release()
	m, err := s.fetchSegmentation(ctx, of, seg)
	if err != nil {
		return fmt.Errorf("segmentation %s of series %s: %w", seg.instance, of.uid, told(err))
	}
	return s.write(path, func(w io.Writer) error {
		return format.EncodeLabels("x"+imageExt, w, m, format.Options{Compress: true})
	})
}

func (s *Store) fetchSegmentation(ctx context.Context, of *series, seg *segmentation) (*volume.LabelMap, error) {
	f, err := os.CreateTemp(s.cache.dir, ".segmentation-*.tmp")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }() // of no more use
	var size int64
	err = s.client.RetrieveInstance(ctx, seg.study, seg.series, seg.instance, func(r io.Reader) (err error) {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			size, err = io.Copy(f, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.o.Imaging.Decode(ctx, f, size, s.cache.instances(of.uid))
}

// readLabel reads a label file onto the grid of its series, with the segments that the file itself names.
func (s *Store) readLabel(ctx context.Context, of *series, ext string, r io.Reader) (*volume.LabelMap, []dicomseg.Segment, error) {
	grid, err := s.grid(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	var m *volume.LabelMap
	var segments []dicomseg.Segment
	switch ext {
	case ".bin":
		m, err = format.DecodeBin(r, grid)
	case ".seg.nrrd":
		m, segments, err = readSegNRRD(r, grid)
	default:
		m, err = format.DecodeLabels("x"+ext, r, volume.DefaultLimits())
	}
	if err == nil {
		err = m.SameGrid(grid)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("label of image %q: %w: %w", of.uid, datastore.ErrInvalid, err)
	}
	m.Geometry = grid
	return m, segments, nil
}

func readSegNRRD(r io.Reader, grid volume.Geometry) (*volume.LabelMap, []dicomseg.Segment, error) {
	read, err := nrrd.DecodeSegmentation(r, nil, volume.DefaultLimits())
	if err != nil {
		return nil, nil, err
	}
	var segments []dicomseg.Segment
	for _, segment := range read.Segments {
		color := segment.Color
		segments = append(segments, dicomseg.Segment{Label: segment.Label, Name: segment.Name, Color: &color})
	}
	m, err := read.On(grid)
	return m, segments, err
}

// grid is that of a series' volume.
func (s *Store) grid(ctx context.Context, of *series) (volume.Geometry, error) {
	if err := s.ensure(ctx, of); err != nil {
		return volume.Geometry{}, err
	}
	release, err := s.reading(of)
	if err != nil {
		return volume.Geometry{}, s.leaves(of)
	}
	defer release()
	return s.o.Imaging.Grid(ctx, s.cache.instances(of.uid))
}

// segmentsOf describes each label of a map: by the client's label_info, else as the file itself does, else by its configured name.
func segmentsOf(m *volume.LabelMap, info *api.Object, own []dicomseg.Segment, names []string) []dicomseg.Segment {
	values := labelinfo.Values(m)
	entries := labelinfo.Read(info, values)
	if len(entries) == 0 {
		for _, segment := range own {
			entries = append(entries, labelinfo.Entry{Segment: segment})
		}
	}
	var segments []dicomseg.Segment
	for _, value := range values {
		segment, _ := labelinfo.Find(entries, value)
		segment.Label = value
		switch {
		case segment.Name != "":
		case int(value) <= len(names):
			segment.Name = names[value-1]
		default:
			segment.Name = "Segment " + strconv.Itoa(int(value))
		}
		segments = append(segments, segment)
	}
	return segments
}
