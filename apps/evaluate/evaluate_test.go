package evaluate

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
)

// block is a volume of 24×20×8 voxels with a box of label 3 in slices 2 to 6, bright on dark. Slice 6 holds only part of it.
func block(t *testing.T) Case {
	t.Helper()
	g := volume.New([3]int{24, 20, 8}, [3]float64{1, 1, 5})
	v, m := volume.NewVolume(g), volume.NewLabelMap(g)
	for k := 2; k <= 6; k++ {
		for j := 4; j < 16; j++ {
			for i := 6; i < 18; i++ {
				if k == 6 && j > 8 {
					continue
				}
				at := g.Index(i, j, k)
				v.Voxels[at], m.Labels[at] = 100+float32(i), 3
			}
		}
	}
	c, err := NewCase("block", "box", v, m, 3)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stripes answers each slice with the columns of the truth left of a border that moves right with each interaction on the slice, and
// carries nothing. It keeps what it was asked.
type stripes struct {
	c        Case
	reach    int // columns gained by an interaction
	asked    []interact.Request
	finished []scribble.Set // the state's strokes at each Finish
	memory   []int          // lessons handed in with each request
}

func (s *stripes) Prepare(v *volume.Volume) interact.Image { return interact.Image{Volume: v, High: 1} }

func (s *stripes) Interact(_ context.Context, _ interact.Image, req interact.Request, l interact.Learned, st interact.State) (interact.Result, interact.Learned, interact.State, error) {
	s.asked = append(s.asked, req)
	s.memory = append(s.memory, int(l.Interactions))
	anchors := maps.Clone(st.Anchors)
	if anchors == nil {
		anchors = map[interact.SliceKey]interact.Anchor{}
	}
	for _, key := range req.Strokes.Added(st.Strokes).Planes() {
		a := anchors[key]
		a.Stages = append(slices.Clone(a.Stages), interact.Stage{})
		anchors[key] = a
	}
	mask := make([]bool, len(s.c.Truth))
	size := s.c.Volume.Size
	for i, truth := range s.c.Truth {
		visits := len(anchors[interact.SliceKey{Axis: 2, Slice: i / (size[0] * size[1])}].Stages)
		mask[i] = truth && i%size[0] < 6+s.reach*visits
	}
	req.Strokes.Voxels(func(at int, positive bool) { mask[at] = positive })
	next := interact.State{Strokes: req.Strokes, Anchors: anchors, Answer: mask}
	report := interact.Report{}
	if req.Profile == interact.ProfileHindsight && len(st.Anchors) > 0 && len(anchors) > len(st.Anchors) {
		report.Learned = st.Strokes.Planes()[:1]
	}
	l.Interactions++
	return interact.Result{Mask: mask, Report: report}, l, next, nil
}

func (s *stripes) Finish(_ context.Context, _ interact.Image, _ interact.Options, l interact.Learned, st interact.State) (interact.Learned, interact.State, interact.Report, error) {
	s.finished = append(s.finished, st.Strokes)
	return l, st, interact.Report{}, nil
}

func protocol() Protocol {
	return Protocol{Mode: BySlice, Interactions: 3, Every: 2, MinPixels: 100, Methods: profiles(interact.ProfileFrozen), Seeds: []uint64{7}}
}

// profiles are methods that are called by how they learn. They have no model yet.
func profiles(all ...interact.Profile) []Method {
	var methods []Method
	for _, p := range all {
		methods = append(methods, Method{Name: string(p), Profile: p})
	}
	return methods
}

// with gives a protocol's methods a model.
func (p Protocol) with(m Segmenter, source adapt.Weights) Protocol {
	p.Methods = slices.Clone(p.Methods)
	for i := range p.Methods {
		if p.Methods[i].Hand == "" {
			p.Methods[i].Model, p.Methods[i].Source = m, source
		}
	}
	return p
}

func courses(t *testing.T, p Protocol, m Segmenter, c Case) []Course {
	t.Helper()
	all, err := Evaluation{Protocol: p.with(m, nil)}.Run(context.Background(), []Case{c})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Slices 2, 3, 4, 5 hold 144 pixels and slice 6 only 60: every second of them is 2 and 4.
func TestSlicesAreAnnotatedInOrder(t *testing.T) {
	c := block(t)
	m := &stripes{c: c, reach: 2}
	all := courses(t, protocol(), m, c)
	if len(all) != 1 || len(all[0].Series) != 2 {
		t.Fatalf("%d courses, the first with %d series; want one with two", len(all), len(all[0].Series))
	}
	for i, s := range all[0].Series {
		if s.Slice != 2+2*i || s.Position != i || len(s.Points) != 4 {
			t.Errorf("series %d: slice %d, position %d, %d points", i, s.Slice, s.Position, len(s.Points))
		}
		if s.Points[0].Dice != 0 || s.Points[0].Strokes != 0 {
			t.Errorf("before any stroke: %+v, want Dice 0", s.Points[0])
		}
		for k, p := range s.Points[1:] {
			if p.Strokes != 1 || p.Dice <= s.Points[k].Dice || p.Slice != s.Slice {
				t.Errorf("slice %d, interaction %d: %+v after %+v", s.Slice, k+1, p, s.Points[k])
			}
		}
	}
	// Three interactions, moving on, three interactions.
	if len(m.asked) != 7 || len(m.finished) != 1 {
		t.Fatalf("%d requests and %d submissions, want 7 and 1", len(m.asked), len(m.finished))
	}
	for i, req := range m.asked {
		if onward := i == 3; req.SliceOnly == onward || (req.Box != nil) != onward {
			t.Errorf("request %d: slice only %v, box %v", i, req.SliceOnly, req.Box)
		}
	}
	if want := (&[2][3]int{{0, 0, 2}, {24, 20, 5}}); *m.asked[3].Box != *want {
		t.Errorf("moving on asks for %v, want slices 2 to 4: %v", *m.asked[3].Box, *want)
	}
	if all[0].Touched != 2 {
		t.Errorf("%d slices touched, want 2", all[0].Touched)
	}
}

func TestTheWholeSetIsSentEveryTime(t *testing.T) {
	for _, mode := range []Mode{BySlice, ByVolume} {
		p := protocol()
		p.Mode, p.Interactions = mode, 5
		c := block(t)
		m := &stripes{c: c, reach: 1}
		courses(t, p, m, c)
		for i := 1; i < len(m.asked); i++ {
			before, now := m.asked[i-1].Strokes, m.asked[i].Strokes
			if !now.Removed(before).Empty() {
				t.Errorf("%s: request %d lacks strokes of the one before", mode, i)
			}
			added := now.Added(before)
			if moving := m.asked[i].Box != nil; added.Empty() != moving || len(added.Planes()) > 1 {
				t.Errorf("%s: request %d adds strokes on %d slices; moving on: %v", mode, i, len(added.Planes()), moving)
			}
			if m.memory[i] != i {
				t.Errorf("%s: request %d comes with what %d others taught, want all", mode, i, m.memory[i])
			}
		}
	}
}

func TestAnnotatorStopsWhenNothingIsLeft(t *testing.T) {
	p := protocol()
	p.Interactions = 6
	c := block(t)
	m := &stripes{c: c, reach: 6} // all twelve columns are there after two interactions
	for _, s := range courses(t, p, m, c)[0].Series {
		if len(s.Points) != 3 || s.Points[2].Dice != 1 || s.At(6).Dice != 1 {
			t.Errorf("slice %d: %d points, the last %+v", s.Slice, len(s.Points), s.At(6))
		}
	}
	if len(m.asked) != 5 {
		t.Errorf("%d requests, want two for each slice and one to move on", len(m.asked))
	}
}

func TestVolumeCorrectsTheWorstSlice(t *testing.T) {
	p := protocol()
	p.Mode, p.Interactions, p.MinPixels = ByVolume, 6, 10
	c := block(t)
	m := &stripes{c: c, reach: 12}
	course := courses(t, p, m, c)[0]
	if len(course.Series) != 1 {
		t.Fatalf("%d series, want one", len(course.Series))
	}
	var on []int
	points := course.Series[0].Points
	for i, pt := range points[1:] {
		on = append(on, pt.Slice)
		if pt.Dice <= points[i].Dice {
			t.Errorf("interaction %d: 3-D Dice %v after %v", i+1, pt.Dice, points[i].Dice)
		}
	}
	if !slices.Equal(on, []int{2, 3, 4, 5, 6}) {
		t.Errorf("corrected slices %v, want the full ones in order, then the small one, then none", on)
	}
	if points[1].Untouched != 0 || !math.IsNaN(points[5].Untouched) {
		t.Errorf("untouched slices: %v, at last %v; want 0 and none", points[1].Untouched, points[5].Untouched)
	}
}

func TestLearningOnLeaving(t *testing.T) {
	p := protocol()
	p.LearnOnLeaving = true
	c := block(t)
	m := &stripes{c: c, reach: 2}
	courses(t, p, m, c)
	if len(m.finished) != 2 || len(m.finished[0].Planes()) != 1 || len(m.finished[1].Planes()) != 2 {
		t.Errorf("told %d times that slices are finished, want after each of the two", len(m.finished))
	}
}

// A method meets the same annotator as every other one: with the same answers, the same strokes are drawn.
func TestProfilesArePaired(t *testing.T) {
	c := block(t)
	drawn := func(profile interact.Profile, seed uint64) string {
		p := protocol()
		p.Methods, p.Seeds, p.Annotator.Shape = profiles(profile), []uint64{seed}, simulate.Line
		m := &stripes{c: c, reach: 2}
		courses(t, p, m, c)
		return m.asked[len(m.asked)-1].Strokes.Key()
	}
	frozen := drawn(interact.ProfileFrozen, 1)
	if drawn(interact.ProfileHindsight, 1) != frozen || drawn(interact.ProfileFrozen, 1) != frozen {
		t.Error("the same seed drew different strokes")
	}
	if drawn(interact.ProfileFrozen, 2) == frozen {
		t.Error("two seeds drew the same strokes")
	}
}

func TestSurfacesOfEmptyMasks(t *testing.T) {
	c := block(t)
	s := courses(t, protocol(), &stripes{c: c, reach: 2}, c)[0].Series[0]
	if want := math.Hypot(24, 20); math.Abs(s.Points[0].HD95-want) > 1e-9 || s.Points[0].SurfaceDice != 0 {
		t.Errorf("an empty answer is %v mm away with surface Dice %v, want the slice's diagonal %v and 0", s.Points[0].HD95, s.Points[0].SurfaceDice, want)
	}
}

func TestSliceOfAnyPlane(t *testing.T) {
	g := volume.New([3]int{3, 4, 5}, [3]float64{1, 1, 1})
	bits := make([]bool, g.Voxels())
	bits[g.Index(1, 2, 3)] = true
	for p, at := range map[volume.Plane][3]int{volume.PlaneI: {1, 2, 3}, volume.PlaneJ: {2, 1, 3}, volume.PlaneK: {3, 1, 2}} {
		for n := range g.Size[p] {
			points := sliceOf(g, p, n, bits).Points()
			if n != at[0] && len(points) > 0 || n == at[0] && !slices.Equal(points, []morph.Point{{X: at[1], Y: at[2]}}) {
				t.Errorf("plane %v, slice %d: %v", p, n, points)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	c := block(t)
	for want, change := range map[string]func(*Protocol){
		"mode":         func(p *Protocol) { p.Mode = "case" },
		"interactions": func(p *Protocol) { p.Interactions = 0 },
		"every":        func(p *Protocol) { p.Every = 0 },
		"pixels":       func(p *Protocol) { p.MinPixels = 0 },
		"profile":      func(p *Protocol) { p.Methods = profiles("magic") },
		"one method":   func(p *Protocol) { p.Methods = nil },
		"no name":      func(p *Protocol) { p.Methods = profiles("") },
		"twice":        func(p *Protocol) { p.Methods = profiles(interact.ProfileFrozen, interact.ProfileFrozen) },
		"by hand":      func(p *Protocol) { p.Methods = []Method{{Name: "foot", Hand: "foot"}} },
		"all at once":  func(p *Protocol) { p.Mode = Recorded },
		"models alone": func(p *Protocol) {
			p.Mode, p.Interactions, p.Methods = Recorded, 1, []Method{{Name: "manual", Hand: Manual}}
		},
		"recorded":      func(p *Protocol) { p.Mode, p.Interactions = Recorded, 1 },
		"one seed":      func(p *Protocol) { p.Seeds = nil },
		"pictures":      func(p *Protocol) { p.Pictures = -1 },
		"ask for fewer": func(p *Protocol) { p.MinPixels = 10000 },
	} {
		p := protocol()
		change(&p)
		_, err := Evaluation{Protocol: p.with(&stripes{c: c}, nil)}.Run(context.Background(), []Case{c})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	if _, err := (Evaluation{Protocol: protocol().with(&stripes{c: c}, nil)}).Run(context.Background(), nil); err == nil {
		t.Error("no case was measured without a complaint")
	}
	m := volume.NewLabelMap(c.Volume.Geometry)
	if _, err := NewCase("block", "box", c.Volume, m, 3); !errors.Is(err, ErrNoTarget) {
		t.Errorf("a target that is nowhere: %v, want ErrNoTarget", err)
	}
	m = volume.NewLabelMap(volume.New([3]int{24, 20, 7}, [3]float64{1, 1, 5}))
	if _, err := NewCase("block", "box", c.Volume, m, 3); err == nil {
		t.Error("labels of another grid were accepted")
	}
}
