package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 512MiB or 4GiB; a bare number counts bytes.
type Size int64

// sizeUnits are the suffixes from the largest on. MB and MiB mean the same here: 2^20.
var sizeUnits = []struct {
	suffixes []string
	bytes    int64
}{
	{[]string{"TiB", "TB", "T"}, 1 << 40},
	{[]string{"GiB", "GB", "G"}, 1 << 30},
	{[]string{"MiB", "MB", "M"}, 1 << 20},
	{[]string{"KiB", "kB", "KB", "K"}, 1 << 10},
	{[]string{"B", ""}, 1},
}

// ParseSize reads a size.
func ParseSize(text string) (Size, error) {
	text = strings.TrimSpace(text)
	for _, unit := range sizeUnits {
		for _, suffix := range unit.suffixes {
			digits, ok := strings.CutSuffix(text, suffix)
			if !ok {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/unit.bytes {
				return 0, fmt.Errorf("size %q, want a whole number with a unit such as 512MiB", text)
			}
			return Size(n * unit.bytes), nil
		}
	}
	return 0, fmt.Errorf("size %q, want a whole number with a unit such as 512MiB", text)
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffixes[0]
		}
	}
	return "0B"
}
