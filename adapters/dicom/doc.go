// Package dicom reads DICOM files and turns series of them into volumes; it also writes data sets, for the packages that make
// segmentations and structure sets of them.
//
// # Trust
//
// Files come from anywhere, and the parser below (github.com/suyashkumar/dicom, of which this package is the only user) allocates
// what a header claims, panics on some character sets, misreads value representations that are younger than it, and takes fragments
// for frames. So it never sees a file: a guard walks the elements first, checks every length against the bytes that are there, bounds
// nesting, count and size, and hands on a canonical stream: explicit VR little endian, text in UTF-8, without pixels, overlays and
// private elements. Where the pixels lie the guard finds out itself; frames are read from there when they are needed, one at a time.
//
// # From files to a volume
//
//	Scan        which series a folder holds, from the heads of its files
//	OpenSeries  the headers of one series
//	Series.Grid sorted slices: planes of one orientation, along the normal of rows × columns, and the geometry they make
//	Series.Volume the voxels, rescaled to the modality's units (HU for CT)
//	ReadFolder  all of it for a folder of one series
//
// What is odd about a series but does not keep it from being read (gaps, a tilted gantry, localizers among the slices, repeated
// positions) is told in Grid.Notes.
package dicom
