package dicom

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"scrawl/adapters/volume"
)

// frameCount is the number of frames that the header declares, checked against nothing yet.
func (f *File) frameCount() (int, error) {
	if !f.Has(NumberOfFrames) || f.Text(NumberOfFrames) == "" {
		return 1, nil
	}
	n, ok := f.Int(NumberOfFrames)
	if !ok || n < 0 {
		return 0, fmt.Errorf("%w: number of frames %.20q, want a positive integer", volume.ErrFormat, f.Text(NumberOfFrames))
	}
	if n > maxFrames {
		return 0, fmt.Errorf("%w: %d frames in one file, at most %d are accepted", volume.ErrTooLarge, n, maxFrames)
	}
	return max(n, 1), nil // 0 is written by some for 1
}

// frames says where the bytes of each frame lie in a file.
type frames struct {
	// native frames have size bits each, one after the other.
	bits int64
	// encapsulated ones are groups of fragments.
	groups [][]fragment
}

// locate finds the frames of a file with n frames of bits bits each, if they are native. That the bytes for all are there is
// checked, so that a declared number costs nothing.
func (p *pixelData) locate(n int, bits int64, first func(fragment) ([]byte, error)) (frames, error) {
	if p.tag == 0 {
		return frames{}, fmt.Errorf("%w: no pixel data", volume.ErrUnsupported)
	}
	if p.truncated != "" {
		return frames{}, fmt.Errorf("%w: %s", volume.ErrFormat, p.truncated)
	}
	if !p.encapsulated() {
		if want := (int64(n)*bits + 7) / 8; p.length < want {
			return frames{}, fmt.Errorf("%w: %d bytes of pixel data, want %d for %d frames", volume.ErrFormat, p.length, want, n)
		}
		return frames{bits: bits}, nil
	}
	groups, err := p.group(n, first)
	return frames{groups: groups}, err
}

// group puts the fragments of encapsulated pixels together to n frames (PS3.5, annex A.4): by the extended or the basic offset
// table; one each, or all, where that is plain; else by the marks with which JPEG and JPEG 2000 streams begin.
func (p *pixelData) group(n int, first func(fragment) ([]byte, error)) ([][]fragment, error) {
	if n > len(p.fragments) {
		return nil, fmt.Errorf("%w: %d frames in %d fragments of pixel data", volume.ErrFormat, n, len(p.fragments))
	}
	for _, table := range [][]int64{p.extended, p.basic} {
		if groups, ok := p.byOffsets(table, n); ok {
			return groups, nil
		}
	}
	switch n {
	case 1:
		return [][]fragment{p.fragments}, nil
	case len(p.fragments):
		groups := make([][]fragment, n)
		for i := range groups {
			groups[i] = p.fragments[i : i+1]
		}
		return groups, nil
	}
	var starts []int64
	for _, f := range p.fragments {
		head, err := first(f)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(head, []byte{0xff, 0xd8, 0xff}) || bytes.HasPrefix(head, []byte{0xff, 0x4f, 0xff, 0x51}) {
			starts = append(starts, f.at)
		}
	}
	if groups, ok := p.byOffsets(starts, n); ok {
		return groups, nil
	}
	return nil, fmt.Errorf("%w: %d frames in %d fragments of pixel data, and no table that says which belong together",
		volume.ErrFormat, n, len(p.fragments))
}

// byOffsets splits fragments at the offsets of frames. It is not ok where the table does not fit.
func (p *pixelData) byOffsets(table []int64, n int) (groups [][]fragment, ok bool) {
	if len(table) != n || n == 0 || table[0] != 0 {
		return nil, false
	}
	at := 0
	for i := range table {
		end := len(p.fragments)
		if i+1 < n {
			next := table[i+1]
			var found bool
			if end, found = slices.BinarySearchFunc(p.fragments, next, func(f fragment, at int64) int { return int(f.at - at) }); !found {
				return nil, false
			}
		}
		if end <= at {
			return nil, false
		}
		groups = append(groups, p.fragments[at:end])
		at = end
	}
	return groups, true
}

// frame reads the bytes of frame n, 0 being the first. For frames of bits that do not begin on a byte, skip is how many bits of the
// first byte belong to the one before.
func (fr frames) frame(data io.ReaderAt, p *pixelData, n int, limit int64) (b []byte, skip int, err error) {
	if fr.groups != nil {
		b, err = joinFragments(data, fr.groups[n], limit)
		return b, 0, err
	}
	from, to := int64(n)*fr.bits, int64(n+1)*fr.bits
	b = make([]byte, (to+7)/8-from/8)
	if _, err := data.ReadAt(b, p.offset+from/8); err != nil {
		return nil, 0, fmt.Errorf("frame %d: %w", n+1, readError(err))
	}
	return b, int(from % 8), nil
}

func joinFragments(data io.ReaderAt, fragments []fragment, limit int64) ([]byte, error) {
	var total int64
	for _, f := range fragments {
		total += f.length
	}
	if total > limit {
		return nil, fmt.Errorf("%w: a compressed frame of %d bytes, at most %d are accepted", volume.ErrTooLarge, total, limit)
	}
	b := make([]byte, total)
	rest := b
	for _, f := range fragments {
		if _, err := data.ReadAt(rest[:f.length], f.offset); err != nil {
			return nil, readError(err)
		}
		rest = rest[f.length:]
	}
	return b, nil
}

// Frames reads the frames of one file. It may be used by many goroutines at once.
type Frames struct {
	// Count is the number of frames of Rows × Columns pixels.
	Count, Rows, Columns int

	file   *File
	data   io.ReaderAt
	module *pixelModule
	at     frames
	limit  int64
}

// OpenFrames finds the frames of a file in the size bytes r that its elements were read from.
func (f *File) OpenFrames(r io.ReaderAt, size int64, lim Limits) (*Frames, error) {
	w := f.walked
	if w.data != nil { // a deflated data set, which is kept
		r, size = w.data, w.size
	}
	if size != w.size {
		return nil, fmt.Errorf("%w: the file has changed since its header was read", volume.ErrFormat)
	}
	m, err := f.pixelModule()
	if err != nil {
		return nil, err
	}
	n, err := f.frameCount()
	if err != nil {
		return nil, err
	}
	at, err := w.pixels.locate(n, m.frameBits(), func(f fragment) ([]byte, error) {
		b := make([]byte, min(4, f.length))
		_, err := r.ReadAt(b, f.offset)
		return b, err
	})
	if err != nil {
		return nil, err
	}
	return &Frames{Count: n, Rows: m.rows, Columns: m.columns, file: f, data: r, module: m, at: at, limit: lim.orDefault().MaxBytes}, nil
}

// Read reads frame n, 0 being the first, as Rows·Columns values: rescaled to the modality's units, or the brightness of colour.
func (fr *Frames) Read(dst []float32, n int) error {
	if n < 0 || n >= fr.Count || len(dst) != fr.Rows*fr.Columns {
		return fmt.Errorf("frame %d of %d into %d values, want %d", n+1, fr.Count, len(dst), fr.Rows*fr.Columns)
	}
	w := fr.file.walked
	b, skip, err := fr.at.frame(fr.data, &w.pixels, n, fr.limit)
	if err != nil {
		return err
	}
	return guarded(func() error {
		return fr.module.frame(dst, b, skip, w, w.pixels.encapsulated(), fr.file.rescale(n))
	})
}
