package nifti_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

// plain is a file of 3×4×5 int16 voxels; edit changes its bytes.
func plain(t testing.TB, edit func(b []byte) []byte) []byte {
	v := volume.NewVolume(volume.New([3]int{3, 4, 5}, [3]float64{1, 1, 1}))
	for i := range v.Voxels {
		v.Voxels[i] = float32(i)
	}
	b := drain(t, func(w io.Writer) error { return nifti.Encode(w, v, nifti.Options{DType: volume.Int16}) })
	if edit != nil {
		b = edit(b)
	}
	return b
}

func pack(t testing.TB, b []byte) []byte {
	return drain(t, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		if _, err := z.Write(b); err != nil {
			return err
		}
		return z.Close()
	})
}

func put16(at int, v int16) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint16(b[at:], uint16(v))
		return b
	}
}

func putFloat(at int, v float32) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[at:], math.Float32bits(v))
		return b
	}
}

func TestRefused(t *testing.T) {
	packed := pack(t, plain(t, nil))
	for name, test := range map[string]struct {
		file []byte
		want error
		say  string
	}{
		"empty":                 {nil, volume.ErrFormat, "truncated"},
		"text":                  {[]byte("hello world"), volume.ErrFormat, "not a NIfTI file"},
		"half a header":         {plain(t, nil)[:200], volume.ErrFormat, "truncated"},
		"no voxels":             {plain(t, nil)[:352], volume.ErrFormat, "after 0 of 60 voxels"},
		"half the voxels":       {plain(t, nil)[:352+61], volume.ErrFormat, "after 30 of 60 voxels"},
		"truncated gzip":        {packed[:len(packed)/2], volume.ErrFormat, "truncated"},
		"gzip, checksum":        {flip(packed, len(packed)-6), volume.ErrFormat, "checksum"},
		"gzip, no checksum":     {packed[:len(packed)-8], volume.ErrFormat, "truncated"},
		"gzip, header":          {[]byte{0x1f, 0x8b, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, volume.ErrFormat, "invalid header"},
		"Analyze":               {plain(t, func(b []byte) []byte { copy(b[344:], "\x00\x00\x00\x00"); return b }), volume.ErrUnsupported, "Analyze"},
		"half a pair":           {plain(t, func(b []byte) []byte { copy(b[344:], "ni1\x00"); return b }), volume.ErrUnsupported, ".img"},
		"no dimensions":         {plain(t, put16(40, 0)), volume.ErrFormat, "0 dimensions"},
		"eight dimensions":      {plain(t, put16(40, 8)), volume.ErrFormat, "8 dimensions"},
		"negative dimension":    {plain(t, put16(42, -3)), volume.ErrFormat, "size -3"},
		"four dimensions":       {plain(t, func(b []byte) []byte { return put16(48, 2)(put16(40, 4)(b)) }), volume.ErrUnsupported, "single volume"},
		"complex":               {plain(t, put16(70, 32)), volume.ErrUnsupported, "complex64"},
		"float128":              {plain(t, put16(70, 1536)), volume.ErrUnsupported, "float128"},
		"binary":                {plain(t, put16(70, 1)), volume.ErrUnsupported, "binary"},
		"no such type":          {plain(t, put16(70, 77)), volume.ErrFormat, "code 77"},
		"too many voxels":       {plain(t, put16(42, 30000)), volume.ErrTooLarge, "30000"},
		"offset in header":      {plain(t, putFloat(108, 100)), volume.ErrFormat, "vox_offset 100"},
		"fractional offset":     {plain(t, putFloat(108, 352.5)), volume.ErrFormat, "vox_offset 352.5"},
		"infinite offset":       {plain(t, putFloat(108, float32(math.Inf(1)))), volume.ErrFormat, "vox_offset"},
		"offset of an exbibyte": {plain(t, putFloat(108, 1<<50)), volume.ErrTooLarge, "before the voxels"},
		"infinite intercept":    {plain(t, putFloat(116, float32(math.Inf(1)))), volume.ErrFormat, "scl_inter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nifti.Decode(bytes.NewReader(test.file), volume.Limits{MaxVoxels: 100000, MaxBytes: 1 << 30})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("got %v, want %v saying %q", err, test.want, test.say)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0xff
	return b
}

func TestLabelsThatAreNone(t *testing.T) {
	v := volume.NewVolume(volume.New([3]int{3, 4, 5}, [3]float64{1, 1, 1}))
	at := v.Index(2, 1, 3)
	for _, x := range []float32{0.5, -1, 65536, float32(math.NaN()), float32(math.Inf(1))} {
		v.Voxels[at] = x
		file := drain(t, func(w io.Writer) error { return nifti.Encode(w, v, nifti.Options{}) })
		_, err := nifti.DecodeLabels(bytes.NewReader(file), volume.Limits{})
		if !errors.Is(err, volume.ErrUnsupported) || !strings.Contains(err.Error(), "at voxel [2 1 3]") {
			t.Errorf("%g: %v", x, err)
		}
	}
	colours := plain(t, put16(70, 128))
	if _, err := nifti.DecodeLabels(bytes.NewReader(append(colours, make([]byte, 99)...)), volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("colours: %v", err)
	}
}

// TestScaledLabels reads labels as nibabel stores them when they are given as floating point and int16 is asked for.
func TestScaledLabels(t *testing.T) {
	file := plain(t, func(b []byte) []byte {
		for i := range 60 {
			binary.LittleEndian.PutUint16(b[352+2*i:], uint16(int16(-32768+65535*(i%2))))
		}
		return putFloat(116, 1.5000076)(putFloat(112, 3.0/65535)(b)) // labels 0 and 3
	})
	m, err := nifti.DecodeLabels(bytes.NewReader(file), volume.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Labels[0] != 0 || m.Labels[1] != 3 {
		t.Errorf("labels %d and %d, want 0 and 3", m.Labels[0], m.Labels[1])
	}
	half := plain(t, putFloat(112, 0.5))
	if _, err := nifti.DecodeLabels(bytes.NewReader(half), volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("labels in halves: %v", err)
	}
}

func TestNotFinite(t *testing.T) {
	v := volume.NewVolume(volume.New([3]int{2, 1, 1}, [3]float64{1, 1, 1}))
	v.Voxels[0], v.Voxels[1] = float32(math.NaN()), float32(math.Inf(-1))
	file := drain(t, func(w io.Writer) error { return nifti.Encode(w, v, nifti.Options{}) })
	back, err := nifti.Decode(bytes.NewReader(file), volume.Limits{})
	if err != nil || back.Hash() != v.Hash() {
		t.Errorf("%v, %v", back, err)
	}
	if err := nifti.Encode(io.Discard, v, nifti.Options{DType: volume.Int16}); err == nil {
		t.Error("not-a-number was written as int16")
	}
}

// TestBomb holds that a small file that declares 4 GiB and inflates without end costs neither memory nor time.
func TestBomb(t *testing.T) {
	huge := plain(t, func(b []byte) []byte { return put16(42, 1024)(put16(44, 1024)(put16(46, 512)(b))) })
	bomb := pack(t, append(huge, make([]byte, 8<<20)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := nifti.Decode(bytes.NewReader(bomb), volume.Limits{MaxVoxels: 1 << 28}); !errors.Is(err, volume.ErrTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("refusing took %d bytes", used)
	}
	runtime.ReadMemStats(&before)
	if _, err := nifti.Decode(bytes.NewReader(bomb), volume.Limits{}); !errors.Is(err, volume.ErrFormat) {
		t.Errorf("within the limit but without the data: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
		t.Errorf("a header that promises 2 GiB took %d bytes", used)
	}
	// Data behind the voxels is not followed.
	endless := io.MultiReader(bytes.NewReader(plain(t, nil)), zeros{})
	if _, err := nifti.Decode(endless, volume.Limits{}); err != nil {
		t.Errorf("padding without end: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReaderErrorsPassThrough(t *testing.T) {
	gone := errors.New("connection lost")
	for _, n := range []int{0, 1, 100, 352, 400} {
		r := io.MultiReader(bytes.NewReader(plain(t, nil)[:n]), failing{gone})
		if _, err := nifti.Decode(r, volume.Limits{}); !errors.Is(err, gone) || errors.Is(err, volume.ErrFormat) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if err := nifti.EncodeLabels(failing{gone}, volume.NewLabelMap(volume.New([3]int{1, 1, 1}, [3]float64{1, 1, 1})), nifti.Options{}); !errors.Is(err, gone) {
		t.Errorf("writing: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteRefused(t *testing.T) {
	wide := volume.NewLabelMap(volume.New([3]int{40000, 1, 1}, [3]float64{1, 1, 1}))
	if err := nifti.EncodeLabels(io.Discard, wide, nifti.Options{Version: 1}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("40000 voxels in NIfTI-1: %v", err)
	}
	file := drain(t, func(w io.Writer) error { return nifti.EncodeLabels(w, wide, nifti.Options{}) })
	if back, err := nifti.DecodeLabels(bytes.NewReader(file), volume.Limits{}); err != nil || back.Size[0] != 40000 {
		t.Errorf("40000 voxels: %v", err)
	}
	if err := nifti.EncodeLabels(io.Discard, wide, nifti.Options{Version: 3}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("version 3: %v", err)
	}
	wide.Labels = wide.Labels[:7]
	if err := nifti.EncodeLabels(io.Discard, wide, nifti.Options{}); err == nil {
		t.Error("a label map without all its labels was written")
	}
}
