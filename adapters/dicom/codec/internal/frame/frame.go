// Package frame is what the decoders under codec share: the size that the data set declares, the decoded samples, and errors of
// the kinds of package volume.
package frame

import (
	"fmt"

	"scrawl/adapters/volume"
)

// Declared is what the data set says of the image; a stream that says otherwise is refused before anything is allocated for it.
type Declared struct {
	Width, Height, Components int
	// Workers is the number of goroutines that a decoder may use, at least 1.
	Workers int
}

// Samples is the number of samples of the image.
func (d Declared) Samples() int { return d.Width * d.Height * d.Components }

// Check refuses a stream of another size than the declared one.
func (d Declared) Check(width, height, components int) error {
	if width != d.Width || height != d.Height || components != d.Components {
		return Malformed("the stream holds %d×%d pixels of %d samples, the data set declares %d×%d of %d",
			width, height, components, d.Width, d.Height, d.Components)
	}
	return nil
}

// CheckExpansion refuses an image larger than size bytes can expand to, where a byte holds at most perByte samples.
func (d Declared) CheckExpansion(size, perByte int) error {
	if d.Samples()/perByte > size {
		return Malformed("%d bytes cannot hold %d×%d pixels of %d samples", size, d.Width, d.Height, d.Components)
	}
	return nil
}

// Image is a decoded frame.
type Image struct {
	// Precision is the number of bits of a sample in the stream.
	Precision int
	// Signed tells that the stream itself holds signed samples; they then are as they should be.
	Signed bool
	// Pix holds Width·Height·Components samples, rows from top to bottom, the samples of a pixel beside each other.
	Pix []int32
}

// Malformed is an error of kind volume.ErrFormat.
func Malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", volume.ErrFormat, fmt.Sprintf(format, args...))
}

// Unsupported is an error of kind volume.ErrUnsupported.
func Unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", volume.ErrUnsupported, fmt.Sprintf(format, args...))
}
