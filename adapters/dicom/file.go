package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	library "github.com/suyashkumar/dicom"

	"scrawl/adapters/volume"
)

// File is a DICOM file: its elements and where its pixels are. The file itself is only read from when frames are.
type File struct {
	*Dataset
	// TransferSyntax is its UID, "" for files without meta information.
	TransferSyntax string
	walked         *walked
	kept           int64 // bytes that stay in memory with the file, as Limits.MaxSeriesBytes counts them
}

// Read reads the elements of a file of size bytes, up to its pixels, which stay in r until Frame asks for them. Errors wrap
// volume.ErrFormat, volume.ErrTooLarge or volume.ErrUnsupported, or are r's own.
func Read(r io.ReaderAt, size int64, lim Limits) (*File, error) { return readUntil(r, size, lim, 0) }

// readUntil stops after the top-level element last.
func readUntil(r io.ReaderAt, size int64, lim Limits, last Tag) (*File, error) {
	w, err := walk(r, size, lim, last)
	if err != nil {
		return nil, err
	}
	d, err := parse(w.canonical)
	if err != nil {
		return nil, err
	}
	kept := int64(len(w.canonical))
	if w.syntax == DeflatedLittleEndian {
		kept += w.size
	}
	w.canonical = nil
	// Tools that take names out of files may take these too; the file's own head still has them.
	for t, own := range map[Tag]Tag{MediaStorageSOPClassUID: SOPClassUID, MediaStorageSOPInstanceUID: SOPInstanceUID} {
		if id := w.ids[t]; id != "" && d.Text(own) == "" {
			d.Set(own, id)
		}
	}
	return &File{Dataset: d, TransferSyntax: w.syntax, walked: w, kept: kept}, nil
}

// parse has the library read a canonical stream. Panics of the library become errors.
func parse(canonical []byte) (d *Dataset, err error) {
	defer func() {
		if r := recover(); r != nil {
			d, err = nil, fmt.Errorf("%w: the parser gave up: %v", volume.ErrFormat, r)
		}
	}()
	p, err := library.NewParser(bytes.NewReader(canonical), int64(len(canonical)), nil, library.AllowUnknownSpecificCharacterSet())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", volume.ErrFormat, err)
	}
	var elements []Element
	for {
		e, err := p.Next()
		if errors.Is(err, library.ErrorEndOfDICOM) {
			return sorted(elements), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", volume.ErrFormat, err)
		}
		if own, ok := fromLibrary(e); ok {
			elements = append(elements, own)
		}
	}
}

// canonicalHead is how a canonical stream begins: preamble and file meta information that says explicit VR little endian.
func canonicalHead() []byte {
	b := append(make([]byte, 128), "DICM"...)
	b = append(b, "\x02\x00\x00\x00UL\x04\x00\x1c\x00\x00\x00"...) // 28 bytes follow
	return append(b, "\x02\x00\x10\x00UI\x14\x00"+ExplicitVRLittleEndian+"\x00"...)
}

func fromLibrary(e *library.Element) (Element, bool) {
	own := Element{Tag: Tag(e.Tag.Uint32()), VR: e.RawValueRepresentation}
	switch v := e.Value.GetValue().(type) {
	case []string:
		if own.VR == "UT" {
			own.VR = vrOf(own.Tag) // see guard.plain
		}
		own.Value = v
	case []int, []float64, []byte:
		own.Value = v
	case []*library.SequenceItemValue:
		items := make([]*Dataset, 0, len(v))
		for _, it := range v {
			elements, _ := it.GetValue().([]*library.Element)
			inner := make([]Element, 0, len(elements))
			for _, e := range elements {
				if own, ok := fromLibrary(e); ok {
					inner = append(inner, own)
				}
			}
			items = append(items, sorted(inner))
		}
		own.Value = items
	default:
		return Element{}, false
	}
	return own, true
}

// HasPixels reports whether the file has pixel data.
func (f *File) HasPixels() bool { return f.walked.pixels.tag != 0 }

// source is an open file of a folder.
type source struct {
	io.ReaderAt
	io.Closer
	size int64
}

// openSource opens a file of a folder for random access. One that offers none is read into memory, within the limits.
func openSource(fsys fs.FS, name string, lim Limits) (*source, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no file", volume.ErrFormat, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if r, ok := f.(io.ReaderAt); ok {
		return &source{r, f, info.Size()}, nil
	}
	limit := lim.orDefault().MaxBytes
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s has more than %d bytes", volume.ErrTooLarge, name, limit)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &source{bytes.NewReader(data), f, int64(len(data))}, nil
}

// readFile reads the elements of a file of a folder, up to last.
func readFile(fsys fs.FS, name string, lim Limits, last Tag) (*File, error) {
	src, err := openSource(fsys, name, lim)
	if err != nil {
		return nil, err
	}
	f, err := readUntil(src, src.size, lim, last)
	if err := errors.Join(err, src.Close()); err != nil {
		return nil, err
	}
	if f.TransferSyntax != DeflatedLittleEndian {
		f.walked.data = nil // closed; see OpenFrames
	}
	return f, nil
}

// IsFile reports whether the first bytes of a file, of which 132 are enough, are those of DICOM: its preamble, or a first element as
// files without one begin with.
func IsFile(head []byte) bool {
	if len(head) >= 132 && string(head[128:132]) == "DICM" {
		return true
	}
	if len(head) < 8 {
		return false
	}
	g := &guard{cursor: &cursor{r: bytes.NewReader(head), size: int64(len(head))}, order: littleEndian}
	if string(head[:2]) == "\x02\x00" && isKnownVR(string(head[4:6])) {
		return true
	}
	_, err := g.encoding("")
	return err == nil
}

// singleName is the name of the only file of a singleFile.
const singleName = "image"

// singleFile is a folder of one file, which is open already.
type singleFile struct {
	io.ReaderAt
	size int64
}

// Open implements fs.FS.
func (f singleFile) Open(name string) (fs.File, error) {
	if name != singleName {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return openedFile{io.NewSectionReader(f.ReaderAt, 0, f.size)}, nil
}

type openedFile struct{ *io.SectionReader }

// Close implements fs.File. The file is closed by who has opened it.
func (openedFile) Close() error { return nil }

// Stat implements fs.File.
func (f openedFile) Stat() (fs.FileInfo, error) { return openedInfo{f.Size()}, nil }

type openedInfo struct{ size int64 }

func (openedInfo) Name() string       { return singleName }
func (i openedInfo) Size() int64      { return i.size }
func (openedInfo) Mode() fs.FileMode  { return 0o400 }
func (openedInfo) ModTime() time.Time { return time.Time{} }
func (openedInfo) IsDir() bool        { return false }
func (openedInfo) Sys() any           { return nil }
