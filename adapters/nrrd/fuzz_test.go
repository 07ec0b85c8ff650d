package nrrd_test

import (
	"bytes"
	"errors"
	"testing"

	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

// FuzzDecode holds that whatever arrives gives a valid volume or an error that says what is wrong with it.
func FuzzDecode(f *testing.F) {
	g := readGolden(f)
	for _, file := range g.Files {
		f.Add(g.read(f, file.File))
	}
	f.Add([]byte(layers(1, 1)))
	f.Add([]byte(layers(2, 7)))
	lim := volume.Limits{MaxVoxels: 1 << 16, MaxBytes: 1 << 19}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := nrrd.DecodeDetached(bytes.NewReader(b), g, lim)
		check(t, err, func() error { return v.Validate() })
		s, err := nrrd.DecodeSegmentation(bytes.NewReader(b), g, lim)
		check(t, err, func() error { return s.Validate() })
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
