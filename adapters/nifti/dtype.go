package nifti

import (
	"fmt"

	"scrawl/adapters/volume"
)

// codeOf is the datatype code of nifti1.h.
func codeOf(t volume.DType) int {
	switch t {
	case volume.Uint8:
		return 2
	case volume.Int16:
		return 4
	case volume.Int32:
		return 8
	case volume.Float32:
		return 16
	case volume.Float64:
		return 64
	case volume.Int8:
		return 256
	case volume.Uint16:
		return 512
	case volume.Uint32:
		return 768
	case volume.Int64:
		return 1024
	case volume.Uint64:
		return 1280
	}
	return 0
}

// dtypeOf is the inverse of codeOf. Codes that stand for more or less than one real number a voxel are refused by name.
func dtypeOf(code int) (volume.DType, error) {
	for _, t := range volume.DTypes() {
		if codeOf(t) == code {
			return t, nil
		}
	}
	name := ""
	switch code {
	case 0:
		name = "unknown"
	case 1:
		name = "binary"
	case 32:
		name = "complex64"
	case 1536:
		name = "float128"
	case 1792:
		name = "complex128"
	case 2048:
		name = "complex256"
	default:
		return "", fmt.Errorf("%w: NIfTI datatype code %d does not exist", volume.ErrFormat, code)
	}
	return "", fmt.Errorf("%w: NIfTI datatype %s (code %d), want one real number a voxel", volume.ErrUnsupported, name, code)
}
