// Package graphcut segments an image from strokes without a network: by how frequent its intensities are under the strokes, and by a
// minimum cut that prefers borders where intensities change. It is what MONAI Label offers as Histogram+GraphCut.
//
// # The energy
//
// Intensities are scaled to 0…1 between a low and a high value and sorted into bins. With h₁(b) the share of voxels under strokes on the
// object that fall into bin b, and h₀(b) that of strokes beside it, each bin having one voxel more than was counted, the
// probability of the object is P₁ = h₁/(h₁+h₀), and P₀ = 1 − P₁. Voxels y ∈ {0,1} are labelled so as to make
//
//	E(y) = Σ_v −log P_{y_v}(I_v)  +  λ Σ_{(u,v)} [y_u ≠ y_v] · exp(−(I_u−I_v)²/2σ²) · s/s_uv
//
// as small as can be. Neighbours (u,v) share a face; s_uv is how far apart they are in mm and s the least of these distances in the
// volume, so that thick slices are bound less to each other. Voxels under strokes keep their label whatever it costs. (Boykov and
// Jolly, Interactive graph cuts, ICCV 2001.)
//
// The least energy is the value of a minimum cut between two terminals, which equals the maximum flow. [Grid] finds it by growing a tree
// from either terminal until they meet, sending flow along the path found, and mending the trees (Boykov and Kolmogorov, An
// experimental comparison of min-cut/max-flow algorithms for energy minimization in vision, IEEE TPAMI 26 (2004) 1124-1137). Its arithmetic is
// in integers: the same image and strokes give the same answer everywhere.
//
// # What differs from MONAI Label
//
// There the image is brought to 2.5×2.5×5 mm and to −300…200 HU first, which suits a CT. Here the image's own grid is used and
// intensities are scaled to those under the strokes, so that MR and small objects work as well. Without strokes beside the object it is
// told from the whole image, or from what lies around the box. Parts of the answer that hold no stroke on the object are left out
// unless [Options.Connected] is off; there all that looks like the object is in it, wherever it lies. No stroke on the object gives an empty answer, where there the whole
// volume is returned; with a box, a cube of 10 voxels in its middle is taken for the object, as there.
//
// With a simulated annotator who always corrects the worst slice, over eight targets (five organs and a spleen in CT, the spinal cord in two
// kinds of MR) the mean Dice of the whole volume after 1 | 3 | 5 | 8 interactions is 0.45 | 0.33 | 0.57 | 0.75. The cord has 0.93 after the
// first; a large organ next to others like it takes many strokes, and a stroke more can be worse than one less.
//
// # Limits
//
// A volume of more than [Options.MaxVoxels] is cut on a coarser grid, of blocks of voxels. A box limits the work to its inside.
package graphcut

import (
	"context"
	"fmt"
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
)

// Options are the method's constants, under the names that MONAI Label's clients send.
type Options struct {
	// Bins is the number of bins of the histograms.
	Bins int `yaml:"num_bins"`
	// Lambda weighs borders against intensities.
	Lambda float64 `yaml:"lamda"`
	// Sigma is the change of intensity, as a share of the scale, that a border may well run along.
	Sigma float64 `yaml:"sigma"`
	// Connected leaves out parts of the answer that hold no stroke.
	Connected bool `yaml:"connected"`
	// MaxVoxels bounds the grid that is cut: 46 bytes are taken for each of its voxels.
	MaxVoxels int `yaml:"max_voxels"`
}

// Defaults are MONAI Label's constants, on a grid of up to 300 MB.
func Defaults() Options {
	return Options{Bins: 64, Lambda: 1, Sigma: 0.1, Connected: true, MaxVoxels: 6 << 20}
}

// Validate reports the first constant that makes no sense.
func (o Options) Validate() error {
	switch {
	case o.Bins < 2 || o.Bins > 1<<16:
		return fmt.Errorf("num_bins %d: 2 to 65536 are wanted", o.Bins)
	case !(o.Lambda >= 0 && o.Lambda <= maxLambda):
		return fmt.Errorf("lamda %g: 0 to %d is wanted", o.Lambda, maxLambda)
	case !(o.Sigma > 0) || math.IsInf(o.Sigma, 1):
		return fmt.Errorf("sigma %g: more than 0 is wanted", o.Sigma)
	case o.MaxVoxels < 1 || o.MaxVoxels > 1<<28:
		return fmt.Errorf("max_voxels %d: 1 to %d is wanted", o.MaxVoxels, 1<<28)
	}
	return nil
}

// Costs are kept as integers, in steps of 1/unit; maxLambda keeps them below MaxCapacity.
const (
	unit      = 1 << 13
	maxLambda = MaxCapacity / unit
)

// Segment answers strokes on an image: one bit a voxel, i fastest. box limits the answer; nil is the whole image. The same arguments give
// the same answer. It ends early with ctx's error.
func Segment(ctx context.Context, v *volume.Volume, strokes scribble.Set, box *scribble.Box, o Options) ([]bool, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if !strokes.Empty() && strokes.Size != v.Size {
		return nil, fmt.Errorf("strokes were drawn on %v voxels, the image has %v", strokes.Size, v.Size)
	}
	answer := make([]bool, len(v.Voxels))
	c := &cut{Options: o, v: v, seeds: make(map[int]bool)}
	strokes.Voxels(func(at int, positive bool) { c.seeds[at] = positive })
	if !c.place(box) {
		return answer, nil
	}
	if err := c.solve(ctx, answer); err != nil {
		return nil, fmt.Errorf("graph cut: %w", err)
	}
	for at, positive := range c.seeds {
		answer[at] = positive
	}
	return answer, nil
}

// cut is one answer under way.
type cut struct {
	Options
	v     *volume.Volume
	seeds map[int]bool // by voxel: on the object or beside it
	lo    [3]int       // of the part that is cut
	size  [3]int       // of that part in voxels
	block [3]int       // voxels that make one of the grid
	grid  [3]int       // the part's size in blocks

	low, high float64 // intensities that become 0 and 1
	cost      []int32 // by bin: what the background costs more than the object
	outside   bool    // what lies outside the part is background
}

// seedReach is how far from the middle of a box voxels are taken for the object when nothing is drawn on it, as MONAI Label does.
const seedReach = 5

// place chooses the part of the image that is cut, and its grid. It reports false when nothing says where the object is.
func (c *cut) place(box *scribble.Box) bool {
	c.size = c.v.Size
	if box != nil {
		c.outside = true
		for axis := range 3 {
			c.lo[axis] = min(max(box.Lo[axis], 0), c.v.Size[axis])
			c.size[axis] = max(min(box.Hi[axis], c.v.Size[axis])-c.lo[axis], 0)
		}
	}
	if c.size[0]*c.size[1]*c.size[2] == 0 {
		return false
	}
	object := false
	for at, positive := range c.seeds {
		if !c.inside(at) {
			delete(c.seeds, at)
			continue
		}
		object = object || positive
	}
	if !object && box != nil {
		object = c.seedMiddle()
	}
	c.block = [3]int{1, 1, 1}
	for {
		for axis := range 3 {
			c.grid[axis] = (c.size[axis] + c.block[axis] - 1) / c.block[axis]
		}
		if c.grid[0]*c.grid[1]*c.grid[2] <= c.MaxVoxels {
			return object
		}
		c.block[c.finest()]++
	}
}

// finest is the axis along which the grid is the finest, of those with more than one block.
func (c *cut) finest() int {
	best := -1
	for axis := range 3 {
		if c.grid[axis] > 1 && (best < 0 || c.step(axis) < c.step(best)) {
			best = axis
		}
	}
	return best
}

// step is the distance of the grid's blocks along an axis in mm.
func (c *cut) step(axis int) float64 { return c.v.Spacing[axis] * float64(c.block[axis]) }

func (c *cut) position(at int) [3]int {
	s := c.v.Size
	return [3]int{at % s[0], at / s[0] % s[1], at / (s[0] * s[1])}
}

func (c *cut) inside(at int) bool {
	for axis, x := range c.position(at) {
		if x < c.lo[axis] || x >= c.lo[axis]+c.size[axis] {
			return false
		}
	}
	return true
}

// seedMiddle takes a small cube in the middle of the box for the object, but for what was drawn there.
func (c *cut) seedMiddle() bool {
	found := false
	var from, to [3]int
	for axis := range 3 {
		middle := c.lo[axis] + c.size[axis]/2
		from[axis], to[axis] = max(middle-seedReach, c.lo[axis]), min(middle+seedReach, c.lo[axis]+c.size[axis])
	}
	for k := from[2]; k < to[2]; k++ {
		for j := from[1]; j < to[1]; j++ {
			for i := from[0]; i < to[0]; i++ {
				if at := c.v.Index(i, j, k); !c.drawn(at) {
					c.seeds[at], found = true, true
				}
			}
		}
	}
	return found
}

func (c *cut) drawn(at int) bool {
	_, ok := c.seeds[at]
	return ok
}

// solve cuts the part and writes what it finds into the answer.
func (c *cut) solve(ctx context.Context, answer []bool) error {
	c.scale()
	c.learn()
	means := c.means()
	g, err := NewGrid(c.grid)
	if err != nil {
		return err
	}
	c.weigh(g, means)
	c.plant(g)
	if err := g.Cut(ctx); err != nil {
		return err
	}
	c.each(func(at, block int) { answer[at] = g.InSource(block) })
	if c.Connected {
		c.keepDrawn(answer)
	}
	return nil
}

// keepDrawn leaves those parts (6 neighbours) of the answer that hold a stroke on the object.
func (c *cut) keepDrawn(answer []bool) {
	parts, sizes := morph.Components3(answer, c.v.Size, morph.Six)
	keep := make([]bool, len(sizes)+1)
	for at, positive := range c.seeds {
		if positive {
			keep[parts[at]] = true
		}
	}
	for at, part := range parts {
		answer[at] = answer[at] && keep[part]
	}
}

// each visits the voxels of the part with the blocks they are in.
func (c *cut) each(visit func(at, block int)) {
	for k := range c.size[2] {
		for j := range c.size[1] {
			row := c.v.Index(c.lo[0], c.lo[1]+j, c.lo[2]+k)
			blocks := (k/c.block[2]*c.grid[1] + j/c.block[1]) * c.grid[0]
			for i := range c.size[0] {
				visit(row+i, blocks+i/c.block[0])
			}
		}
	}
}

// margin is by how much of the span of intensities under strokes the scale goes beyond it on either side.
const margin = 0.5

// scale chooses the intensities that become 0 and 1: the span of those under strokes, from the 2nd to the 98th percentile, with a margin. What lies outside
// it looks like the nearest that lies inside.
func (c *cut) scale() {
	var under []float64
	for at := range c.seeds {
		if x := float64(c.v.Voxels[at]); !math.IsNaN(x) && !math.IsInf(x, 0) {
			under = append(under, x)
		}
	}
	if len(under) == 0 {
		c.low, c.high = 0, 1
		return
	}
	slices.Sort(under)
	at := func(p float64) float64 { return under[int(p*float64(len(under)-1)+0.5)] }
	low, high := at(0.02), at(0.98)
	if wide := c.v.Percentiles(0.5, 99.5); !(high-low > 0.02*(wide[1]-wide[0])) {
		// All strokes lie on one intensity: it takes the image to say what is far from it.
		low, high = low-0.1*(wide[1]-wide[0]), high+0.1*(wide[1]-wide[0])
	}
	slack := margin * (high - low)
	if c.low, c.high = low-slack, high+slack; !(c.high > c.low) {
		c.high = c.low + 1
	}
}

// scaled is an intensity on the scale, from 0 to 1. What is no number counts as 0.
func (c *cut) scaled(x float64) float64 {
	s := (x - c.low) / (c.high - c.low)
	if !(s > 0) {
		return 0
	}
	return min(s, 1)
}

func (c *cut) bin(scaled float64) int { return min(int(scaled*float64(c.Bins)), c.Bins-1) }

// learn counts intensities under strokes, and turns the histograms into costs.
func (c *cut) learn() {
	object, other := make([]float64, c.Bins), make([]float64, c.Bins)
	for b := range c.Bins {
		object[b], other[b] = 1, 1
	}
	beside := false
	for at, positive := range c.seeds {
		b := c.bin(c.scaled(float64(c.v.Voxels[at])))
		if positive {
			object[b]++
		} else {
			other[b]++
			beside = true
		}
	}
	if !beside {
		for at, x := range c.v.Voxels {
			if !c.outside || !c.inside(at) { // without a box the whole image, with one what lies around it
				other[c.bin(c.scaled(float64(x)))]++
			}
		}
	}
	normalise(object)
	normalise(other)
	c.cost = make([]int32, c.Bins)
	for b := range c.cost {
		// −log P₀ + log P₁, in which the common denominator falls out.
		c.cost[b] = int32(math.Round(math.Log(object[b]/other[b]) * unit))
	}
}

func normalise(h []float64) {
	sum := 0.0
	for _, v := range h {
		sum += v
	}
	for i := range h {
		h[i] /= sum
	}
}

// means are the mean intensities of the grid's blocks, on the scale.
func (c *cut) means() []float32 {
	n := c.grid[0] * c.grid[1] * c.grid[2]
	means := make([]float32, n)
	if c.block == [3]int{1, 1, 1} {
		c.each(func(at, block int) { means[block] = float32(c.scaled(float64(c.v.Voxels[at]))) })
		return means
	}
	count := make([]int32, n)
	c.each(func(at, block int) {
		means[block] += float32(c.scaled(float64(c.v.Voxels[at])))
		count[block]++
	})
	for i := range means {
		means[i] /= float32(count[i])
	}
	return means
}

// weigh sets the costs of labels and of borders.
func (c *cut) weigh(g *Grid, means []float32) {
	least := math.Inf(1)
	for axis := range 3 {
		if c.grid[axis] > 1 {
			least = min(least, c.step(axis))
		}
	}
	voxels := float64(c.block[0] * c.block[1] * c.block[2])
	for n, x := range means {
		cost := float64(c.cost[c.bin(float64(x))]) * voxels
		g.SetTerminal(n, int32(min(max(cost, -MaxCapacity), MaxCapacity)))
		for axis := range 3 {
			stride := [3]int{1, c.grid[0], c.grid[0] * c.grid[1]}[axis]
			if n+stride >= len(means) {
				continue
			}
			d := float64(x-means[n+stride]) / c.Sigma
			// A block's face is as many voxels' faces.
			face := voxels / float64(c.block[axis])
			w := c.Lambda * unit * math.Exp(-d*d/2) * least / c.step(axis) * face
			border := int32(min(w, MaxCapacity))
			g.SetLink(n, axis, border, border)
		}
	}
}

// plant makes the blocks that were drawn on keep their label. Where both kinds of strokes meet in one, it is the object's.
func (c *cut) plant(g *Grid) {
	block := func(at int) int {
		p := c.position(at)
		for axis := range 3 {
			p[axis] = (p[axis] - c.lo[axis]) / c.block[axis]
		}
		return (p[2]*c.grid[1]+p[1])*c.grid[0] + p[0]
	}
	for at, positive := range c.seeds {
		if !positive {
			g.Sink(block(at))
		}
	}
	for at, positive := range c.seeds {
		if positive {
			g.Source(block(at))
		}
	}
}
