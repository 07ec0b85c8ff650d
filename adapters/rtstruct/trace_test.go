package rtstruct

import "testing"

func picture(rows ...string) mask {
	m := mask{width: len(rows[0]), label: 7, box: box{hi: [2]int{-1, -1}}}
	for _, row := range rows {
		for _, c := range row {
			m.labels = append(m.labels, map[rune]uint16{'#': 7, '.': 0}[c])
		}
	}
	if b, ok := boxes(m.labels, m.width)[7]; ok {
		m.box = b
	}
	return m
}

func TestTrace(t *testing.T) {
	for name, test := range map[string]struct {
		mask            mask
		borders, joined int
		points          int // of the joined polygons
	}{
		"nothing":         {picture("..", ".."), 0, 0, 0},
		"a voxel":         {picture("...", ".#.", "..."), 1, 1, 4},
		"a rectangle":     {picture("####", "####"), 1, 1, 8},
		"a ring":          {picture("###", "#.#", "###"), 2, 1, 8 + 4 + 2},
		"corners":         {picture("#.", ".#"), 2, 2, 8},
		"an island":       {picture("#####", "#...#", "#.#.#", "#...#", "#####"), 3, 2, 8 + 8 + 2 + 4},
		"two holes":       {picture("#####", "#.#.#", "#####"), 3, 1, 8 + 2*(4+2)},
		"at every border": {picture("#"), 1, 1, 4},
	} {
		borders := test.mask.trace()
		joined := keyholes(borders)
		points := 0
		for _, p := range joined {
			points += len(p)
		}
		if len(borders) != test.borders || len(joined) != test.joined || points != test.points {
			t.Errorf("%s: %d borders joined to %d of %d points, want %d, %d, %d", name, len(borders), len(joined), points, test.borders, test.joined, test.points)
		}
	}
}
