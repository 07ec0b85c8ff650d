package finetune

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// How examples of a network that sees strokes are prompted: as the source was trained (see [scrawl/apps/synth]), with more of the
// examples that carry an object on, since those are most of a volume's slices.
const (
	shareCarried    = 0.35 // know the neighbouring slice's mask, and have no stroke
	shareBeyond     = 0.12 // of those: lie just beyond the object's end
	shareNeighbour  = 0.35 // of the others: know the neighbouring slice's mask too
	shareBackground = 0.4  // first rounds with a stroke beside the object
	shareThin       = 0.3  // annotators with a thin pen
	shareCloser     = 0.5  // of first rounds: look closer at once, as a second look does
	shareSilent     = 0.2  // slices without any object, for networks that see the image alone
	mostRounds      = 3
)

// batches draws an epoch's batches and hands them on.
func (r *run) batches(ctx context.Context, epoch, steps int, use func(train.Batch) error) error {
	rng := rand.New(rand.NewPCG(r.Settings.Seed, uint64(epoch)))
	var pending []interact.Example
	flush := func() error {
		b, err := joined(pending)
		pending = pending[:0]
		if err != nil {
			return err
		}
		steps--
		return use(b)
	}
	var last *surveyed
	for _, group := range r.groups(rng) {
		for _, c := range r.visits(rng, group) {
			last = c
			if err := r.drawInto(ctx, rng, c, &pending); err != nil {
				return err
			}
			if len(pending) == r.Settings.Batch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	for steps > 0 { // the last batch is filled up
		if err := r.drawInto(ctx, rng, last, &pending); err != nil {
			return err
		}
		if len(pending) == r.Settings.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// groups parts the cases, in random order, into groups that fit into memory together.
func (r *run) groups(rng *rand.Rand) [][]*surveyed {
	order := slices.Clone(r.train)
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var groups [][]*surveyed
	used := int64(0)
	for _, c := range order {
		if len(groups) == 0 || used+c.bytes > r.Memory {
			groups, used = append(groups, nil), 0
		}
		used += c.bytes
		groups[len(groups)-1] = append(groups[len(groups)-1], c)
	}
	return groups
}

// visits lists each case of a group as often as slices of it are drawn, in random order.
func (r *run) visits(rng *rand.Rand, group []*surveyed) []*surveyed {
	var list []*surveyed
	for range r.Settings.Slices {
		list = append(list, group...)
	}
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (r *run) drawInto(ctx context.Context, rng *rand.Rand, c *surveyed, pending *[]interact.Example) error {
	o, err := r.pool.get(ctx, c)
	if err != nil {
		return err
	}
	var e interact.Example
	switch {
	case r.segment != nil:
		e, err = r.drawWindow(rng, o)
	case r.prompted():
		e, err = r.drawPrompted(ctx, rng, o)
	default:
		e, err = r.drawPlain(rng, o)
	}
	if err != nil {
		return err
	}
	r.disturb(rng, e)
	*pending = append(*pending, e)
	return nil
}

// drawPlain is a slice with every pixel's class.
func (r *run) drawPlain(rng *rand.Rand, c *opened) (interact.Example, error) {
	o := c.objects[rng.IntN(len(c.objects))]
	slice := o.slices[rng.IntN(len(o.slices))]
	if rng.Float64() < shareSilent {
		slice = rng.IntN(c.count)
	}
	classes, err := r.classesOf(c, slice)
	if err != nil {
		return interact.Example{}, err
	}
	nothing, err := c.nothing(slice)
	if err != nil {
		return interact.Example{}, err
	}
	return r.model.Example(c.img, c.key(slice), nothing, morph.Rect{}, false, classes)
}

// drawWindow is a window of a volume with every voxel's class, mostly around a voxel of a label.
func (r *run) drawWindow(rng *rand.Rand, c *opened) (interact.Example, error) {
	o := c.objects[rng.IntN(len(c.objects))]
	voxel := rng.IntN(len(c.labels.Labels))
	if rng.Float64() >= shareSilent {
		slice := o.slices[rng.IntN(len(o.slices))]
		m, err := c.mask(o.name, slice)
		if err != nil {
			return interact.Example{}, err
		}
		points := m.Points()
		at := points[rng.IntN(len(points))]
		i, j, k := volume.SliceIndex(c.axis, slice, at.X, at.Y)
		voxel = c.geometry.Index(i, j, k)
	}
	var shift [3]int
	for t := range shift {
		if first := 3 - len(r.network.Size); t >= first {
			side := 16
			if r.patch != nil {
				side = r.patch[t-first]
			} else if p := r.segment.Input.Patch; p != nil {
				side = p[t-first]
			}
			shift[t] = rng.IntN(side/2+1) - side/4
		}
	}
	return interact.Example(c.cut.Around(voxel, shift)), nil
}

// nothing is the prompt of a slice of which nothing is known.
func (c *opened) nothing(slice int) (interact.Prompt, error) {
	s, err := c.labels.Slice(c.axis, slice)
	if err != nil {
		return interact.Prompt{}, err
	}
	return interact.Prompt{Positive: morph.New(s.W, s.H), Negative: morph.New(s.W, s.H)}, nil
}

// classesOf translates a slice's labels into the network's classes.
func (r *run) classesOf(c *opened, slice int) ([]uint16, error) {
	s, err := c.labels.Slice(c.axis, slice)
	if err != nil {
		return nil, err
	}
	table := map[uint16]uint16{}
	for _, name := range r.labels {
		if n, ok := c.numbers[name]; ok {
			table[n] = r.classes[name]
		}
	}
	for i, l := range s.Labels {
		s.Labels[i] = table[l]
	}
	return s.Labels, nil
}

// drawPrompted is a slice after some rounds with a simulated annotator, or with the neighbour's mask alone.
func (r *run) drawPrompted(ctx context.Context, rng *rand.Rand, c *opened) (interact.Example, error) {
	o := c.objects[rng.IntN(len(c.objects))]
	slice := o.slices[rng.IntN(len(o.slices))]
	if c.count > 1 && rng.Float64() < shareCarried {
		return r.carried(rng, c, o, slice)
	}
	truth, err := c.mask(o.name, slice)
	if err != nil {
		return interact.Example{}, err
	}
	p := interact.Prompt{Positive: morph.New(truth.W, truth.H), Negative: morph.New(truth.W, truth.H)}
	if c.count > 1 && rng.Float64() < shareNeighbour {
		if p.Prior, err = c.neighbour(rng, o.name, slice, 1-2*rng.IntN(2)); err != nil {
			return interact.Example{}, err
		}
	}
	pen := simulate.Options{Thin: rng.Float64() < shareThin, Background: rng.Float64() < shareBackground}
	for rounds := 1 + rng.IntN(mostRounds); ; rounds-- {
		positive, negative := simulate.Strokes(rng, truth, known(p, truth), pen)
		p.Positive, p.Negative = p.Positive.Or(positive), p.Negative.Or(negative)
		pen.Background = false
		if rounds == 1 {
			break
		}
		if p.Prior, err = r.model.AnswerSlice(ctx, r.trainer.Student(), c.img, c.key(slice), p); err != nil {
			return interact.Example{}, err
		}
	}
	return r.example(rng, c, slice, p, truth)
}

// known is the object as far as a prompt's previous prediction shows it.
func known(p interact.Prompt, like morph.Mask) morph.Mask {
	if p.Prior == nil {
		return morph.New(like.W, like.H)
	}
	return p.Prior.Mask(like.W, like.H)
}

// carried is a slice with its neighbour's mask and no stroke.
func (r *run) carried(rng *rand.Rand, c *opened, o object, slice int) (interact.Example, error) {
	step := 1 - 2*rng.IntN(2) // towards the slice that the mask comes from
	if rng.Float64() < shareBeyond {
		slice = o.slices[0] - 1
		if step = 1; rng.IntN(2) == 0 {
			slice, step = o.slices[len(o.slices)-1]+1, -1
		}
		if slice < 0 || slice >= c.count {
			slice += step // back onto the object
		}
	}
	truth, err := c.mask(o.name, slice)
	if err != nil {
		return interact.Example{}, err
	}
	p := interact.Prompt{Positive: morph.New(truth.W, truth.H), Negative: morph.New(truth.W, truth.H)}
	if p.Prior, err = c.neighbour(rng, o.name, slice, step); err != nil {
		return interact.Example{}, err
	}
	return r.example(rng, c, slice, p, truth)
}

// neighbour is the mask that a slice's neighbour may have been answered with: its own mask, bent a little. A neighbour without the
// object gives the slice's own.
func (c *opened) neighbour(rng *rand.Rand, name string, slice, step int) (interact.Probability, error) {
	at := slice + step
	if at < 0 || at >= c.count {
		at = slice
	}
	m, err := c.mask(name, at)
	if err == nil && m.Empty() {
		m, err = c.mask(name, slice)
	}
	if err != nil {
		return nil, err
	}
	switch by := 3*rng.Float64() - 1.5; {
	case by > 0.5:
		m = m.Dilate(by)
	case by < -0.5:
		if thin := m.Erode(-by); !thin.Empty() {
			m = thin
		}
	}
	m = m.Shift(rng.IntN(3)-1, rng.IntN(3)-1)
	return interact.NewProbability(morph.Blur(m.Floats(), m.W, m.H, 0.3+rng.Float64(), 3)), nil
}

// example looks at a slice where an interaction would.
func (r *run) example(rng *rand.Rand, c *opened, slice int, p interact.Prompt, truth morph.Mask) (interact.Example, error) {
	box, known := p.Box()
	if p.Prior == nil || p.Prior.Mask(truth.W, truth.H).Empty() {
		// Strokes alone say where the object is, not how large: everything is looked at first, and then what was found.
		known = rng.Float64() < shareCloser
		if all, ok := truth.Or(p.Positive).Or(p.Negative).Bounds(); ok {
			box = all
		}
	}
	classes := make([]uint16, len(truth.Bits))
	for i, b := range truth.Bits {
		if b {
			classes[i] = 1
		}
	}
	return r.model.Example(c.img, c.key(slice), p, jitter(rng, box), known, classes)
}

// jitter moves and scales a rectangle a little.
func jitter(rng *rand.Rand, b morph.Rect) morph.Rect {
	size := float64(max(b.W(), b.H()))
	grow := int(math.Round(size * (0.3*rng.Float64() - 0.1)))
	dx, dy := int(math.Round(size*(0.16*rng.Float64()-0.08))), int(math.Round(size*(0.16*rng.Float64()-0.08)))
	j := morph.Rect{X0: b.X0 - grow/2 + dx, Y0: b.Y0 - grow/2 + dy, X1: b.X1 + grow/2 + dx, Y1: b.Y1 + grow/2 + dy}
	if j.W() < 1 || j.H() < 1 {
		return b
	}
	return j
}

// disturb changes an example in ways that leave its answer right: the scanner's intensities, and the orientation where left and
// right mean nothing.
func (r *run) disturb(rng *rand.Rand, e interact.Example) {
	s := e.X.Shape()
	n := e.Valid.Len()
	by := r.Settings.Intensity
	gain, offset, gamma := 1+by*(0.2*rng.Float64()-0.1), by*(0.1*rng.Float64()-0.05), math.Exp(by*(0.4*rng.Float64()-0.2))
	noise := by * 0.03 * rng.Float64() * rng.Float64()
	if r.Settings.Invert > 0 && rng.Float64() < r.Settings.Invert {
		gain, offset = -gain, offset+1
	}
	channels := []int{0}
	if r.model != nil {
		channels = r.model.Input.ImageChannels()
	}
	for _, ch := range channels {
		plane := e.X.Float32s()[ch*n : (ch+1)*n]
		for i, v := range plane {
			bent := math.Pow(min(max(float64(v), 0), 1), gamma)
			plane[i] = float32(gain*bent + offset + noise*rng.NormFloat64())
		}
	}
	if !r.prompted() && !r.Settings.Mirror {
		return
	}
	across, down := rng.IntN(2) == 0, rng.IntN(2) == 0
	for _, t := range []*tensor.Tensor{e.X, e.Target, e.Valid} {
		for at := 0; at < t.Len(); at += n {
			mirror(t.Float32s()[at:at+n], s[3], across, down)
		}
	}
}

// mirror turns a plane of rows of w around.
func mirror(plane []float32, w int, across, down bool) {
	if across {
		for y := 0; y < len(plane); y += w {
			slices.Reverse(plane[y : y+w])
		}
	}
	if down {
		for a, b := 0, len(plane)-w; a < b; a, b = a+w, b-w {
			for x := range w {
				plane[a+x], plane[b+x] = plane[b+x], plane[a+x]
			}
		}
	}
}

// joined makes a batch of examples.
func joined(examples []interact.Example) (train.Batch, error) {
	join := func(pick func(interact.Example) *tensor.Tensor) (*tensor.Tensor, error) {
		shape := slices.Clone(pick(examples[0]).Shape())
		shape[0] = len(examples)
		var all []float32
		for _, e := range examples {
			all = append(all, pick(e).Float32s()...)
		}
		return tensor.New(shape, all)
	}
	var b train.Batch
	var err error
	if b.X, err = join(func(e interact.Example) *tensor.Tensor { return e.X }); err != nil {
		return b, err
	}
	if b.Target, err = join(func(e interact.Example) *tensor.Tensor { return e.Target }); err != nil {
		return b, err
	}
	b.Valid, err = join(func(e interact.Example) *tensor.Tensor { return e.Valid })
	return b, err
}
