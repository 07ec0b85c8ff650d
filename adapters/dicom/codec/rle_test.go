package codec_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/dicom/codec"
	"scrawl/adapters/volume"
)

const rle = "1.2.840.10008.1.2.5"

// encodeRLE encodes samples with runs and literals as long as they come.
func encodeRLE(samples []int32, f codec.Frame) []byte {
	bytesPerSample := f.BitsAllocated / 8
	n := f.Samples * bytesPerSample
	out := make([]byte, 64)
	binary.LittleEndian.PutUint32(out, uint32(n))
	for s := range n {
		binary.LittleEndian.PutUint32(out[4+4*s:], uint32(len(out)))
		shift := 8 * (bytesPerSample - 1 - s%bytesPerSample)
		var plane []byte
		for i := s / bytesPerSample; i < len(samples); i += f.Samples {
			plane = append(plane, byte(samples[i]>>shift))
		}
		out = append(out, packBits(plane)...)
	}
	return out
}

func packBits(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		run := 1
		for run < len(b) && run < 128 && b[run] == b[0] {
			run++
		}
		if run > 1 {
			out = append(out, byte(1-run), b[0])
			b = b[run:]
			continue
		}
		literal := 1
		for literal < len(b) && literal < 128 && b[literal] != b[literal-1] {
			literal++
		}
		out = append(append(out, byte(literal-1)), b[:literal]...)
		b = b[literal:]
	}
	if len(out)%2 == 1 {
		out = append(out, 0x80)
	}
	return out
}

func TestRLERoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := codec.Frame{
			Rows: rapid.IntRange(1, 12).Draw(t, "rows"), Columns: rapid.IntRange(1, 300).Draw(t, "columns"),
			Samples: rapid.SampledFrom([]int{1, 3}).Draw(t, "samples"), BitsAllocated: rapid.SampledFrom([]int{8, 16, 32}).Draw(t, "allocated"),
			Signed: rapid.Bool().Draw(t, "signed"),
		}
		f.BitsStored = rapid.IntRange(1, min(f.BitsAllocated, 31)).Draw(t, "stored")
		low, high := int32(0), int32(1)<<f.BitsStored-1
		if f.Signed {
			low, high = -(int32(1) << (f.BitsStored - 1)), int32(1)<<(f.BitsStored-1)-1
		}
		n := f.Rows * f.Columns * f.Samples
		want := make([]int32, n)
		some := rapid.SliceOfN(rapid.Int32Range(low, high), 1, 9).Draw(t, "values")
		for i := range want {
			want[i] = some[i/(1+i%5)%len(some)]
		}
		got, err := codec.Decode(rle, encodeRLE(want, f), f)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Samples, want) {
			t.Fatalf("got %v, want %v", got.Samples, want)
		}
	})
}

func TestErrors(t *testing.T) {
	f := codec.Frame{Rows: 4, Columns: 4, Samples: 1, BitsAllocated: 16, BitsStored: 12}
	with := func(change func(*codec.Frame)) codec.Frame { g := f; change(&g); return g }
	good := encodeRLE(make([]int32, 16), f)
	edit := func(at int, v uint32) []byte {
		b := slices.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name, syntax string
		data         []byte
		frame        codec.Frame
		kind         error
		text         string
	}{
		{"no such syntax", "1.2.840.10008.1.2.4.100", good, f, volume.ErrUnsupported, "1.2.840.10008.1.2.4.100"},
		{"no rows", rle, good, with(func(f *codec.Frame) { f.Rows = 0 }), volume.ErrFormat, "0 rows"},
		{"too large", rle, good, with(func(f *codec.Frame) { f.Rows, f.Columns = 65535, 65535 }), volume.ErrTooLarge, "at most 67108864"},
		{"not in so few bytes", rle, good, with(func(f *codec.Frame) { f.Rows, f.Columns = 4096, 4096 }), volume.ErrFormat, "cannot hold"},
		{"samples", rle, good, with(func(f *codec.Frame) { f.Samples = 5 }), volume.ErrFormat, "5 samples"},
		{"stored", rle, good, with(func(f *codec.Frame) { f.BitsStored = 17 }), volume.ErrFormat, "17 bits stored of 16"},
		{"high bit", rle, good, with(func(f *codec.Frame) { f.HighBit = 16 }), volume.ErrFormat, "high bit 16"},
		{"unsigned 32", rle, good, with(func(f *codec.Frame) { f.BitsStored, f.BitsAllocated = 32, 32 }), volume.ErrUnsupported, "32 bits"},
		{"one bit", rle, good, with(func(f *codec.Frame) { f.BitsStored, f.BitsAllocated = 1, 1 }), volume.ErrUnsupported, "1 bits allocated"},
		{"header", rle, good[:63], f, volume.ErrFormat, "header of 64"},
		{"segments", rle, edit(0, 3), f, volume.ErrFormat, "3 segments, want 2"},
		{"offset before the data", rle, edit(4, 5), f, volume.ErrFormat, "segment 1 lies at bytes 5"},
		{"offset behind the data", rle, edit(8, 1<<31), f, volume.ErrFormat, "segment 1 lies"},
		{"short segment", rle, good[:len(good)-2], f, volume.ErrFormat, "segment 2 ends after 0 of 16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := codec.Decode(c.syntax, c.data, c.frame)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.text)
			}
		})
	}
}
