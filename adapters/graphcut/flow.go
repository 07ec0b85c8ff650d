package graphcut

import (
	"context"
	"errors"
	"math"
)

// Grid is a flow network over the voxels of a volume: each is linked to its neighbours along the three axes (6 neighbours) and to the
// two terminals. Capacities are set first; then Cut takes them up. It takes 46 bytes a voxel.
type Grid struct {
	size   [3]int
	offset [6]int
	// link[6n+d] is what may still flow from voxel n to its neighbour in direction d: +x, −x, +y, −y, +z, −z. Directions d and d^1 are
	// opposite. Links that would leave the volume have capacity 0, which is all that keeps flow inside.
	link []int32
	// terminal is what may still flow from the source to a voxel, or, below 0, from the voxel to the sink.
	terminal []int32
	flow     int64

	tree     []tree
	parent   []uint8 // direction of a voxel's parent in its tree
	stamp    []int32 // when distance was known to be right
	distance []int32 // in links to the terminal
	next     []int32 // the queue of active voxels: the one behind, itself for the last, −1 for those not in it
	first    int32
	last     int32
	orphans  []int32
	clock    int32
}

type tree uint8

const (
	free tree = iota
	source
	sink
)

// What parent holds beside directions.
const (
	toTerminal uint8 = 6
	orphan     uint8 = 7
)

// MaxCapacity bounds every capacity that may be set, so that no sum of them overflows.
const MaxCapacity = 1 << 27

// always is the capacity of a terminal's link that is never cut: more than all the links of a voxel together may carry.
const always = 1 << 30

// NewGrid makes a network without any links.
func NewGrid(size [3]int) (*Grid, error) {
	n := 1
	for _, s := range size {
		if s < 1 || s > math.MaxInt32/n {
			return nil, errors.New("a flow network wants at least one voxel along each axis, and fewer than 2³¹ in all")
		}
		n *= s
	}
	return &Grid{size: size, offset: [6]int{1, -1, size[0], -size[0], size[0] * size[1], -size[0] * size[1]},
		link: make([]int32, 6*n), terminal: make([]int32, n)}, nil
}

// SetTerminal sets the difference between the capacities of the links from the source to voxel n and from n to the sink. What both have
// in common flows through in any case and changes no cut.
func (g *Grid) SetTerminal(n int, capacity int32) { g.terminal[n] = capacity }

// Source lets voxel n lie on the source's side, whatever that costs; Sink on the sink's.
func (g *Grid) Source(n int) { g.terminal[n] = always }

// Sink is the opposite of Source.
func (g *Grid) Sink(n int) { g.terminal[n] = -always }

// SetLink sets what may flow from voxel n to the next one along an axis (0, 1 or 2), and back. It is nothing for the last voxel of a row.
func (g *Grid) SetLink(n, axis int, there, back int32) {
	if along := n / g.offset[2*axis] % g.size[axis]; along+1 < g.size[axis] {
		g.link[6*n+2*axis], g.link[6*(n+g.offset[2*axis])+2*axis+1] = there, back
	}
}

// checkEvery is after how many voxels and paths it is looked whether the work is still wanted.
const checkEvery = 1 << 12

// Cut finds a minimum cut. InSource then tells on which side a voxel lies. It ends early with ctx's error. It must be called once.
func (g *Grid) Cut(ctx context.Context) error {
	g.begin()
	current := int32(-1)
	for work := 0; ; work++ {
		if work%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if current < 0 || g.tree[current] == free {
			if current = g.nextActive(); current < 0 {
				return nil
			}
		}
		from, direction := g.grow(int(current))
		g.clock++
		if direction < 0 {
			current = -1
			continue
		}
		g.augment(from, direction)
		g.adopt()
	}
}

// Flow is the value of the maximum flow, between the differences of the terminals' links. It is bounded by those of Source and Sink.
func (g *Grid) Flow() int64 { return g.flow }

// InSource reports whether a voxel lies on the source's side. Voxels that both sides could have lie on the sink's.
func (g *Grid) InSource(n int) bool { return g.tree[n] == source }

// begin makes a tree of every voxel that is linked to a terminal.
func (g *Grid) begin() {
	n := len(g.terminal)
	g.tree, g.parent, g.stamp, g.distance, g.next = make([]tree, n), make([]uint8, n), make([]int32, n), make([]int32, n), make([]int32, n)
	g.first, g.last = -1, -1
	for i, t := range g.terminal {
		g.next[i] = -1
		switch {
		case t > 0:
			g.tree[i] = source
		case t < 0:
			g.tree[i] = sink
		default:
			continue
		}
		g.parent[i], g.distance[i] = toTerminal, 1
		g.activate(int32(i))
	}
}

func (g *Grid) activate(n int32) {
	if g.next[n] >= 0 {
		return
	}
	if g.last < 0 {
		g.first = n
	} else {
		g.next[g.last] = n
	}
	g.next[n], g.last = n, n
}

// nextActive takes the first voxel off the queue that still belongs to a tree; −1 when there is none.
func (g *Grid) nextActive() int32 {
	for g.first >= 0 {
		n := g.first
		if g.next[n] == n {
			g.first, g.last = -1, -1
		} else {
			g.first = g.next[n]
		}
		if g.next[n] = -1; g.tree[n] != free {
			return n
		}
	}
	return -1
}

// grow takes the neighbours that a voxel can reach into its tree, until one belongs to the other: then there is a path, which is
// returned as its link between the trees. direction is −1 when there is none.
func (g *Grid) grow(n int) (from, direction int) {
	mine := g.tree[n]
	for d := range 6 {
		// What flows runs from the source on: out of a voxel of its tree, into one of the sink's.
		m := n + g.offset[d]
		if mine == source && g.link[6*n+d] == 0 || uint(m) >= uint(len(g.tree)) || mine == sink && g.link[6*m+d^1] == 0 {
			continue
		}
		switch {
		case g.tree[m] == free:
			g.tree[m] = mine
			g.setParent(m, d^1, n)
			g.activate(int32(m))
		case g.tree[m] != mine:
			if mine == source {
				return n, d
			}
			return m, d ^ 1
		case g.stamp[m] <= g.stamp[n] && g.distance[m] > g.distance[n]:
			g.setParent(m, d^1, n) // nearer to the terminal this way
		}
	}
	return 0, -1
}

// setParent makes n, which lies in direction d from m, the parent of m.
func (g *Grid) setParent(m, d, n int) {
	g.parent[m], g.stamp[m], g.distance[m] = uint8(d), g.stamp[n], g.distance[n]+1
}

// augment sends as much as possible along the path from the source over a link to the sink. Links that carry all they can leave their
// voxels without a parent.
func (g *Grid) augment(from, d int) {
	to := from + g.offset[d]
	most := min(g.link[6*from+d], g.narrowest(from, source), g.narrowest(to, sink))
	g.link[6*from+d] -= most
	g.link[6*to+d^1] += most
	g.push(from, source, most)
	g.push(to, sink, most)
	g.flow += int64(most)
}

// towards is the position of the link that joins a voxel of a tree with its parent, in the direction in which it flows there, and
// that of its opposite.
func (g *Grid) towards(n int, t tree) (parent, along, against int) {
	d := int(g.parent[n])
	parent = n + g.offset[d]
	if t == source {
		return parent, 6*parent + d ^ 1, 6*n + d
	}
	return parent, 6*n + d, 6*parent + d ^ 1
}

func (g *Grid) narrowest(n int, t tree) int32 {
	most := int32(always)
	for g.parent[n] != toTerminal {
		parent, along, _ := g.towards(n, t)
		most = min(most, g.link[along])
		n = parent
	}
	if t == source {
		return min(most, g.terminal[n])
	}
	return min(most, -g.terminal[n])
}

func (g *Grid) push(n int, t tree, amount int32) {
	for g.parent[n] != toTerminal {
		parent, along, against := g.towards(n, t)
		g.link[along] -= amount
		g.link[against] += amount
		if g.link[along] == 0 {
			g.setOrphan(n)
		}
		n = parent
	}
	if t == sink {
		amount = -amount
	}
	if g.terminal[n] -= amount; g.terminal[n] == 0 {
		g.setOrphan(n)
	}
}

func (g *Grid) setOrphan(n int) {
	g.parent[n] = orphan
	g.orphans = append(g.orphans, int32(n))
}

// adopt finds a new parent for every orphan, or else sets it free, which makes its children orphans: those come last.
func (g *Grid) adopt() {
	for i := 0; i < len(g.orphans); i++ {
		g.adoptOne(int(g.orphans[i]))
	}
	g.orphans = g.orphans[:0]
}

func (g *Grid) adoptOne(n int) {
	mine := g.tree[n]
	best, nearest := -1, int32(math.MaxInt32)
	for d := range 6 {
		m, ok := g.neighbour(n, d, mine)
		if !ok {
			continue
		}
		if far, rooted := g.root(m); rooted && far < nearest {
			best, nearest = d, far
		}
	}
	if best >= 0 {
		g.parent[n], g.stamp[n], g.distance[n] = uint8(best), g.clock, nearest+1
		return
	}
	for d := range 6 {
		m := n + g.offset[d]
		if uint(m) >= uint(len(g.tree)) || g.tree[m] != mine {
			continue
		}
		if _, ok := g.neighbour(n, d, mine); ok {
			g.activate(int32(m)) // it may take n back
		}
		if g.parent[m] == uint8(d^1) {
			g.setOrphan(m)
		}
	}
	g.tree[n] = free
}

// neighbour is the voxel in a direction, if it belongs to the tree and could be the parent of n in it.
func (g *Grid) neighbour(n, d int, mine tree) (int, bool) {
	m := n + g.offset[d]
	if uint(m) >= uint(len(g.tree)) || g.tree[m] != mine {
		return 0, false
	}
	if mine == source {
		return m, g.link[6*m+d^1] > 0
	}
	return m, g.link[6*n+d] > 0
}

// root follows the parents of a voxel and tells how far its terminal is; rooted is false when an orphan is among them. What was found is
// noted on the way, so that the next search ends there.
func (g *Grid) root(n int) (far int32, rooted bool) {
	steps := int32(0)
	at := n
	for {
		if g.stamp[at] == g.clock {
			steps += g.distance[at]
			break
		}
		steps++
		switch g.parent[at] {
		case toTerminal:
			g.stamp[at], g.distance[at] = g.clock, 1
			return g.note(n, steps), true
		case orphan:
			return 0, false
		}
		at += g.offset[g.parent[at]]
	}
	return g.note(n, steps), true
}

// note writes down the distances along the way from a voxel whose own is known.
func (g *Grid) note(n int, far int32) int32 {
	for at, d := n, far; g.stamp[at] != g.clock; d-- {
		g.stamp[at], g.distance[at] = g.clock, d
		at += g.offset[g.parent[at]]
	}
	return far
}
