package interact

import (
	"math"
	"strings"
	"testing"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
)

func TestStrokeEncodings(t *testing.T) {
	strokes := morph.New(7, 1)
	strokes.Bits[3] = true
	tanh := func(d float64) float32 { return float32(math.Tanh(2 * d / 2)) }
	for name, c := range map[string]struct {
		in      Input
		strokes morph.Mask
		want    []float32
	}{
		"map":                 {Input{}, strokes, []float32{0, 0, 0, 1, 0, 0, 0}},
		"disc":                {Input{Prompts: PromptDisc, Radius: 2}, strokes, []float32{0, 1, 1, 1, 1, 1, 0}},
		"distance":            {Input{Prompts: PromptDistance, Radius: 2}, strokes, []float32{tanh(3), tanh(2), tanh(1), 0, tanh(1), tanh(2), tanh(3)}},
		"distance of nothing": {Input{Prompts: PromptDistance, Radius: 2}, morph.New(7, 1), []float32{1, 1, 1, 1, 1, 1, 1}},
		"disc of nothing":     {Input{Prompts: PromptDisc, Radius: 2}, morph.New(7, 1), make([]float32, 7)},
	} {
		got := make([]float32, 7)
		c.in.strokePlane(got, c.strokes)
		for i, w := range c.want {
			if math.Abs(float64(got[i]-w)) > 1e-6 {
				t.Errorf("%s: pixel %d is %g, want %g", name, i, got[i], w)
			}
		}
	}
}

func TestPreviousEncodings(t *testing.T) {
	previous := []float32{0, 0.25, 0.5, 0.75, 1}
	for name, c := range map[string]struct {
		form Previous
		want []float32
	}{
		"probability": {PreviousProbability, previous},
		"default":     {"", previous},
		"logits":      {PreviousLogits, []float32{-10, -float32(math.Log(3)), 0, float32(math.Log(3)), 10}},
		"mask":        {PreviousMask, []float32{0, 0, 0, 1, 1}},
	} {
		got := make([]float32, 5)
		Input{Previous: c.form}.previousPlane(got, previous)
		for i, w := range c.want {
			if math.Abs(float64(got[i]-w)) > 1e-5 {
				t.Errorf("%s: %v, want %v", name, got, c.want)
				break
			}
		}
		empty := make([]float32, 5)
		Input{Previous: c.form}.previousPlane(empty, nil)
		for _, v := range empty {
			if v != 0 {
				t.Errorf("%s: nothing predicted shows as %v", name, empty)
				break
			}
		}
	}
}

func TestEncodingsAreChecked(t *testing.T) {
	good := Input{Channels: []Channel{ChannelImage, ChannelImage, ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious, ChannelBox},
		Grid: 64, Multiple: 16, Percentiles: [2]float64{0, 100}, Prompts: PromptDisc, Radius: 5, Previous: PreviousLogits}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Input){
		"prompts":            func(in *Input) { in.Prompts = "dots" },
		"disc, no radius":    func(in *Input) { in.Radius = 0 },
		"radius without use": func(in *Input) { in.Prompts = PromptMap },
		"previous":           func(in *Input) { in.Previous = "logit" },
		"channel":            func(in *Input) { in.Channels = append(in.Channels, "click") },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestBoxChannel(t *testing.T) {
	v := volume.NewVolume(volume.New([3]int{6, 5, 4}, [3]float64{1, 1, 1}))
	m := &Model{Input: Input{Channels: []Channel{ChannelImage, ChannelBox}}}
	r := &run{Model: m, img: Image{Volume: v}, req: Request{Strokes: scribble.NewSet(v.Size), Box: &[2][3]int{{1, 2, 1}, {4, 4, 3}}}}
	for slice, want := range map[int]int{0: 0, 1: 6, 2: 6, 3: 0} {
		if got := r.boxMask(SliceKey{Axis: 2, Slice: slice}).Count(); got != want {
			t.Errorf("slice %d: the box has %d pixels, want %d", slice, got, want)
		}
	}
	if r.Input.Channels = []Channel{ChannelImage}; r.boxMask(SliceKey{Axis: 2, Slice: 1}) != nil {
		t.Error("a box for a network that sees none")
	}
}

func TestPointMap(t *testing.T) {
	in := Input{Grid: 32, Points: 4}
	mask := func(points ...morph.Point) morph.Mask { return morph.FromPoints(32, 32, points) }
	line := func(y int) morph.Mask {
		m := morph.New(32, 32)
		for x := 4; x < 29; x++ {
			m.Set(x, y, true)
		}
		return m
	}
	for name, c := range map[string]struct {
		positive, negative morph.Mask
		want               map[morph.Point]float32
	}{
		"nothing":    {mask(), mask(), nil},
		"a click":    {mask(morph.Point{X: 9, Y: 9}, morph.Point{X: 10, Y: 9}), mask(), map[morph.Point]float32{{X: 9, Y: 9}: 4}},
		"a line":     {line(3), mask(), map[morph.Point]float32{{X: 16, Y: 3}: 4, {X: 4, Y: 3}: 3, {X: 28, Y: 3}: 2, {X: 10, Y: 3}: 1}},
		"two halves": {line(3), line(20), map[morph.Point]float32{{X: 16, Y: 3}: 4, {X: 4, Y: 3}: 3, {X: 16, Y: 20}: -2, {X: 4, Y: 20}: -1}},
		"few beside": {line(3), mask(morph.Point{X: 1, Y: 1}), map[morph.Point]float32{{X: 16, Y: 3}: 4, {X: 4, Y: 3}: 3, {X: 28, Y: 3}: 2, {X: 1, Y: 1}: -1}},
		"contested":  {mask(morph.Point{X: 5, Y: 5}), mask(morph.Point{X: 5, Y: 5}), map[morph.Point]float32{{X: 5, Y: 5}: -4}},
		"two strokes": {mask(morph.Point{X: 2, Y: 2}, morph.Point{X: 30, Y: 30}), mask(),
			map[morph.Point]float32{{X: 2, Y: 2}: 4, {X: 30, Y: 30}: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got := make([]float32, 32*32)
			in.PointMap(got, c.positive, c.negative)
			for i, v := range got {
				if p := (morph.Point{X: i % 32, Y: i / 32}); v != c.want[p] {
					t.Errorf("pixel %v is %g, want %g", p, v, c.want[p])
				}
			}
		})
	}
	bad := Input{Channels: []Channel{ChannelImage, ChannelPoints}, Grid: 32, Multiple: 1, Percentiles: [2]float64{0, 100}}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "0 points") {
		t.Errorf("error %v, want one about the number of points", err)
	}
	if bad.Points = 3; bad.Validate() != nil || !bad.Conditioned() {
		t.Errorf("%v; sees strokes: %v", bad.Validate(), bad.Conditioned())
	}
}
