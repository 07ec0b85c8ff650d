package nifti_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

// FuzzDecode holds that whatever arrives gives a valid volume or an error that says what is wrong with it.
func FuzzDecode(f *testing.F) {
	g := readGolden(f)
	for _, file := range g.Files {
		if !strings.HasPrefix(file.File, "orient") {
			f.Add(g.read(f, file.File))
		}
	}
	lim := volume.Limits{MaxVoxels: 1 << 16, MaxBytes: 1 << 19}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := nifti.Decode(bytes.NewReader(b), lim)
		check(t, err, func() error { return v.Validate() })
		m, err := nifti.DecodeLabels(bytes.NewReader(b), lim)
		check(t, err, func() error { return m.Validate() })
	})
}

// FuzzDecodePair does so with a header and voxels of their own.
func FuzzDecodePair(f *testing.F) {
	g := readGolden(f)
	f.Add(g.read(f, "pair.hdr"), g.read(f, "pair.img"))
	lim := volume.Limits{MaxVoxels: 1 << 16, MaxBytes: 1 << 19}
	f.Fuzz(func(t *testing.T, hdr, img []byte) {
		v, err := nifti.DecodePair(bytes.NewReader(hdr), bytes.NewReader(img), lim)
		check(t, err, func() error { return v.Validate() })
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
