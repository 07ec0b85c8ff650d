package morph

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawn makes a mask of lines in which # is set.
func drawn(lines ...string) Mask {
	m := New(len(lines[0]), len(lines))
	for y, l := range lines {
		for x := range l {
			m.Set(x, y, l[x] == '#')
		}
	}
	return m
}

func TestOutlines(t *testing.T) {
	for name, c := range map[string]struct {
		m    Mask
		want []Outline
	}{
		"nothing":         {drawn("...", "..."), nil},
		"a pixel":         {drawn("...", ".#."), []Outline{{{1, 1}, {2, 1}, {2, 2}, {1, 2}}}},
		"everything":      {drawn("##", "##"), []Outline{{{0, 0}, {2, 0}, {2, 2}, {0, 2}}}},
		"a bend":          {drawn("#.", "##"), []Outline{{{0, 0}, {1, 0}, {1, 1}, {2, 1}, {2, 2}, {0, 2}}}},
		"a ring":          {drawn("###", "#.#", "###"), []Outline{{{0, 0}, {3, 0}, {3, 3}, {0, 3}}, {{1, 1}, {1, 2}, {2, 2}, {2, 1}}}},
		"two at a corner": {drawn("#.", ".#"), []Outline{{{0, 0}, {1, 0}, {1, 1}, {0, 1}}, {{1, 1}, {2, 1}, {2, 2}, {1, 2}}}},
	} {
		got := c.m.Outlines()
		if !slices.EqualFunc(got, c.want, func(a, b Outline) bool { return slices.Equal(turned(a), turned(b)) }) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// turned begins an outline at its first corner in memory.
func turned(o Outline) Outline {
	first := 0
	for i, p := range o {
		if p.Y < o[first].Y || p.Y == o[first].Y && p.X < o[first].X {
			first = i
		}
	}
	return slices.Concat(o[first:], o[:first])
}

// Filled again, outlines are the mask they were taken from, and their areas its pixels.
func TestOutlinesOfAnyMask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(rapid.IntRange(1, 12).Draw(t, "w"), rapid.IntRange(1, 12).Draw(t, "h"))
		for i := range m.Bits {
			m.Bits[i] = rapid.Bool().Draw(t, "bit")
		}
		area := 0
		again := New(m.W, m.H)
		for _, o := range m.Outlines() {
			area += o.Area()
			for i, p := range o {
				q, r := o[(i+1)%len(o)], o[(i+2)%len(o)]
				if (q.X-p.X)*(r.Y-q.Y)-(q.Y-p.Y)*(r.X-q.X) == 0 {
					t.Fatalf("%v holds corners where it does not turn, or goes back", o)
				}
				// The even-odd rule: a vertical edge swaps everything to its right.
				if p.X == q.X {
					for y := min(p.Y, q.Y); y < max(p.Y, q.Y); y++ {
						for x := p.X; x < m.W; x++ {
							again.Set(x, y, !again.At(x, y))
						}
					}
				}
			}
		}
		if area != m.Count() || !again.Same(m) {
			t.Fatalf("outlines of area %d do not give the mask of %d pixels back", area, m.Count())
		}
	})
}
