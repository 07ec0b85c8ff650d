package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

const twoPartsYAML = `
name: x
models:
  - name: net
    type: scribbles
    encoder: encoder.onnx
    file: decoder.onnx
    mask: 1
    embeddings_mib: 8
    input: {channels: [image, points, previous], grid: 32, multiple: 8, range: [0, 1], points: 4, previous: logits, mean: [0.5], std: [0.25]}
    trainable: {exclude: [frequencies]}
    profile: hindsight
    hindsight: {steps: 2, batch: 2, augment: {noise: false, blur: false, inversion: false}}
`

// writeTwoParts writes an app of the network "sam" of engine/adapt's tests.
func writeTwoParts(t *testing.T, yaml string) string {
	t.Helper()
	data, err := os.ReadFile("../engine/adapt/testdata/two_parts.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Sam struct{ Encoder, Decoder []byte }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"app.yaml": []byte(yaml), "encoder.onnx": file.Sam.Encoder, "decoder.onnx": file.Sam.Decoder} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// watched runs graphs on the reference interpreter, and notes what images the network was asked about and how often its encoder ran.
type watched struct {
	images             map[string]bool
	encoded, predicted int
}

type watchedSession struct {
	*watched
	g *onnx.Graph
}

func (w *watched) compile(m *onnx.Model) (adapt.Session, error) {
	return watchedSession{w, m.Graph}, nil
}

func (s watchedSession) Run(ctx context.Context, in, _ map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	switch s.g.Name {
	case "encoder":
		s.encoded++
	case "predict":
		s.predicted++
		for _, v := range in {
			if v.Rank() == 4 && v.Shape()[1] == 3 {
				s.images[fmt.Sprint(v.Float32s()[:32*32])] = true
			}
		}
	}
	values, err := refexec.Run(s.g, in)
	if err != nil {
		return nil, err
	}
	out := map[string]*tensor.Tensor{}
	for _, o := range s.g.Outputs {
		v := values[o.Name]
		f := make([]float32, v.Len())
		for i, x := range tensor.Data[float64](v) {
			f[i] = float32(x)
		}
		out[o.Name] = tensor.Must(v.Shape(), f)
	}
	return out, ctx.Err()
}

func TestEncoderAndDecoderOfAnApp(t *testing.T) {
	app, err := Open(writeTwoParts(t, twoPartsYAML))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{images: map[string]bool{}}
	m, err := app.Load(app.Models[0], w.compile)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Hash) != 64 || !m.Input.Conditioned() {
		t.Errorf("hash %q, sees strokes: %v", m.Hash, m.Input.Conditioned())
	}
	size := [3]int{40, 36, 3}
	v := volume.NewVolume(volume.New(size, [3]float64{1, 1, 3}))
	for i := range v.Voxels {
		v.Voxels[i] = float32(i%37) / 37
	}
	img := m.Prepare(v)
	line := func(slice, y int, positive bool) scribble.Stroke {
		s := scribble.Stroke{Axis: 2, Slice: slice, Positive: positive}
		for x := 10; x < 25; x++ {
			s.Pixels = append(s.Pixels, scribble.Point{X: x, Y: y})
		}
		return s
	}
	ask := func(learned interact.Learned, st interact.State, strokes ...scribble.Stroke) (interact.Result, interact.Learned, interact.State) {
		t.Helper()
		req := interact.Request{Strokes: scribble.NewSet(size, strokes...), Options: interact.Options{Profile: interact.ProfileHindsight, SliceOnly: true}}
		res, learned, st, err := m.Interact(context.Background(), img, req, learned, st)
		if err != nil {
			t.Fatal(err)
		}
		return res, learned, st
	}
	_, learned, st := ask(interact.Learned{}, interact.State{}, line(0, 18, true))
	once := w.encoded
	ask(interact.Learned{}, interact.State{}, line(0, 18, true))
	if w.encoded != once {
		t.Errorf("the same slice through the same windows: the encoder ran %d times more", w.encoded-once)
	}
	if w.encoded == 0 || w.encoded != len(w.images) || w.predicted <= w.encoded {
		t.Errorf("the encoder ran %d times for %d images and %d answers", w.encoded, len(w.images), w.predicted)
	}
	one, _, _ := ask(interact.Learned{}, interact.State{}, line(0, 18, true), line(0, 5, false))
	other, _, _ := ask(interact.Learned{}, interact.State{}, line(0, 26, true), line(0, 5, false))
	if same(one.Mask, other.Mask) {
		t.Error("points elsewhere change nothing")
	}
	res, learned, _ := ask(learned, st, line(0, 18, true), line(2, 18, true))
	if len(res.Report.Learned) != 1 || learned.Memory == nil || interact.Distance(m.Engine.Network().Source(), learned) == 0 {
		t.Errorf("learned from %v, moved by %g: one slice is finished", res.Report.Learned, interact.Distance(m.Engine.Network().Source(), learned))
	}
}

func same(a, b []bool) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestBadEncoders(t *testing.T) {
	for name, c := range map[string]struct{ old, new, says string }{
		"encoder outside":     {"encoder: encoder.onnx", "encoder: ../encoder.onnx", "inside the app's folder"},
		"no such encoder":     {"encoder: encoder.onnx", "encoder: other.onnx", "other.onnx"},
		"no encoder":          {"    encoder: encoder.onnx\n", "", "name its file as encoder"},
		"classes":             {"    profile: hindsight\n", "    profile: thesis\n    classes: {liver: 1}\n", "comes as one file"},
		"negative mask":       {"mask: 1", "mask: -1", "mask -1"},
		"no such mask":        {"mask: 1", "mask: 7", "holds no mask 7"},
		"points without use":  {"[image, points, previous]", "[image, previous]", "channel of points"},
		"points in no number": {"points: 4, ", "", "0 points"},
		"other points":        {"points: 4", "points: 6", "there are 6 points"},
		"no previous":         {"[image, points, previous]", "[image, points]", "name the channel previous"},
		"probabilities":       {"previous: logits, ", "", "takes logits"},
		"maps not taken":      {"[image, points, previous]", "[image, points, previous, positive, negative]", "no input for the prompts' 2 channels"},
		"grid":                {"grid: 32", "grid: 64", "takes images of 32×32 pixels"},
		"too many images":     {"[image, points", "[image, image, points", "has 1 channels, 2 show the image"},
		"means":               {"mean: [0.5]", "mean: [0.5, 0.5]", "for each of the 1 channels"},
		"swapped files":       {"encoder: encoder.onnx\n    file: decoder.onnx", "encoder: decoder.onnx\n    file: encoder.onnx", "one image goes into the encoder"},
	} {
		t.Run(name, func(t *testing.T) {
			yaml := strings.Replace(twoPartsYAML, c.old, c.new, 1)
			if yaml == twoPartsYAML {
				t.Fatalf("%q is not in app.yaml", c.old)
			}
			app, err := Open(writeTwoParts(t, yaml))
			if err == nil {
				_, err = app.Load(app.Models[0], noSession)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that speaks of %q", err, c.says)
			}
		})
	}
}
