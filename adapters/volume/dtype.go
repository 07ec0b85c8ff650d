package volume

import "fmt"

// DType is a type in which files store voxels, by its numpy name.
type DType string

// The types that every file format here can write.
const (
	Uint8   DType = "uint8"
	Int8    DType = "int8"
	Uint16  DType = "uint16"
	Int16   DType = "int16"
	Uint32  DType = "uint32"
	Int32   DType = "int32"
	Uint64  DType = "uint64"
	Int64   DType = "int64"
	Float32 DType = "float32"
	Float64 DType = "float64"
)

// DTypes lists every type.
func DTypes() []DType {
	return []DType{Uint8, Int8, Uint16, Int16, Uint32, Int32, Uint64, Int64, Float32, Float64}
}

// ParseDType finds a type by its numpy name.
func ParseDType(name string) (DType, error) {
	for _, t := range DTypes() {
		if string(t) == name {
			return t, nil
		}
	}
	return "", fmt.Errorf("voxel type %q: %w: want one of %v", name, ErrUnsupported, DTypes())
}

// Bytes is the number of bytes of one value, 0 for a name that is not a type.
func (t DType) Bytes() int {
	switch t {
	case Uint8, Int8:
		return 1
	case Uint16, Int16:
		return 2
	case Uint32, Int32, Float32:
		return 4
	case Uint64, Int64, Float64:
		return 8
	}
	return 0
}

// IsFloat tells floating point from integers.
func (t DType) IsFloat() bool { return t == Float32 || t == Float64 }
