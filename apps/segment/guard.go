package segment

import (
	"context"
	"encoding/hex"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/engine/adapt"
)

// This file answers for networks whose learning is guarded ([adapt.Config.Guard]). A few strokes on a network that knows an image well
// teach it as much that is wrong as that is right, and one that knows nothing of it is best believed as soon as it has learned. So
// several experts answer, and what the user has said chooses among them:
//
//   - The first mask of an image is the source weights', or that of the weights that have learned where theirs have agreed better with what
//     earlier images were left with.
//   - Strokes are drawn where the shown answer is wrong. If an expert that was not shown has most of them right, of each label that was drawn,
//     it was right where it mattered, and its mask becomes the answer, unless its record is the worse. Nothing that it could have learned from those strokes counts.
//     The source weights on the image's negative are such an expert, too: stains show dark on bright what fluorescence shows bright
//     on dark. When they are believed, later images are shown as negatives from the start.
//   - Otherwise the answer changes only where the user has said so: in each connected region on which the weights that have now learned
//     differ from it and in which strokes take their side.

// Guarded is what a guard remembers of an image.
type Guarded struct {
	// First is the first mask of each expert, as label numbers.
	First [][]uint8
	// Taught is the answer of the weights that have learned, with all strokes.
	Taught []uint8
}

// explains is the share of strokes that an expert must have right, beyond what the shown answer had.
const explains = 0.5

// reach is how many voxels a voxel of a stroke speaks for at most, nearest first.
const reach = 5

// guarded is Interact for a guarded model.
func (m *Model) guarded(ctx context.Context, img Image, req Request, learned Learned, st State, turn Turn) (Learned, State, Report, error) {
	var r Report
	strokes := voxels(req.Marks)
	edits := joined(st.Edits, req.Edits, strokes)
	g := m.gridOf(img.Volume.Geometry)
	parts := m.parts(g, changed(m.withEdits(voxels(req.Marks), edits), m.withEdits(voxels(st.Marks), st.Edits)))
	next := State{Marks: req.Marks, Edits: edits, Labels: st.Labels, Doubt: st.Doubt, Guard: st.Guard}
	if len(parts) == 0 && st.Guard != nil {
		return learned, next, r, nil
	}
	now, before := m.numbered(strokes), m.numbered(voxels(st.Marks))
	sets := m.Engine.NewSets(1)
	if learned.Sets != nil {
		sets = *learned.Sets
	}
	if next.Guard == nil {
		first, err := m.firstMasks(ctx, img, Learned{Sets: &sets, Interactions: learned.Interactions}, turn)
		if err != nil {
			return Learned{}, State{}, r, err
		}
		next.Guard = &Guarded{First: first}
	}
	hash := img.Volume.Hash()
	trust := sets.Trust.On(hex.EncodeToString(hash[:]), learned.Sets != nil)
	shown := m.shown(img, &trust, next.Guard, st, now, before)
	work := polarised(g.cut(img), trust.Negative)
	if trust.Negative != sets.Trust.Negative {
		sets = m.Engine.NewSets(1) // what was learned was learned of the other
	}
	sets.Trust = trust
	taught := Learned{Sets: &sets, Interactions: learned.Interactions}
	wide := m.withEdits(widened(req.Marks, m.Thickness), edits)
	for _, w := range parts {
		if err := m.learn(ctx, g, work, w, wide, shown, &taught, &r, turn); err != nil {
			return Learned{}, State{}, r, err
		}
	}
	answer := make([]uint8, len(shown))
	next.Doubt = make([]float64, g.native[0])
	if err := m.sweep(ctx, g, work, m.Teacher(taught), 0, g.size[0], turn, m.painter(g, answer, next.Doubt).put); err != nil {
		return Learned{}, State{}, r, err
	}
	next.Labels = m.corrected(merged(img.Volume.Size, shown, answer, now, false), edits, strokes)
	next.Guard = &Guarded{First: next.Guard.First, Taught: m.corrected(merged(img.Volume.Size, shown, answer, now, true), edits, strokes)}
	if r.Windows == 0 {
		return learned, next, r, nil
	}
	left := *taught.Sets
	for _, w := range parts {
		left = left.Answered(m.tensorOf(g.see(work, w), w), m.classesIn(g, w, next.Labels))
	}
	left.Trust.Tried = true
	for e, mask := range next.Guard.First {
		left.Trust.Trial[e] = agreement(mask, next.Labels)
	}
	return Learned{Sets: &left, Interactions: taught.Interactions}, next, r, nil
}

// corrected is an answer, in place, with what the user has changed by hand and drawn.
func (m *Model) corrected(labels, edits []uint8, strokes map[int]int) []uint8 {
	for i, e := range edits {
		if e > 0 {
			labels[i] = e - 1
		}
	}
	m.write(labels, strokes)
	return labels
}

// firstMasks are the masks of all experts of an image that nobody has drawn on.
func (m *Model) firstMasks(ctx context.Context, img Image, l Learned, turn Turn) ([][]uint8, error) {
	all := make([][]uint8, adapt.Experts)
	for e := range all {
		if e == adapt.Taught && l.Interactions == 0 {
			all[e] = all[adapt.AsIs] // nothing is learned yet
			continue
		}
		w, negative := m.of(l, e)
		var err error
		if all[e], err = m.whole(ctx, img, w, negative, turn); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// polarised turns intensities from 0…1 into those of the negative.
func polarised(work []float32, negative bool) []float32 {
	if negative {
		for i, v := range work {
			work[i] = 1 - v
		}
	}
	return work
}

// shown is the answer that the interaction's strokes correct, after an expert that explains them has taken its place.
func (m *Model) shown(img Image, trust *adapt.Trust, g *Guarded, st State, now, before map[int]uint8) []uint8 {
	fresh := map[int]uint8{}
	for at, l := range now {
		if was, ok := before[at]; !ok || was != l {
			fresh[at] = l
		}
	}
	begun := g.Taught != nil && len(before) > 0
	for at := range before {
		if _, still := now[at]; !still {
			begun = false // something was taken back: what it had changed goes too
		}
	}
	if begun {
		if explained(st.Labels, g.Taught, fresh) > explains {
			return merged(img.Volume.Size, st.Labels, g.Taught, now, true)
		}
		return st.Labels
	}
	best := trust.Best()
	chosen, share := best, explains
	for e := range g.First {
		if e == adapt.Taught && !trust.Learned {
			continue // it is the source
		}
		if s := explained(g.First[best], g.First[e], fresh); s > share && trust.Of(e) >= trust.Of(best) {
			chosen, share = e, s
		}
	}
	if chosen != adapt.Taught && chosen != trust.Source() {
		*trust = trust.Turned()
	}
	return g.First[chosen]
}

// explained is the share of strokes' voxels that a rival has right and the shown answer has not, less the other way round: the smallest over the
// labels drawn.
func explained(shown, rival []uint8, drawn map[int]uint8) float64 {
	var more, all [256]float64
	for at, l := range drawn {
		all[l]++
		if rival[at] == l {
			more[l]++
		}
		if shown[at] == l {
			more[l]--
		}
	}
	least := 1.0
	for l, n := range all {
		if n > 0 {
			least = min(least, more[l]/n)
		}
	}
	if len(drawn) == 0 {
		return 0
	}
	return least
}

// merged joins a shown answer with a rival's. Each connected region on which they differ goes to the one that most of the strokes in it speak
// for; regions without strokes go to the rival if it leads, else they stay as shown.
func merged(size [3]int, shown, rival []uint8, drawn map[int]uint8, leads bool) []uint8 {
	out := slices.Clone(shown)
	pairs := map[[2]uint8]bool{}
	for i, l := range shown {
		if l != rival[i] {
			pairs[[2]uint8{l, rival[i]}] = true
		}
	}
	for pair := range pairs {
		differs := make([]bool, len(shown))
		for i := range differs {
			differs[i] = shown[i] == pair[0] && rival[i] == pair[1]
		}
		regions, sizes := morph.Components3(differs, size, morph.Six)
		votes := make([]int, len(sizes))
		for at, l := range drawn {
			switch l {
			case pair[1]:
				votes[regions[at]]++
			case pair[0]:
				votes[regions[at]]--
			}
		}
		for i, region := range regions {
			if region > 0 && votes[region] >= 0 && leads {
				out[i] = pair[1]
			}
		}
		if !leads {
			spoken(size, regions, votes, drawn, pair[1], out)
		}
	}
	return out
}

// spoken gives voxels the label of the strokes that speak for it in their region: in each, the nearest to the strokes, reach times as many as
// the strokes have.
func spoken(size [3]int, regions []int32, votes []int, drawn map[int]uint8, label uint8, out []uint8) {
	left := make([]int, len(votes))
	var queue []int
	reached := map[int]bool{}
	for at, l := range drawn {
		if region := regions[at]; region > 0 && votes[region] > 0 && l == label {
			queue = append(queue, at)
			reached[at] = true
			left[region] += reach
		}
	}
	slices.Sort(queue)
	steps := [3]int{1, size[0], size[0] * size[1]}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		region := regions[at]
		if left[region] == 0 {
			continue
		}
		left[region]--
		out[at] = label
		p := [3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])}
		for axis, step := range steps {
			for _, d := range [2]int{-1, 1} {
				if n := p[axis] + d; n < 0 || n >= size[axis] {
					continue
				}
				if to := at + d*step; regions[to] == region && !reached[to] {
					reached[to] = true
					queue = append(queue, to)
				}
			}
		}
	}
}

// agreement is the mean Dice coefficient over the labels but background that occur in either answer; 1 when none does.
func agreement(a, b []uint8) float64 {
	var both, sizes [256]float64
	for i, l := range a {
		sizes[l]++
		sizes[b[i]]++
		if l == b[i] {
			both[l]++
		}
	}
	sum, n := 0.0, 0.0
	for l := 1; l < len(sizes); l++ {
		if sizes[l] > 0 {
			sum += 2 * both[l] / sizes[l]
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return sum / n
}

// begins are the weights that make the first mask of an image, and whether they are shown its negative.
func (m *Model) begins(l Learned) (w adapt.Weights, negative bool) {
	if !m.Thesis.Guard || l.Sets == nil {
		return m.Teacher(l), false
	}
	return m.of(l, l.Sets.Trust.Best())
}

// of are the weights of an expert, and whether it sees negatives.
func (m *Model) of(l Learned, expert int) (w adapt.Weights, negative bool) {
	if expert == adapt.Taught {
		return m.Teacher(l), l.Sets.Trust.Negative
	}
	return m.Engine.Network().Source(), expert == adapt.Negative
}

// Untouched answers an image that nobody has drawn on by what a user has taught the network: the label numbers of its voxels, i fastest.
func (m *Model) Untouched(ctx context.Context, img Image, l Learned, turn Turn) ([]uint8, error) {
	w, negative := m.begins(l)
	return m.whole(ctx, img, w, negative, turn)
}

// whole answers a whole image, or its negative.
func (m *Model) whole(ctx context.Context, img Image, w adapt.Weights, negative bool, turn Turn) ([]uint8, error) {
	g := m.gridOf(img.Volume.Geometry)
	out := make([]uint8, len(img.Volume.Voxels))
	err := m.sweep(ctx, g, polarised(g.cut(img), negative), w, 0, g.size[0], turn, m.painter(g, out, make([]float64, g.native[0])).put)
	return out, err
}
