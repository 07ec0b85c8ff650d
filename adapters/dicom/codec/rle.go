package codec

import (
	"encoding/binary"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// decodeRLE decodes a frame of RLE Lossless (PS3.5 annex G): a header of 16 words, the number of segments and their offsets, and
// one segment for every byte of a sample, the most significant first, sample after sample.
func decodeRLE(data []byte, f Frame, d frame.Declared) (frame.Image, error) {
	const header = 64
	if f.BitsAllocated%8 != 0 {
		return frame.Image{}, frame.Unsupported("%d bits allocated, want 8, 16, 24 or 32", f.BitsAllocated)
	}
	if len(data) < header {
		return frame.Image{}, frame.Malformed("shorter than its header of %d bytes", header)
	}
	bytesPerSample := f.BitsAllocated / 8
	want := f.Samples * bytesPerSample
	if n := binary.LittleEndian.Uint32(data); int64(n) != int64(want) {
		return frame.Image{}, frame.Malformed("%d segments, want %d for %d samples of %d bits", n, want, f.Samples, f.BitsAllocated)
	}
	// Two bytes give at most 128 bytes.
	if err := d.CheckExpansion(len(data)/bytesPerSample, 64); err != nil {
		return frame.Image{}, err
	}
	pix := make([]int32, d.Samples())
	for s := range want {
		segment, err := rleSegment(data, header, s, want)
		if err != nil {
			return frame.Image{}, err
		}
		shift := 8 * (bytesPerSample - 1 - s%bytesPerSample)
		if n := unpackBits(pix[s/bytesPerSample:], f.Samples, shift, segment); n < d.Width*d.Height {
			return frame.Image{}, frame.Malformed("segment %d ends after %d of %d bytes", s+1, n, d.Width*d.Height)
		}
	}
	return frame.Image{Precision: f.BitsAllocated, Pix: pix}, nil
}

// rleSegment is segment s of n: the bytes from its offset to the next segment's.
func rleSegment(data []byte, header, s, n int) ([]byte, error) {
	start := int64(binary.LittleEndian.Uint32(data[4+4*s:]))
	end := int64(len(data))
	if s+1 < n {
		end = int64(binary.LittleEndian.Uint32(data[8+4*s:]))
	}
	if start < int64(header) || start > end || end > int64(len(data)) {
		return nil, frame.Malformed("segment %d lies at bytes %d to %d of %d", s+1, start, end, len(data))
	}
	return data[start:end], nil
}

// unpackBits sets 8 bits of every step-th sample of pix, from bit shift on, from a segment (PS3.5 annex G.3.2), and counts the
// samples that it has set. What a segment holds beyond the image is padding.
func unpackBits(pix []int32, step, shift int, segment []byte) int {
	at, n := 0, 0
	for len(segment) > 0 && at < len(pix) {
		control := int(int8(segment[0]))
		segment = segment[1:]
		switch {
		case control >= 0:
			literal := segment[:min(control+1, len(segment))]
			segment = segment[len(literal):]
			for _, b := range literal {
				if at >= len(pix) {
					return n
				}
				pix[at] |= int32(b) << shift
				at += step
				n++
			}
		case control != -128 && len(segment) > 0:
			b := int32(segment[0]) << shift
			segment = segment[1:]
			for range 1 - control {
				if at >= len(pix) {
					return n
				}
				pix[at] |= b
				at += step
				n++
			}
		}
	}
	return n
}
