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
	planes := make([][]byte, bytesPerSample)
	for i := range planes {
		planes[i] = make([]byte, d.Width*d.Height)
	}
	for s := range want {
		segment, err := rleSegment(data, header, s, want)
		if err != nil {
			return frame.Image{}, err
		}
		plane := planes[s%bytesPerSample]
		if n := unpackBits(plane, segment); n < len(plane) {
			return frame.Image{}, frame.Malformed("segment %d ends after %d of %d bytes", s+1, n, len(plane))
		}
		if s%bytesPerSample == bytesPerSample-1 {
			joinBytes(pix[s/bytesPerSample:], f.Samples, planes, f.Signed)
		}
	}
	return frame.Image{Precision: f.BitsAllocated, Signed: f.Signed, Pix: pix}, nil
}

// joinBytes makes every step-th sample of pix from planes of its bytes, the most significant first, which bears the sign if there is
// one.
func joinBytes(pix []int32, step int, planes [][]byte, signed bool) {
	top := planes[0]
	if len(planes) == 2 && step == 1 && signed {
		low := planes[1][:len(top)]
		pix = pix[:len(top)]
		for i, high := range top {
			pix[i] = int32(int8(high))<<8 | int32(low[i])
		}
		return
	}
	for i, high := range top {
		v := int32(high)
		if signed {
			v = int32(int8(high))
		}
		for _, p := range planes[1:] {
			v = v<<8 | int32(p[i])
		}
		pix[i*step] = v
	}
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

// unpackBits unpacks a segment (PS3.5 annex G.3.2), and counts the bytes that it has. What a segment holds beyond the plane is
// padding.
func unpackBits(plane, segment []byte) int {
	at := 0
	for len(segment) > 1 && at < len(plane) {
		control := int(int8(segment[0]))
		switch {
		case control >= 0:
			literal := segment[1:min(control+2, len(segment))]
			at += copy(plane[at:], literal)
			segment = segment[1+len(literal):]
		case control == -128:
			segment = segment[1:]
		default:
			run := plane[at:min(at+1-control, len(plane))]
			for i := range run {
				run[i] = segment[1]
			}
			at += len(run)
			segment = segment[2:]
		}
	}
	return at
}
