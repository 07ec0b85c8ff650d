package codec_test

import (
	"testing"

	"scrawl/adapters/dicom/codec"
)

// TestStoredValues decodes streams whose bits and signs are not those that the data set declares: the declared sign counts, and lies
// in the uppermost bit that the stream has and the data set keeps.
func TestStoredValues(t *testing.T) {
	extend := func(bits int) func(int32) int32 {
		return func(v int32) int32 { return v << (32 - bits) >> (32 - bits) }
	}
	mask := func(bits int) func(int32) int32 {
		return func(v int32) int32 { return v & (1<<bits - 1) }
	}
	frames := map[string]goldenFrame{}
	for _, g := range goldenFrames(t) {
		frames[g.Name] = g
	}
	for _, c := range []struct {
		name   string
		stored int
		signed bool
		want   func(int32) int32
		high   int
	}{
		{"jls_12", 12, true, extend(12), 0},
		{"jls_12", 16, true, extend(12), 0},
		{"jls_12", 16, false, mask(12), 0},
		{"jls_16", 12, false, mask(12), 0},
		{"jls_16", 12, true, extend(12), 0},
		{"jpll_16", 16, true, extend(16), 0},
		{"j2k_12_signed", 12, false, mask(12), 0},
		{"j2k_12_signed", 16, true, extend(12), 0},
		{"j2k_16_unsigned", 16, true, extend(16), 0},
		{"j2k_16_signed", 10, true, extend(10), 0},
		{"rle_pydicom", 12, true, extend(12), 0},
		{"rle_pydicom", 8, false, func(v int32) int32 { return v >> 4 }, 11},
		{"rle_dcmtk_16_1", 12, true, func(v int32) int32 { return v >> 4 }, 15},
		{"jpll_16", 12, true, func(v int32) int32 { return extend(12)(v >> 4) }, 15},
		{"jls_12", 12, false, mask(12), 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := frames[c.name]
			f := g.frame()
			f.BitsStored, f.Signed, f.HighBit = c.stored, c.signed, c.high
			img, err := codec.Decode(g.Syntax, g.data, f)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]int32, len(g.samples))
			for i, v := range g.samples {
				want[i] = c.want(v)
			}
			within(t, img.Samples, want, 0)
		})
	}
}

func TestLimit(t *testing.T) {
	for _, g := range goldenFrames(t) {
		if _, err := (codec.Decoder{MaxSamples: len(g.samples)}).Decode(g.Syntax, g.data, g.frame()); err != nil {
			t.Errorf("%s: %v", g.Name, err)
		}
		if g.Name == "j2k_97" {
			if _, err := (codec.Decoder{MaxSamples: len(g.samples) - 1}).Decode(g.Syntax, g.data, g.frame()); err == nil {
				t.Error("a sample more than the limit passes")
			}
		}
	}
}
