package nifti

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// luminanceFormat is what a luminance reader delivers.
var luminanceFormat = sample.Format{Type: volume.Float32, Order: binary.LittleEndian}

// luminance turns interleaved bytes of colour into float32 of their brightness, 0 to 255.
type luminance struct {
	r        io.Reader
	channels int
	pixel    [4]byte
	out      [4]byte
	pending  []byte
}

// Read implements io.Reader.
func (l *luminance) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(l.pending) == 0 {
			if _, err := io.ReadFull(l.r, l.pixel[:l.channels]); err != nil {
				if n > 0 && errors.Is(err, io.EOF) {
					return n, nil
				}
				return n, err
			}
			y := 0.299*float64(l.pixel[0]) + 0.587*float64(l.pixel[1]) + 0.114*float64(l.pixel[2])
			binary.LittleEndian.PutUint32(l.out[:], math.Float32bits(float32(y)))
			l.pending = l.out[:]
		}
		c := copy(p[n:], l.pending)
		l.pending, n = l.pending[c:], n+c
	}
	return n, nil
}
