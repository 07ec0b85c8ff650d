package codec_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/dicom/codec"
	"scrawl/adapters/volume"
)

// TestRefused changes golden frames into what is legal and not decoded, or contradicts itself.
func TestRefused(t *testing.T) {
	frames := map[string]goldenFrame{}
	for _, g := range goldenFrames(t) {
		frames[g.Name] = g
	}
	// set changes a byte that lies at an offset from the first occurrence of a marker.
	set := func(marker string, offset int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[bytes.Index(b, []byte(marker))+offset] = v; return b }
	}
	insert := func(before, segment string) func([]byte) []byte {
		return func(b []byte) []byte { return slices.Insert(b, bytes.Index(b, []byte(before)), []byte(segment)...) }
	}
	for _, c := range []struct {
		frame  string
		change func([]byte) []byte
		kind   error
		text   string
	}{
		{"jpeg_8", set("\xff\xc0", 1, 0xc2), volume.ErrUnsupported, "progressive"},
		{"jpeg_8", set("\xff\xc0", 1, 0xc9), volume.ErrUnsupported, "arithmetic"},
		{"jpeg_8", set("\xff\xc0", 4, 12), volume.ErrUnsupported, "12 bits per sample"},
		{"jpeg_8", set("\xff\xc0", 6, 99), volume.ErrFormat, "the stream holds 61×99 pixels of 1 samples, the data set declares 61×47 of 1"},
		{"jpeg_8", set("\xff\xda", 5, 99), volume.ErrFormat, "scan of component 99"},
		{"jpeg_restart", set("\xff\xd1", 1, 0xd5), volume.ErrFormat, "restart marker 1"},
		{"jpeg_8", func(b []byte) []byte { return b[:len(b)*2/3] }, volume.ErrFormat, "the data ends in unit"},
		{"jpll_colour_1", set("\xff\xc3", 11, 0x21), volume.ErrUnsupported, "sub-sampled"},
		{"jpll_12", set("\xff\xda", 7, 0), volume.ErrFormat, "predictor 0"},
		{"jpll_restart_1", set("\xff\xdd", 5, 7), volume.ErrFormat, "restarts every"},
		{"jls_8", insert("\xff\xda", "\xff\xf8\x00\x05\x02\x01\x01"), volume.ErrUnsupported, "mapping table"},
		{"jls_8", insert("\xff\xda", "\xff\xf8\x00\x03\x04"), volume.ErrUnsupported, "oversize"},
		{"jls_8", set("\xff\xda", 6, 1), volume.ErrUnsupported, "mapping table for component 1"},
		{"jls_8", set("\xff\xda", 9, 2), volume.ErrUnsupported, "point transform of 2"},
		{"jls_8", set("\xff\xf7", 11, 0x21), volume.ErrUnsupported, "sub-sampled"},
		{"jls_8", set("\xff\xf7", 1, 0xc0), volume.ErrUnsupported, "not JPEG-LS"},
		{"jls_mode_2", insert("\xff\xda", "\xff\xe8\x00\x07mrfx\x01"), volume.ErrUnsupported, "colour transform"},
		{"jls_8", set("\xff\xda", 7, 200), volume.ErrFormat, "near-lossless by 200"},
		{"jls_restart_4", set("\xff\xd2", 1, 0xd5), volume.ErrFormat, "restart marker before line 13"},
		{"j2k_LRCP", set("\xff\x51", 41, 2), volume.ErrUnsupported, "component 0 is sub-sampled 2×1"},
		{"j2k_LRCP", set("\xff\x51", 40, 11), volume.ErrUnsupported, "different precision"},
		{"j2k_LRCP", set("\xff\x51", 40, 30), volume.ErrUnsupported, "31 bits"},
		{"j2k_LRCP", set("\xff\x51", 4, 0x80), volume.ErrUnsupported, "part 2"},
		{"j2k_LRCP", set("\xff\x52", 12, 0x40), volume.ErrUnsupported, "high throughput"},
		{"j2k_LRCP", set("\xff\x52", 8, 2), volume.ErrUnsupported, "component transform 2"},
		{"j2k_LRCP", set("\xff\x52", 9, 40), volume.ErrFormat, "40 decomposition levels"},
		{"j2k_LRCP_tiles", set("\xff\x90", 5, 1), volume.ErrFormat, "part 1 of tile 0 where part 0 is due"},
		{"j2k_boxes", func(b []byte) []byte { return b[:bytes.Index(b, []byte("jp2c"))-4] }, volume.ErrFormat, "neither"},
		{"j2k_LRCP", func(b []byte) []byte { return b[:len(b)*2/3] }, volume.ErrFormat, "declares"},
	} {
		t.Run(c.frame+" "+c.text, func(t *testing.T) {
			g, ok := frames[c.frame]
			if !ok {
				t.Fatal("no such frame")
			}
			_, err := codec.Decode(g.Syntax, c.change(slices.Clone(g.data)), g.frame())
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.text)
			}
		})
	}
	_, err := codec.Decode("1.2.840.10008.1.2.4.201", []byte{1, 2}, codec.Frame{})
	if !errors.Is(err, volume.ErrUnsupported) || !strings.Contains(err.Error(), "high throughput") {
		t.Errorf("HTJ2K: %v", err)
	}
	if codec.Supported("1.2.840.10008.1.2.4.201") || codec.Supported("1.2.840.10008.1.2.1") || !codec.Supported("1.2.840.10008.1.2.4.90") {
		t.Error("Supported is wrong")
	}
}
