package segment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"scrawl/adapters/scribble"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Mark is what was drawn for one class: positive strokes mark the class, negative ones background.
type Mark struct {
	Class   int
	Strokes scribble.Set
}

// Key names everything that was drawn by its content, in whatever order it is given.
func Key(marks []Mark) string {
	var parts []string
	for _, m := range marks {
		if !m.Strokes.Empty() {
			parts = append(parts, fmt.Sprintf("%d %s\n", m.Class, m.Strokes.Key()))
		}
	}
	slices.Sort(parts)
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// State is what is known of one image. The zero value is an image that nobody has worked on.
type State struct {
	Marks []Mark
	// Labels is the last answer: the label number of each voxel, i fastest; nil before the first.
	Labels []uint8
	// Edits are the voxels that the user has changed by hand, nil when there are none: 0 leaves the network its say, n+1 means label
	// number n, or background for n = 0. They stand until strokes are drawn over them.
	Edits []uint8
	// Guard is what a guard remembers of the image; nil where there is none.
	Guard *Guarded
	// Partial tells that only parts were answered by the weights of the last request.
	Partial bool
	// Doubt is the number of voxels expected to be wrong in each slice along the network's first axis.
	Doubt []float64
}

// Next is the slice most worth a scribble: of those that nobody has drawn on, the one with most voxels expected to be wrong, if the
// probabilities are what they say. ok is false when there is none.
func (m *Model) Next(img Image, st State) (next interact.Next, ok bool) {
	g := m.gridOf(img.Volume.Geometry)
	axis := g.axis[0]
	drawn := map[interact.SliceKey]bool{}
	for _, mark := range st.Marks {
		for _, p := range mark.Strokes.Planes() {
			drawn[p] = true
		}
	}
	s := img.Volume.Spacing
	area := s[0] * s[1] * s[2] / s[axis]
	for n, doubt := range st.Doubt {
		key := interact.SliceKey{Axis: axis, Slice: n}
		if g.flip[0] {
			key.Slice = g.native[0] - 1 - n
		}
		if wrong := doubt * area; wrong > next.Wrong && !drawn[key] {
			next, ok = interact.Next{Slice: key, Wrong: wrong}, true
		}
	}
	return next, ok
}

// Request is one interaction.
type Request struct {
	// Marks is the whole current set.
	Marks []Mark
	// Edits is like State's, what the user has changed by hand since the last answer. It adds to what was changed before.
	Edits []uint8
	// Frozen learns nothing; strokes keep their label in the answer all the same.
	Frozen bool
	// PartOnly answers anew only the slices, or for a network of volumes the windows' slices, whose strokes changed.
	PartOnly bool
}

// Learned is what one user has taught the network. The zero value has learned nothing.
type Learned struct {
	Sets         *adapt.Sets
	Interactions uint64
}

// Report tells what an interaction did.
type Report struct {
	Windows  int // that the network learned from
	Diverged int // times that learning was given up, because the weights would have left the finite numbers
	Thesis   []adapt.Report
}

// Teacher is the weights that answer after what was learned.
func (m *Model) Teacher(l Learned) adapt.Weights {
	switch {
	case l.Sets == nil:
		return m.Engine.Network().Source()
	case m.Thesis.StudentAnswers:
		return l.Sets.Student
	}
	return l.Sets.Averages[0]
}

// Interact answers one interaction: the whole current set of strokes on an image whose state is st, by a user who has taught the
// network learned. It returns what is learned now and the new state, whose Labels are the answer. The arguments stay as
// they were; when an error is returned nothing has changed.
func (m *Model) Interact(ctx context.Context, img Image, req Request, learned Learned, st State, turn Turn) (Learned, State, Report, error) {
	var r Report
	for _, mark := range req.Marks {
		if mark.Class < 0 || mark.Class >= m.Engine.Network().Classes || !mark.Strokes.Empty() && mark.Strokes.Size != img.Volume.Size {
			return Learned{}, State{}, r, fmt.Errorf("strokes of class %d on %v voxels; classes 0 to %d on the image's %v voxels are wanted",
				mark.Class, mark.Strokes.Size, m.Engine.Network().Classes-1, img.Volume.Size)
		}
	}
	for _, e := range [][]uint8{req.Edits, st.Edits} {
		if e != nil && (len(e) != len(img.Volume.Voxels) || int(slices.Max(e)) > len(m.Classes)+1) {
			return Learned{}, State{}, r, fmt.Errorf("edits of %d voxels, or of a label without a number; the image has %d voxels and %d labels", len(e), len(img.Volume.Voxels), len(m.Classes))
		}
	}
	if m.Thesis.Guard && !req.Frozen {
		return m.guarded(ctx, img, req, learned, st, turn)
	}
	g := m.gridOf(img.Volume.Geometry)
	work := g.cut(img)
	strokes := voxels(req.Marks)
	edits := joined(st.Edits, req.Edits, strokes)
	drawn := m.withEdits(maps.Clone(strokes), edits)
	parts := m.parts(g, changed(drawn, m.withEdits(voxels(st.Marks), st.Edits)))
	if !req.Frozen {
		wide := m.withEdits(widened(req.Marks, m.Thickness), edits)
		for _, w := range parts {
			if err := m.learn(ctx, g, work, w, wide, st.Labels, &learned, &r, turn); err != nil {
				return Learned{}, State{}, r, err
			}
		}
	}
	next := State{Marks: req.Marks, Edits: edits, Labels: make([]uint8, len(img.Volume.Voxels)), Doubt: make([]float64, g.native[0]), Partial: req.PartOnly}
	if req.PartOnly {
		copy(next.Labels, st.Labels)
		copy(next.Doubt, st.Doubt)
	}
	for _, s := range m.stretches(g, parts, req.PartOnly) {
		p := m.painter(g, next.Labels, next.Doubt)
		p.from(s.start)
		if err := m.sweep(ctx, g, work, m.Teacher(learned), s.start, s.start+s.n, turn, p.put); err != nil {
			return Learned{}, State{}, r, err
		}
	}
	m.corrected(next.Labels, edits, strokes)
	return learned, next, r, nil
}

// stretches are the runs of the grid's slices to answer.
func (m *Model) stretches(g grid, parts []window, partOnly bool) []span {
	if !partOnly {
		return []span{{0, g.size[0]}}
	}
	var all []span
	for _, w := range parts {
		start, end := max(w[0].start, 0), min(w[0].start+w[0].n, g.size[0])
		if n := len(all); n > 0 && start <= all[n-1].start+all[n-1].n {
			all[n-1].n = max(all[n-1].start+all[n-1].n, end) - all[n-1].start
			continue
		}
		all = append(all, span{start, end - start})
	}
	return all
}

// write gives stroke voxels their label.
func (m *Model) write(labels []uint8, drawn map[int]int) {
	for at, l := range m.numbered(drawn) {
		labels[at] = l
	}
}

// numbered are the label numbers of the voxels drawn on, without disputed ones.
func (m *Model) numbered(drawn map[int]int) map[int]uint8 {
	number := map[int]uint8{}
	for i, c := range m.Classes {
		number[c.Index] = uint8(i + 1)
	}
	out := make(map[int]uint8, len(drawn))
	for at, class := range drawn {
		if class != disputed {
			out[at] = number[class]
		}
	}
	return out
}

// disputed is the class of a voxel that strokes of several classes claim: it says nothing.
const disputed = -1

func claim(on map[int]int, at, class int) {
	if before, ok := on[at]; ok && before != class {
		class = disputed
	}
	on[at] = class
}

// joined are the edits of before with newer ones over them, without those that strokes have been drawn over: they are the newer word.
func joined(before, newer []uint8, strokes map[int]int) []uint8 {
	if before == nil && newer == nil {
		return nil
	}
	out := slices.Clone(before)
	if out == nil {
		out = make([]uint8, len(newer))
	}
	for i, e := range newer {
		if e > 0 {
			out[i] = e
		}
	}
	for at := range strokes {
		out[at] = 0
	}
	return out
}

// taughtEdits is how many voxels changed by hand are learned from as strokes are; more, such as a segment that was drawn anew from
// another program's, are kept but say nothing of the network.
const taughtEdits = 1 << 18

// withEdits adds what was changed by hand to a drawing, where strokes say nothing else.
func (m *Model) withEdits(on map[int]int, edits []uint8) map[int]int {
	n := 0
	for _, e := range edits {
		if e > 0 {
			n++
		}
	}
	if n == 0 || n > taughtEdits {
		return on
	}
	for at, e := range edits {
		if _, stroke := on[at]; e > 0 && !stroke {
			class := 0
			if e > 1 {
				class = m.Classes[e-2].Index
			}
			on[at] = class
		}
	}
	return on
}

// voxels are the voxels drawn on, by their place in memory, with their class.
func voxels(marks []Mark) map[int]int {
	on := map[int]int{}
	for _, m := range marks {
		m.Strokes.Voxels(func(at int, positive bool) {
			if positive {
				claim(on, at, m.Class)
			} else {
				claim(on, at, 0)
			}
		})
	}
	return on
}

// widened is voxels with strokes as thick as the scribble mask of the thesis makes them (3.2.2).
func widened(marks []Mark, t scribble.Thickness) map[int]int {
	on := map[int]int{}
	for _, m := range marks {
		for _, p := range m.Strokes.Planes() {
			marked, object := m.Strokes.LossMaps(p, t)
			w := m.Strokes.Size[0]
			if p.Axis == 0 {
				w = m.Strokes.Size[1]
			}
			for i, v := range marked {
				if v == 0 {
					continue
				}
				v := p.Voxel(scribble.Point{X: i % w, Y: i / w})
				claim(on, (v[2]*m.Strokes.Size[1]+v[1])*m.Strokes.Size[0]+v[0], int(object[i])*m.Class)
			}
		}
	}
	return on
}

// changed lists the voxels whose class differs, in order.
func changed(now, before map[int]int) []int {
	differs := map[int]bool{}
	for at, c := range now {
		if b, ok := before[at]; !ok || b != c {
			differs[at] = true
		}
	}
	for at := range before {
		if _, ok := now[at]; !ok {
			differs[at] = true
		}
	}
	return slices.Sorted(maps.Keys(differs))
}

// parts are the windows around voxels whose strokes changed: for a network of slices one a slice, or more where strokes lie too far
// apart for one; for one of volumes as few as hold them all. They are in the order of the grid.
func (m *Model) parts(g grid, at []int) []window {
	points := make([][3]int, len(at))
	for i, v := range at {
		points[i] = g.toGrid(v)
	}
	slices.SortFunc(points, func(a, b [3]int) int { return g.index(a) - g.index(b) })
	limit := m.limits(g)
	var all []window
	for len(points) > 0 {
		lo, hi := points[0], points[0]
		var rest [][3]int
		for _, p := range points {
			nlo, nhi, fits := lo, hi, true
			for t := range 3 {
				nlo[t], nhi[t] = min(lo[t], p[t]), max(hi[t], p[t])
				fits = fits && nhi[t]-nlo[t] < limit[t]
			}
			if fits {
				lo, hi = nlo, nhi
			} else {
				rest = append(rest, p)
			}
		}
		all = append(all, m.windowAround(g, lo, hi))
		points = rest
	}
	slices.SortStableFunc(all, func(a, b window) int { return a[0].start - b[0].start })
	return all
}

// limits is how far strokes of one window may lie apart along each axis.
func (m *Model) limits(g grid) [3]int {
	limit := g.size
	axes := len(m.Engine.Network().Size)
	if axes == 2 {
		limit[0] = 1
	}
	for a, n := range m.Input.Patch {
		limit[3-axes+a] = n
	}
	return limit
}

func (m *Model) windowAround(g grid, lo, hi [3]int) window {
	var w window
	for t := range 3 {
		patch, multiple := m.side(t, g.size[t])
		w[t] = around(lo[t], hi[t], g.size[t], patch, multiple)
	}
	return w
}

// learn does one interaction of the thesis's method on a window, with all strokes in it.
func (m *Model) learn(ctx context.Context, g grid, work []float32, w window, wide map[int]int, shown []uint8, learned *Learned, r *Report, turn Turn) error {
	s, any := m.lesson(g, work, w, wide)
	if !any {
		return nil // all that was drawn here has been erased
	}
	if shown != nil {
		s.Shown = m.classesIn(g, w, shown)
	}
	sets := learned.Sets
	if sets == nil {
		fresh := m.Engine.NewSets(1)
		sets = &fresh
	}
	var next adapt.Sets
	var report adapt.Report
	err := turn(ctx, func() (err error) {
		_, next, report, err = m.Engine.Interact(ctx, m.Thesis, *sets, s, learned.Interactions)
		return err
	})
	if errors.Is(err, adapt.ErrDiverged) {
		r.Diverged++ // the user still gets an answer: that of the weights as they were
		return nil
	}
	if err != nil {
		return err
	}
	*learned = Learned{Sets: &next, Interactions: learned.Interactions + 1}
	r.Windows++
	r.Thesis = append(r.Thesis, report)
	return nil
}

// classesIn are the classes [1,1,H,W] that an answer has in a window; background beyond the image.
func (m *Model) classesIn(g grid, w window, labels []uint8) *tensor.Tensor {
	t := tensor.Zeros[float32](append([]int{1, 1}, w.extent(len(m.Engine.Network().Size))...)...)
	w.each(func(at int, p [3]int) {
		if g.inside(p) {
			if l := labels[g.toVolume(p)]; l > 0 {
				t.Float32s()[at] = float32(m.Classes[l-1].Index)
			}
		}
	})
	return t
}

// lesson is a window with its strokes, one-hot over the classes. However coarse the grid is, no stroke vanishes; voxels of it that
// several classes reach say nothing.
func (m *Model) lesson(g grid, work []float32, w window, wide map[int]int) (adapt.Slice, bool) {
	n := w.voxels()
	on := map[int]int{} // by place in the window
	valid := make([]float32, n)
	w.each(func(at int, p [3]int) {
		if !g.inside(p) {
			return
		}
		valid[at] = 1
		if class, ok := wide[g.toVolume(p)]; ok {
			claim(on, at, class)
		}
	})
	for v, class := range wide {
		p := g.toGrid(v)
		d, h, x := p[0]-w[0].start, p[1]-w[1].start, p[2]-w[2].start
		if d >= 0 && h >= 0 && x >= 0 && d < w[0].n && h < w[1].n && x < w[2].n {
			claim(on, (d*w[1].n+h)*w[2].n+x, class)
		}
	}
	classes := m.Engine.Network().Classes
	extent := w.extent(len(m.Engine.Network().Size))
	shape := func(channels int) []int { return append([]int{1, channels}, extent...) }
	s := adapt.Slice{X: m.tensorOf(g.see(work, w), w), Valid: tensor.Must(shape(1), valid),
		Scribble: tensor.Zeros[float32](shape(classes)...), Marked: tensor.Zeros[float32](shape(1)...)}
	any := false
	for at, class := range on {
		if class != disputed {
			s.Marked.Float32s()[at] = 1
			s.Scribble.Float32s()[class*n+at] = 1
			any = true
		}
	}
	return s, any
}
