package finetune

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
)

// leastPixels is how much of an object a slice must show to be learned from.
const leastPixels = 20

// surveyed is a case that was looked through once.
type surveyed struct {
	Case
	geometry volume.Geometry
	axis     volume.Plane
	count    int // slices along axis
	bytes    int64
	objects  []object
}

// object is one label in one case.
type object struct {
	name   string
	slices []int // that show enough of it, in order
}

// opened is a case in memory.
type opened struct {
	*surveyed
	img     interact.Image
	labels  *volume.LabelMap
	numbers map[string]uint16
	cut     *segment.Cut // of a network with classes
}

// mask is where a slice shows an object.
func (c *opened) mask(name string, slice int) (morph.Mask, error) {
	s, err := c.labels.Slice(c.axis, slice)
	if err != nil {
		return morph.Mask{}, err
	}
	return morph.Equal(s.Labels, s.W, s.H, c.numbers[name]), nil
}

func (c *opened) key(slice int) interact.SliceKey {
	return interact.SliceKey{Axis: int(c.axis), Slice: slice}
}

// pool keeps decoded cases, the least recently used going first when they take more than the budget.
type pool struct {
	run   *run
	used  int64
	order list.List // of *opened, the most recent in front
}

func (p *pool) get(ctx context.Context, c *surveyed) (*opened, error) {
	for el := p.order.Front(); el != nil; el = el.Next() {
		if o := el.Value.(*opened); o.surveyed == c {
			p.order.MoveToFront(el)
			return o, nil
		}
	}
	l, err := c.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("case %q: %w", c.ID, err)
	}
	o := &opened{surveyed: c, labels: l.Labels, numbers: numbersOf(l)}
	if s := p.run.segment; s != nil {
		o.img = s.Prepare(l.Volume)
		o.cut = s.Cut(o.img, p.run.classesOfVoxels(o), p.run.patch)
		c.bytes = 6*int64(len(l.Volume.Voxels)) + o.cut.Bytes()
	} else {
		o.img = p.run.model.Prepare(l.Volume)
	}
	p.order.PushFront(o)
	for p.used += c.bytes; p.used > p.run.Memory && p.order.Len() > 1; {
		p.used -= p.order.Remove(p.order.Back()).(*opened).bytes
	}
	return o, nil
}

// numbersOf turns names around. Of two numbers with one name the smaller counts.
func numbersOf(l Labelled) map[string]uint16 {
	numbers := map[string]uint16{}
	for _, n := range slices.Sorted(maps.Keys(l.Names)) {
		if _, taken := numbers[l.Names[n]]; !taken && n != 0 {
			numbers[l.Names[n]] = n
		}
	}
	return numbers
}

// survey looks through all cases once: which can be used, what they show and where. It then sets some aside.
func (r *run) survey(ctx context.Context) error {
	var usable []*surveyed
	for _, c := range r.Cases {
		s, err := look(ctx, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.skip(c.ID, err)
			continue
		}
		usable = append(usable, s)
	}
	if err := r.chooseLabels(usable); err != nil {
		return err
	}
	for i := len(usable) - 1; i >= 0; i-- {
		s := usable[i]
		s.objects = slices.DeleteFunc(s.objects, func(o object) bool { return !slices.Contains(r.labels, o.name) })
		if len(s.objects) == 0 {
			r.skip(s.ID, fmt.Errorf("none of the labels %v covers %d pixels of a slice", r.labels, leastPixels))
			usable = slices.Delete(usable, i, i+1)
		}
	}
	if len(usable) == 0 {
		return fmt.Errorf("%w: %d of %d cases could not be used", ErrNoCases, len(r.result.Skipped), len(r.Cases))
	}
	r.choosePatch(usable)
	r.train, r.held = split(usable, r.Settings.Validation)
	return nil
}

// ErrNoCases says that there is nothing to learn from.
var ErrNoCases = errors.New("no labelled image to learn from")

func (r *run) skip(id string, err error) {
	r.result.Skipped = append(r.result.Skipped, fmt.Sprintf("%s: %v", id, err))
	r.note("case %s is left out: %v", id, err)
}

func look(ctx context.Context, c Case) (*surveyed, error) {
	l, err := c.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.Volume.SameGrid(l.Labels.Geometry); err != nil {
		return nil, fmt.Errorf("image and label map must lie on one grid: %w", err)
	}
	s := &surveyed{Case: c, axis: l.Volume.AcquisitionPlane(), bytes: 6 * int64(len(l.Volume.Voxels))}
	if l.Volume.Size[2] == 1 {
		s.axis = volume.PlaneK
	}
	s.geometry = l.Volume.Geometry
	s.count = l.Volume.Size[s.axis]
	numbers := numbersOf(l)
	found := map[uint16][]int{}
	for n := range s.count {
		slice, err := l.Labels.Slice(s.axis, n)
		if err != nil {
			return nil, err
		}
		for label, pixels := range counts(slice.Labels) {
			if pixels >= leastPixels {
				found[label] = append(found[label], n)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if at := found[numbers[name]]; len(at) > 0 {
			s.objects = append(s.objects, object{name: name, slices: at})
		}
	}
	if len(s.objects) == 0 {
		return nil, fmt.Errorf("no label with a name covers %d pixels of a slice", leastPixels)
	}
	return s, nil
}

func counts(labels []uint16) map[uint16]int {
	n := map[uint16]int{}
	for _, l := range labels {
		if l != 0 {
			n[l]++
		}
	}
	return n
}

// chooseLabels settles what is learned, and the class of each label.
func (r *run) chooseLabels(cases []*surveyed) error {
	held := map[string]int{}
	for _, c := range cases {
		for _, o := range c.objects {
			held[o.name]++
		}
	}
	r.labels = slices.Sorted(maps.Keys(held))
	if len(r.Settings.Labels) > 0 {
		for _, name := range r.Settings.Labels {
			if len(cases) > 0 && held[name] == 0 {
				return fmt.Errorf("label %q is in none of the labelled images; there are %v", name, r.labels)
			}
		}
		r.labels = slices.Sorted(slices.Values(r.Settings.Labels))
	}
	if r.segment != nil {
		return r.chooseClasses(len(cases) > 0)
	}
	if n := r.network.Classes; n != 2 {
		return fmt.Errorf("the network has %d classes: app.yaml must say which labels they are", n)
	}
	if len(r.labels) > 1 && !r.prompted() {
		if len(r.Settings.Labels) > 1 {
			return fmt.Errorf("the network knows one object and sees no strokes: one label is wanted, not %v", r.Settings.Labels)
		}
		most := slices.MaxFunc(r.labels, func(a, b string) int { return held[a] - held[b] })
		r.note("the network knows one object: of the labels %v it learns %s, which most images have", r.labels, most)
		r.labels = []string{most}
	}
	r.classes = map[string]uint16{}
	for _, name := range r.labels {
		r.classes[name] = 1
	}
	return nil
}

// chooseClasses keeps the labels that a network with classes knows.
func (r *run) chooseClasses(any bool) error {
	r.classes = r.segment.Indices()
	r.labels = slices.DeleteFunc(r.labels, func(name string) bool { _, ok := r.classes[name]; return !ok })
	if len(r.labels) == 0 && any {
		return fmt.Errorf("the network's labels %v are in none of the labelled images", slices.Sorted(maps.Keys(r.classes)))
	}
	return nil
}

// The sides of windows, in pixels, for networks with classes that take any size: slices, and volumes.
const (
	mostSide2 = 256
	mostSide3 = 64
)

// choosePatch settles the size of windows for a network that takes any: as large as all cases have, and no larger than fits. A batch
// must be of one size.
func (r *run) choosePatch(cases []*surveyed) {
	if r.segment == nil || r.segment.Input.Patch != nil {
		return
	}
	most := mostSide2
	if len(r.network.Size) == 3 {
		most = mostSide3
	}
	if r.Settings.Window > 0 {
		most = r.Settings.Window
	}
	m := r.segment.Input.Multiple
	r.patch = make([]int, len(r.network.Size))
	for a := range r.patch {
		least := most
		for _, c := range cases {
			least = min(least, r.segment.Extent(c.geometry)[a])
		}
		r.patch[a] = max(least/m*m, m)
	}
}

// classesOfVoxels translates a case's labels into the network's classes.
func (r *run) classesOfVoxels(c *opened) []uint8 {
	var table [1 << 16]uint8
	for _, name := range r.labels {
		if n, ok := c.numbers[name]; ok {
			table[n] = uint8(r.classes[name])
		}
	}
	out := make([]uint8, len(c.labels.Labels))
	for i, l := range c.labels.Labels {
		out[i] = table[l]
	}
	return out
}

// split sets the held cases aside, or a share of all where none is held: those whose names have the smallest hashes, so that new cases move few old ones.
func split(cases []*surveyed, share float64) (train, held []*surveyed) {
	sorted := slices.SortedFunc(slices.Values(cases), func(a, b *surveyed) int {
		ha, hb := hash(a.ID), hash(b.ID)
		switch {
		case ha < hb:
			return -1
		case ha > hb:
			return 1
		}
		return 0
	})
	if held := slices.DeleteFunc(slices.Clone(sorted), func(c *surveyed) bool { return !c.Held }); len(held) > 0 && len(held) < len(cases) {
		return slices.DeleteFunc(sorted, func(c *surveyed) bool { return c.Held }), held
	}
	n := int(math.Round(share * float64(len(cases))))
	if share > 0 {
		n = max(n, 1)
	}
	n = min(n, len(cases)-1)
	return sorted[n:], sorted[:n]
}

func hash(s string) uint64 {
	h := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(h[:])
}
