package adapt_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

func TestGraphsAreValid(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	graphs := map[string]*onnx.Model{"predict": n.PredictGraph(false), "predict frozen": n.PredictGraph(true)}
	var err error
	if graphs["pseudo"], err = n.PseudoGraph([]int{1}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []adapt.StepOptions{
		{Batch: 1}, {Batch: 1, Averages: 1}, {Batch: 2, Averages: 2, AveragePerStep: true},
		{Batch: 2, Averages: 1, Optimizer: adapt.AdamW, Dice: true, ClipNorm: 1},
	} {
		if graphs[name("step %+v", o)], err = n.StepGraph(o); err != nil {
			t.Fatal(err)
		}
	}
	for what, m := range graphs {
		if err := onnx.Check(m.Graph); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		data, err := m.Marshal()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		back, err := onnx.Parse(data)
		if err != nil || len(back.Graph.Nodes) != len(m.Graph.Nodes) {
			t.Errorf("%s: read back: %v", what, err)
		}
	}
}

// oracleCase is one entry of steps.json.
type oracleCase struct {
	Name                   string
	Steps, Stacked, Batch  int
	Alphas                 []float64
	PerStep                bool    `json:"per_step"`
	LearningRate           float64 `json:"learning_rate"`
	Lambda                 float64 `json:"lambda_"`
	AdamW, Dice            bool
	Clip, Decay            float64
	Losses                 [][2]float64
	Inputs, Start, Student map[string]packed
	Averages               []map[string]packed
}

// packed is a list of float32 in base64.
type packed []float32

func (p *packed) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	for i := 0; i+4 <= len(raw); i += 4 {
		*p = append(*p, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
	}
	return err
}

func (c oracleCase) input(name string, channels int) *tensor.Tensor {
	return tensor.Must([]int{c.Stacked, c.Batch, channels, side, side}, []float32(c.Inputs[name]))
}

func weights(n *adapt.Network, values map[string]packed) adapt.Weights {
	var w adapt.Weights
	for i, p := range n.Params() {
		w = append(w, tensor.Must(n.Source()[i].Shape(), []float32(values[p])))
	}
	return w
}

// TestStepsAgainstPyTorch holds K steps, with their losses, optimisers and averages, against PyTorch's own.
func TestStepsAgainstPyTorch(t *testing.T) {
	data, err := os.ReadFile("testdata/steps.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []oracleCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	runtimes := map[string]*adapt.Engine{"interpreter": engine(t, n, onInterpreter)}
	t.Run("interpreter", func(t *testing.T) { oracle(t, n, runtimes["interpreter"], cases) })
	t.Run("runtime", func(t *testing.T) { oracle(t, n, engine(t, n, onRuntime(t)), cases) })
}

func oracle(t *testing.T, n *adapt.Network, e *adapt.Engine, cases []oracleCase) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			o := adapt.StepOptions{Batch: c.Batch, Averages: len(c.Alphas), AveragePerStep: c.PerStep, Dice: c.Dice, ClipNorm: float32(c.Clip)}
			if c.AdamW {
				o.Optimizer = adapt.AdamW
			}
			start := weights(n, c.Start)
			sets := sourceSets(n, o)
			for i := range 1 + o.Averages {
				sets[i] = start
			}
			l := adapt.Lesson{X: c.input("x", 2), Target: c.input("target", 2), Scribble: c.input("scribble", 2),
				Weight: c.input("weight", 1), Marked: c.input("marked", 1), Lambda: c.Lambda, Alphas: c.Alphas}
			for k := range c.Losses {
				// AdamW's corrections differ from step to step, so the steps are taken one by one; the others all at once.
				l.Steps, l.LearningRate = c.Steps, c.LearningRate
				if c.AdamW {
					l = c.only(l, k)
					l.Steps, l.Decay = 1, c.LearningRate*c.Decay
					l.LearningRate *= math.Sqrt(1-math.Pow(0.999, float64(k+1))) / (1 - math.Pow(0.9, float64(k+1)))
				}
				var losses [][2]float32
				if c.AdamW || k == 0 {
					sets, losses = step(t, e, o, sets, l)
					for j, got := range losses {
						for term := range got {
							if want := c.Losses[k+j][term]; math.Abs(float64(got[term])-want) > 1e-4*math.Max(1e-3, math.Abs(want)) {
								t.Errorf("loss %d of step %d is %g, want %g", term, k+j, got[term], want)
							}
						}
					}
				}
			}
			want := append([]map[string]packed{c.Student}, c.Averages...)
			for i, w := range want {
				expectClose(t, name("set %d", i), flat(sets[i]), flat(weights(n, w)), 1e-5)
				// An average near 1 moves by little more than float32 can hold.
				moved, rounding := moves(weights(n, w), start), 3e-7*norm(flat(start))
				expectClose(t, name("what set %d has moved", i), moves(sets[i], start), moved, 2e-3+rounding/norm(moved))
			}
		})
	}
}

// only is a lesson on batch k of the case.
func (c oracleCase) only(l adapt.Lesson, k int) adapt.Lesson {
	pick := func(name string, channels int) *tensor.Tensor {
		per := c.Batch * channels * side * side
		return tensor.Must([]int{1, c.Batch, channels, side, side}, []float32(c.Inputs[name])[(k%c.Stacked)*per:][:per])
	}
	l.X, l.Target, l.Scribble, l.Weight, l.Marked = pick("x", 2), pick("target", 2), pick("scribble", 2), pick("weight", 1), pick("marked", 1)
	return l
}

func TestStepsInOneRunEqualStepsOneByOne(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	for _, averages := range []int{0, 1, 2} {
		o := adapt.StepOptions{Batch: 2, Averages: averages, AveragePerStep: true}
		l := lesson(1, 2, 2, 2, averages)
		together, curve := step(t, e, o, sourceSets(n, o), l)
		one := sourceSets(n, o)
		l.Steps = 1
		for k := range 3 {
			var losses [][2]float32
			one, losses = step(t, e, o, one, l)
			if losses[0] != curve[k] {
				t.Errorf("%d averages: loss of step %d is %v in one run, %v alone", averages, k, curve[k], losses[0])
			}
		}
		for i := range together {
			if !same(flat(together[i]), flat(one[i])) {
				t.Errorf("%d averages: set %d differs", averages, i)
			}
		}
	}
}

// TestAverages checks the averages by their definition, from the students of every step.
func TestAverages(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	l := lesson(1, 1, 2, 2, 2)
	students := []adapt.Weights{}
	alone := l
	alone.Alphas = nil
	for k := range 3 {
		alone.Steps = k + 1
		s, _ := step(t, e, adapt.StepOptions{Batch: 1}, sourceSets(n, adapt.StepOptions{}), alone)
		students = append(students, s[0])
	}
	for _, perStep := range []bool{true, false} {
		o := adapt.StepOptions{Batch: 1, Averages: 2, AveragePerStep: perStep}
		got, _ := step(t, e, o, sourceSets(n, o), l)
		for a, alpha := range l.Alphas {
			want := flat(n.Source())
			for k, s := range students {
				if !perStep && k < 2 {
					continue
				}
				for i, v := range flat(s) {
					want[i] = float32(alpha*float64(want[i]) + (1-alpha)*float64(v))
				}
			}
			expectClose(t, name("per step %v, alpha %g", perStep, alpha), flat(got[1+a]), want, 1e-6)
		}
		if !same(flat(got[0]), flat(students[2])) {
			t.Errorf("per step %v: the averages changed the student", perStep)
		}
	}
}

func TestStepRefusesWhatDoesNotFit(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onInterpreter)
	o := adapt.StepOptions{Batch: 1, Averages: 1}
	l := lesson(1, 1, 2, 2, 1)
	if _, _, err := e.Step(t.Context(), o, sourceSets(n, adapt.StepOptions{}), l); err == nil {
		t.Error("too few sets: no error")
	}
	l.Alphas = nil
	if _, _, err := e.Step(t.Context(), o, sourceSets(n, o), l); err == nil {
		t.Error("no alpha: no error")
	}
	if _, err := e.Predict(t.Context(), n.Source()[1:], l.X); err == nil {
		t.Error("a weight is missing: no error")
	}
}
