package volume

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
)

// Hash identifies an image by its content: SHA-256 over its grid and voxels, whatever the file it came from. It is stable across
// machines and versions. Negative zero counts as zero and all not-a-numbers as one.
func (v *Volume) Hash() [sha256.Size]byte {
	h := hashGrid("scrawl volume 1\n", v.Geometry)
	feed(h, v.Voxels, 4, func(b []byte, x float32) {
		binary.LittleEndian.PutUint32(b, canonicalBits(x))
	})
	return [sha256.Size]byte(h.Sum(nil))
}

// Hash identifies a label map by its content: SHA-256 over its grid and labels.
func (m *LabelMap) Hash() [sha256.Size]byte {
	h := hashGrid("scrawl labels 1\n", m.Geometry)
	feed(h, m.Labels, 2, binary.LittleEndian.PutUint16)
	return [sha256.Size]byte(h.Sum(nil))
}

func hashGrid(domain string, g Geometry) hash.Hash {
	b := []byte(domain)
	for _, n := range g.Size {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	numbers := append(append([]float64{}, g.Origin[:]...), g.Spacing[:]...)
	for _, row := range g.Direction {
		numbers = append(numbers, row[:]...)
	}
	for _, x := range numbers {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x+0)) // -0 + 0 = 0
	}
	h := sha256.New()
	h.Write(b) // a hash never fails to write
	return h
}

func feed[T any](h hash.Hash, values []T, size int, put func([]byte, T)) {
	buf := make([]byte, 64<<10)
	for len(values) > 0 {
		n := min(len(values), len(buf)/size)
		for i, x := range values[:n] {
			put(buf[i*size:], x)
		}
		h.Write(buf[:n*size])
		values = values[n:]
	}
}

func canonicalBits(x float32) uint32 {
	if x != x {
		return 0x7fc00000
	}
	return math.Float32bits(x + 0)
}
