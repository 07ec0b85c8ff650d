package morph

// Outline is a closed polygon along the edges of pixels: pixel (x,y) spans the square from corner (x,y) to corner (x+1,y+1). It
// holds a corner only where the outline turns, and the first only once.
type Outline []Point

// Area is the number of pixels inside, negative for the outline of a hole.
func (o Outline) Area() int {
	twice := 0
	for i, p := range o {
		q := o[(i+1)%len(o)]
		twice += p.X*q.Y - q.X*p.Y
	}
	return twice / 2
}

// Outlines are the outlines of the parts of a mask (Four) and of the holes in them, in the order of their first corners, row by row.
// Around a part they run with the object on their right, x to the right and y down; the areas of all add up to the mask's pixels.
func (m Mask) Outlines() []Outline {
	// The steps right, down, left and up, each with the object to its right. An edge is its first corner and its direction.
	steps := [4]Point{{1, 0}, {0, 1}, {-1, 0}, {0, -1}}
	corner := func(p Point) int { return p.Y*(m.W+1) + p.X }
	edges := make([][4]bool, (m.W+1)*(m.H+1))
	for y := range m.H {
		for x := range m.W {
			if !m.At(x, y) {
				continue
			}
			edges[corner(Point{x, y})][0] = !m.At(x, y-1)
			edges[corner(Point{x + 1, y})][1] = !m.At(x+1, y)
			edges[corner(Point{x + 1, y + 1})][2] = !m.At(x, y+1)
			edges[corner(Point{x, y + 1})][3] = !m.At(x-1, y)
		}
	}
	var all []Outline
	for at := range edges {
		for direction := range steps {
			if !edges[at][direction] {
				continue
			}
			var o Outline
			p, d, before := Point{at % (m.W + 1), at / (m.W + 1)}, direction, -1
			for edges[corner(p)][d] {
				edges[corner(p)][d] = false
				if d != before {
					o = append(o, p)
				}
				p, before = Point{p.X + steps[d].X, p.Y + steps[d].Y}, d
				// Where two parts touch at a corner, turning right stays with the same one.
				for _, turn := range [3]int{1, 0, 3} {
					if next := (before + turn) % 4; edges[corner(p)][next] {
						d = next
						break
					}
				}
			}
			if before == direction {
				o = o[1:] // the outline goes straight on where it began
			}
			all = append(all, o)
		}
	}
	return all
}
