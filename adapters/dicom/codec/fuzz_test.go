package codec_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/dicom/codec"
	"scrawl/adapters/volume"
)

// small keeps a fuzzer's frames small.
var small = codec.Decoder{MaxSamples: 1 << 16}

// fuzzDecode holds that whatever arrives gives samples of as many bits as are stored, or an error of a kind that says what is wrong.
func fuzzDecode(f *testing.F, syntax string, alike ...string) {
	for _, g := range goldenFrames(f) {
		if g.Syntax == syntax || slices.Contains(alike, g.Syntax) {
			f.Add(g.data, g.Rows, g.Columns, g.Samples, g.Allocated, g.Stored, g.Signed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, rows, columns, samples, allocated, stored int, signed bool) {
		check(t, syntax, data, codec.Frame{
			Rows: rows, Columns: columns, Samples: samples, BitsAllocated: allocated, BitsStored: stored, Signed: signed,
		})
	})
}

func check(t *testing.T, syntax string, data []byte, f codec.Frame) {
	t.Helper()
	img, err := small.Decode(syntax, data, f)
	if err != nil {
		if !errors.Is(err, volume.ErrFormat) && !errors.Is(err, volume.ErrTooLarge) && !errors.Is(err, volume.ErrUnsupported) {
			t.Errorf("an error without a kind: %v", err)
		}
		return
	}
	if img.Rows != f.Rows || img.Columns != f.Columns || img.SamplesPerPixel != f.Samples || len(img.Samples) != f.Rows*f.Columns*f.Samples {
		t.Fatalf("%d×%d×%d with %d samples for %+v", img.Rows, img.Columns, img.SamplesPerPixel, len(img.Samples), f)
	}
	least, most := int64(0), int64(1)<<f.BitsStored-1
	if f.Signed {
		least, most = -(int64(1) << (f.BitsStored - 1)), int64(1)<<(f.BitsStored-1)-1
	}
	for i, v := range img.Samples {
		if int64(v) < least || int64(v) > most {
			t.Fatalf("sample %d is %d, want %d to %d", i, v, least, most)
		}
	}
}

func FuzzRLE(f *testing.F) {
	for _, c := range []codec.Frame{
		{Rows: 4, Columns: 5, Samples: 1, BitsAllocated: 16, BitsStored: 12},
		{Rows: 3, Columns: 7, Samples: 3, BitsAllocated: 8, BitsStored: 8},
	} {
		data := encodeRLE(make([]int32, c.Rows*c.Columns*c.Samples), c)
		f.Add(data, c.Rows, c.Columns, c.Samples, c.BitsAllocated, c.BitsStored, c.Signed)
	}
	fuzzDecode(f, rle)
}

func FuzzJPEG(f *testing.F) {
	fuzzDecode(f, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
}

func FuzzJPEGLS(f *testing.F) { fuzzDecode(f, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81") }

func FuzzJPEG2000(f *testing.F) { fuzzDecode(f, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91") }

// TestDamage cuts golden frames short and changes bytes in them. A frame without its second half must not pass for a whole one.
func TestDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, g := range goldenFrames(t) {
		for range 8 {
			damaged := slices.Clone(g.data)
			for range 1 + r.IntN(3) {
				damaged[r.IntN(len(damaged))] = byte(r.Uint32())
			}
			check(t, g.Syntax, damaged, g.frame())
			check(t, g.Syntax, g.data[:r.IntN(len(g.data))], g.frame())
		}
		if _, err := codec.Decode(g.Syntax, g.data[:len(g.data)/2], g.frame()); err == nil && g.Rows > 1 {
			t.Errorf("%s: half of it passes", g.Name)
		}
	}
}

// TestMemory decodes small frames that declare large images.
func TestMemory(t *testing.T) {
	const rows, columns = 3000, 3000
	f := codec.Frame{Rows: rows, Columns: columns, Samples: 1, BitsAllocated: 16, BitsStored: 16}
	be := binary.BigEndian
	for _, g := range goldenFrames(t) {
		if g.Samples != 1 || strings.Contains(g.Name, "poc") {
			continue
		}
		data := slices.Clone(g.data)
		for i := range len(data) - 12 {
			switch be.Uint16(data[i:]) {
			case 0xffc0, 0xffc1, 0xffc3, 0xfff7: // frame headers
				be.PutUint16(data[i+5:], rows)
				be.PutUint16(data[i+7:], columns)
			case 0xff51: // SIZ, if the image does not begin elsewhere
				be.PutUint32(data[i+6:], columns+be.Uint32(data[i+14:]))
				be.PutUint32(data[i+10:], rows+be.Uint32(data[i+18:]))
				be.PutUint32(data[i+22:], 2*columns) // one tile
				be.PutUint32(data[i+26:], 2*rows)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := codec.Decode(g.Syntax, data, f)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err != nil && grown > 16<<20 {
			t.Errorf("%s: %d bytes made it allocate %d MiB before %v", g.Name, len(data), grown>>20, err)
		}
	}
}
