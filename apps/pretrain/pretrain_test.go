package pretrain_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scrawl/apps/pretrain"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/train"
)

func compile(t *testing.T) adapt.Compiler {
	t.Helper()
	lib := orttest.Library(t)
	return func(m *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(m, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
}

// small is a recipe that takes a second.
func small() pretrain.Recipe {
	o := train.Defaults()
	o.Batch, o.Warmup = 2, 2
	return pretrain.Recipe{
		Shape:    train.UNetShape{Input: 5, Channels: []int{4, 8}, Groups: 2, Classes: 2},
		Prompted: true, Stages: []pretrain.Stage{{Size: 32, Share: 0.5}, {Size: 48, Share: 0.5}},
		Steps: 10, PerRun: 3, Workers: 1, Seed: 5, Options: o,
	}
}

func run(t *testing.T, r pretrain.Recipe, checkpoint string) (network []byte, told []pretrain.Progress) {
	t.Helper()
	m, err := pretrain.Run(t.Context(), r, compile(t), checkpoint, func(p pretrain.Progress) { told = append(told, p) })
	if err != nil {
		t.Fatal(err)
	}
	network, err = m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return network, told
}

func TestSameRecipeSameNetwork(t *testing.T) {
	r := small()
	want, told := run(t, r, "")
	last := told[len(told)-1]
	if last.Step != 10 || last.Steps != 10 || last.Done != 1 || last.Size != 48 || told[0].Size != 32 || told[0].Step != 3 || last.Batch != 2 {
		t.Errorf("told %+v first and %+v last", told[0], last)
	}
	for _, p := range told {
		if !(p.Loss > 0 && p.Loss < 5) {
			t.Errorf("loss %v at step %d", p.Loss, p.Step)
		}
	}
	r.Workers = 3
	if got, _ := run(t, r, ""); !bytes.Equal(got, want) {
		t.Error("more workers give another network")
	}
	r.Seed = 6
	if got, _ := run(t, r, ""); bytes.Equal(got, want) {
		t.Error("another seed gives the same network")
	}
}

func TestGoesOnFromACheckpoint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "net.ckpt")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := pretrain.Run(ctx, small(), compile(t), file, func(p pretrain.Progress) {
		if p.Step == 6 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a training that was stopped: %v", err)
	}
	_, told := run(t, small(), file)
	if told[0].Step != 9 || told[len(told)-1].Step != 10 {
		t.Errorf("went on with step %d to step %d, want 9 and 10", told[0].Step, told[len(told)-1].Step)
	}
	if _, told = run(t, small(), file); len(told) != 0 {
		t.Errorf("a training that was over took %d more runs", len(told))
	}
	if err := os.WriteFile(file, []byte("no checkpoint"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pretrain.Run(t.Context(), small(), compile(t), file, func(pretrain.Progress) {}); err == nil || !strings.Contains(err.Error(), "net.ckpt") {
		t.Errorf("a broken checkpoint: %v", err)
	}
}

func TestLimitEndsTraining(t *testing.T) {
	r := small()
	r.Steps, r.Limit = 0, time.Nanosecond
	if network, told := run(t, r, ""); len(network) == 0 || len(told) != 0 {
		t.Errorf("%d runs after the time was over, and a network of %d bytes", len(told), len(network))
	}
}

func TestStartsFromANetwork(t *testing.T) {
	first, _ := run(t, small(), "")
	from, err := onnx.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	r := small()
	r.Start, r.Options.LearningRate, r.Options.WeightDecay = from, 0, 0
	second, _ := run(t, r, "")
	to, err := onnx.Parse(second)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range to.Graph.Initializer("head.weight").Float32s() {
		if was := from.Graph.Initializer("head.weight").Float32s()[i]; v-was > 1e-6 || was-v > 1e-6 { // averages round
			t.Errorf("weight %d was %v at the start and is %v after training at a rate of 0", i, was, v)
		}
	}
	r.Shape.Channels = []int{4, 12}
	if _, err := pretrain.Run(t.Context(), r, compile(t), "", func(pretrain.Progress) {}); err == nil || !strings.Contains(err.Error(), "start from") {
		t.Errorf("a network of another shape: %v", err)
	}
}

// TestStartsFromFewerChannels: what the network to start from did not see counts nothing at first.
func TestStartsFromFewerChannels(t *testing.T) {
	o := train.UNetShape{Input: 4, Channels: small().Shape.Channels, Groups: 2, Classes: 2}
	from, err := train.UNet(o, 9)
	if err != nil {
		t.Fatal(err)
	}
	r := small()
	r.Start, r.Options.LearningRate, r.Options.WeightDecay = from, 0, 0
	data, _ := run(t, r, "")
	to, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	widened := 0
	for _, p := range from.Graph.Initializers {
		was, now := p.Tensor, to.Graph.Initializer(p.Name)
		if len(was.Shape()) != 4 || was.Shape()[1] == now.Shape()[1] {
			continue
		}
		widened++
		n, m := was.Shape()[1]*9, now.Shape()[1]*9
		for i, v := range now.Float32s() {
			want := float32(0)
			if i%m < n {
				want = was.Float32s()[i/m*n+i%m]
			}
			if v-want > 1e-6 || want-v > 1e-6 {
				t.Fatalf("%s[%d] is %v, want %v", p.Name, i, v, want)
			}
		}
	}
	if widened != 1 {
		t.Errorf("%d weights were widened, want that of the first convolution", widened)
	}
}

func TestRefusesRecipes(t *testing.T) {
	for what, change := range map[string]func(*pretrain.Recipe){
		"shares":  func(r *pretrain.Recipe) { r.Stages[0].Share = 0.2 },
		"size":    func(r *pretrain.Recipe) { r.Stages[1].Size = 49 },
		"length":  func(r *pretrain.Recipe) { r.Steps = 0 },
		"batch":   func(r *pretrain.Recipe) { r.Options.Batch = 0 },
		"per run": func(r *pretrain.Recipe) { r.PerRun = 0 },
		"shape":   func(r *pretrain.Recipe) { r.Shape.Groups = 3 },
	} {
		r := small()
		change(&r)
		if err := r.Validate(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for _, r := range []pretrain.Recipe{small(), pretrain.Scribbles(), pretrain.ImageOnly()} {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
}
