package volume

import "fmt"

// Limits bound what a decoder accepts. They hold against what a header declares, before memory is taken, and against what is
// read, so that a small compressed file cannot inflate without end. A field that is 0 or negative stands for DefaultLimits'.
type Limits struct {
	// MaxVoxels is the largest number of voxels. A decoded Volume takes 4 bytes for each, a LabelMap 2.
	MaxVoxels int64
	// MaxBytes is the largest number of bytes of voxel data as the file stores them, after decompression.
	MaxBytes int64
}

// DefaultLimits allows 2^29 voxels (512×512×2048) in at most 4 GiB of file.
func DefaultLimits() Limits { return Limits{MaxVoxels: 1 << 29, MaxBytes: 4 << 30} }

// Or fills the fields that are not set from d.
func (l Limits) Or(d Limits) Limits {
	if l.MaxVoxels <= 0 {
		l.MaxVoxels = d.MaxVoxels
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = d.MaxBytes
	}
	return l
}

// Check refuses a grid of the given size whose voxels are stored in bytesPerVoxel bytes each: with ErrFormat where a size is
// below 1, with ErrTooLarge where it is beyond the limits. Nothing overflows, whatever the sizes are.
func (l Limits) Check(size [3]int, bytesPerVoxel int) error {
	l = l.Or(DefaultLimits())
	voxels := int64(1)
	for axis, n := range size {
		if n < 1 {
			return fmt.Errorf("%w: %d voxels along axis %d, want at least 1", ErrFormat, n, axis)
		}
		if int64(n) > l.MaxVoxels/voxels {
			return fmt.Errorf("%w: %d×%d×%d voxels, at most %d are accepted", ErrTooLarge, size[0], size[1], size[2], l.MaxVoxels)
		}
		voxels *= int64(n)
	}
	if voxels > l.MaxBytes/int64(max(bytesPerVoxel, 1)) {
		return fmt.Errorf("%w: %d voxels of %d bytes, at most %d bytes are accepted", ErrTooLarge, voxels, bytesPerVoxel, l.MaxBytes)
	}
	return nil
}
