package format_test

import (
	"bytes"
	"errors"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
)

// FuzzDecode holds that whatever arrives, under whatever name, gives a valid result or an error that says what is wrong with it.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd"} {
		var b bytes.Buffer
		if err := format.EncodeLabels(name, &b, ramp(), format.Options{Compress: true}); err != nil {
			f.Fatal(err)
		}
		f.Add(name, b.Bytes())
		f.Add("", b.Bytes())
	}
	grid := ramp().Geometry
	lim := volume.Limits{MaxVoxels: 1 << 16, MaxBytes: 1 << 19}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		v, err := format.Decode(name, bytes.NewReader(b), lim)
		check(t, err, func() error { return v.Validate() })
		m, err := format.DecodeLabels(name, bytes.NewReader(b), lim)
		check(t, err, func() error { return m.Validate() })
		raw, err := format.DecodeBin(bytes.NewReader(b), grid)
		check(t, err, func() error { return raw.Validate() })
	})
}

func check(t *testing.T, err error, validate func() error) {
	t.Helper()
	switch {
	case err == nil:
		if err := validate(); err != nil {
			t.Errorf("accepted: %v", err)
		}
	case !errors.Is(err, volume.ErrFormat) && !errors.Is(err, volume.ErrTooLarge) && !errors.Is(err, volume.ErrUnsupported):
		t.Errorf("an error without a kind: %v", err)
	}
}
