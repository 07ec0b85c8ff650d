package adapt_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// twin is PyTorch in a process of its own: testdata/pytorch_twin.py.
type twin struct {
	in      io.WriteCloser
	answers *bufio.Scanner
	torch   string
}

type twinAnswer struct {
	Torch        string
	Seconds, CPU float64
	Losses       []float64
	MiB          peak
}

// startTwin starts PyTorch with the Python that SCRAWL_PYTHON names.
func startTwin(tb testing.TB, threads int) *twin {
	tb.Helper()
	python := os.Getenv("SCRAWL_PYTHON")
	if python == "" {
		tb.Skip("SKIPPED, no PyTorch to compare with: set SCRAWL_PYTHON to a Python with torch, segmentation_models_pytorch and onnx")
	}
	c := exec.CommandContext(tb.Context(), python, filepath.Join("testdata", "pytorch_twin.py"))
	c.Env = append(os.Environ(), "TWIN_THREADS="+strconv.Itoa(threads), "PYTHONWARNINGS=ignore")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = c.Wait()
	})
	t := &twin{in: in, answers: bufio.NewScanner(out)}
	t.torch = t.read(tb).Torch
	return t
}

func (t *twin) ask(tb testing.TB, request map[string]any) twinAnswer {
	tb.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := t.in.Write(append(line, '\n')); err != nil {
		tb.Fatal(err)
	}
	return t.read(tb)
}

func (t *twin) read(tb testing.TB) twinAnswer {
	tb.Helper()
	var a twinAnswer
	for t.answers.Scan() {
		if !strings.HasPrefix(t.answers.Text(), "{") {
			continue // what a library prints
		}
		if err := json.Unmarshal(t.answers.Bytes(), &a); err != nil {
			tb.Fatalf("PyTorch's answer %q: %v", t.answers.Text(), err)
		}
		return a
	}
	tb.Fatalf("PyTorch's process ended: %v", t.answers.Err())
	return a
}

// rival is a network that exists on both sides.
type rival struct {
	name     string
	model    *onnx.Model
	path     string
	channels int
	images   []int
}

// rivals are a U-Net on a ResNet-34, exported by PyTorch, and the network that the default app ships.
func rivals(tb testing.TB, t *twin, names ...string) []rival {
	tb.Helper()
	var all []rival
	for _, n := range names {
		r := rival{name: n, path: filepath.Join("..", "..", "apps", "scribbles", "scribbles.onnx"), channels: 4, images: []int{0}}
		if n == "unet34" {
			r.path, r.channels, r.images = filepath.Join(tb.TempDir(), "unet34.onnx"), 3, []int{0, 1, 2}
			t.ask(tb, map[string]any{"do": "export", "net": n, "path": r.path})
		}
		data, err := os.ReadFile(r.path)
		if err != nil {
			tb.Fatal(err)
		}
		if r.model, err = onnx.Parse(data); err != nil {
			tb.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// wave is deterministic data that both sides can make: sin(0.37·i + 0.11·⌊i/97⌋).
func wave(shape ...int) *tensor.Tensor {
	t := tensor.Zeros[float32](shape...)
	for i := range t.Float32s() {
		t.Float32s()[i] = float32(math.Sin(float64(i)*0.37 + 0.11*math.Floor(float64(i)/97)))
	}
	return t
}

// twoClass makes a distribution over two classes [1,n,2,s,s] from the probabilities of the first.
func twoClass(first *tensor.Tensor, n, s int) *tensor.Tensor {
	out := tensor.Zeros[float32](1, n, 2, s, s)
	for i := range n {
		for p := range s * s {
			v := first.Float32s()[i*s*s+p]
			out.Float32s()[2*i*s*s+p], out.Float32s()[(2*i+1)*s*s+p] = v, 1-v
		}
	}
	return out
}

func twinLesson(channels, n, s, steps int) adapt.Lesson {
	q, y := wave(n, 1, s, s), wave(n, 1, s, s)
	for i, v := range q.Float32s() {
		q.Float32s()[i] = (v + 1) / 2
		y.Float32s()[i] = 0
		if v > 0 {
			y.Float32s()[i] = 1
		}
	}
	x := wave(n, channels, s, s)
	return adapt.Lesson{X: tensor.Must([]int{1, n, channels, s, s}, x.Float32s()), Target: twoClass(q, n, s), Scribble: twoClass(y, n, s),
		Weight: filled(1/float32(n*s*s), 1, n, 1, s, s), Marked: filled(0.05/float32(n*s*s), 1, n, 1, s, s),
		Lambda: 2, LearningRate: 1e-6, Alphas: []float64{0.99}, Steps: steps}
}

// cpuSeconds is the processor time this process has used so far.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// race runs both sides in turn, at least five times each, and reports medians: milliseconds by the clock and of processor time, and their
// ratios, ours to PyTorch's.
func race(b *testing.B, ours func(), theirs func() twinAnswer, per int) {
	b.Helper()
	ours()
	theirs()
	var wall, cpu, ourWall, theirWall, ourCPU, theirCPU []float64
	once := func() {
		c0, t0 := cpuSeconds(), time.Now()
		ours()
		c, w := cpuSeconds()-c0, time.Since(t0).Seconds()
		a := theirs()
		wall, cpu = append(wall, w/a.Seconds), append(cpu, c/a.CPU)
		ourWall, theirWall = append(ourWall, w), append(theirWall, a.Seconds)
		ourCPU, theirCPU = append(ourCPU, c), append(theirCPU, a.CPU)
	}
	for range 4 {
		once()
	}
	for b.Loop() {
		once()
	}
	ms := func(v []float64) float64 { return median(v) * 1e3 / float64(per) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(ourWall), "ms")
	b.ReportMetric(ms(theirWall), "ms-torch")
	b.ReportMetric(median(wall), "ratio")
	b.ReportMetric(ms(ourCPU), "cpu-ms")
	b.ReportMetric(ms(theirCPU), "cpu-ms-torch")
	b.ReportMetric(median(cpu), "cpu-ratio")
}

// twinThreads is how many threads both sides use.
func twinThreads(tb testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("TWIN_THREADS"))
	if err != nil || n < 1 {
		return 2
	}
	return n
}

// peak is what memory a process that has taken two steps has used at most, in MiB, counted in three ways.
type peak struct {
	// Steps is what the steps have added to what was resident after one step at 32²: activations, mostly.
	Steps float64
	// Network is what network, sessions and steps have added to what was resident with all libraries loaded.
	Network float64
	// Process is all of it: what the system's tools show.
	Process float64
}

// twinMemory is PyTorch's, in a process of its own.
func twinMemory(b *testing.B, r rival, size, threads int) peak {
	b.Helper()
	t := startTwin(b, threads)
	t.ask(b, map[string]any{"do": "prepare", "net": r.name, "size": size, "batch": 1, "channels": r.channels, "path": r.path})
	t.ask(b, map[string]any{"do": "step", "steps": 2})
	return t.ask(b, map[string]any{"do": "memory"}).MiB
}

// freshMemory is ours: this test binary once more, at TestMemoryOfSteps.
func freshMemory(b *testing.B, r rival, size, threads int) (p peak) {
	b.Helper()
	c := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestMemoryOfSteps$", "-test.v")
	c.Env = append(os.Environ(), fmt.Sprintf("SCRAWL_MEMORY_OF=%s %d %d %d", r.path, size, r.channels, threads))
	out, err := c.CombinedOutput()
	_, rest, found := strings.Cut(string(out), "peak MiB: ")
	if err != nil || !found {
		b.Fatalf("measure memory: %v\n%s", err, out)
	}
	if _, err := fmt.Sscan(rest, &p.Steps, &p.Network, &p.Process); err != nil {
		b.Fatal(err)
	}
	return p
}

func (p peak) report(b *testing.B, whose string) {
	b.Helper()
	b.ReportMetric(p.Steps, "MiB"+whose)
	b.ReportMetric(p.Network, "network-MiB"+whose)
	b.ReportMetric(p.Process, "process-MiB"+whose)
}

// TestMemoryOfSteps prints how much resident memory steps take at their peak. It runs in a process of its own, for benchmarks:
// SCRAWL_MEMORY_OF holds the network's file, the images' side, their channels and the number of threads.
func TestMemoryOfSteps(t *testing.T) {
	what := os.Getenv("SCRAWL_MEMORY_OF")
	if what == "" {
		t.Skip("runs for BenchmarkAgainstPyTorch and BenchmarkMemory only")
	}
	var path string
	var size, channels, threads int
	if _, err := fmt.Sscan(what, &path, &size, &channels, &threads); err != nil {
		t.Fatal(err)
	}
	compile := lowered(t, ort.Options{Threads: threads})
	libraries := residentMiB(t, "VmRSS")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	net := network(t, m, adapt.Trainable{})
	e, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		t.Fatal(err)
	}
	steps := 2
	if n, err := strconv.Atoi(os.Getenv("SCRAWL_MEMORY_STEPS")); err == nil {
		steps = n
	}
	step := func(l adapt.Lesson) {
		if _, _, err := e.Step(t.Context(), adapt.StepOptions{Batch: 1, Averages: 1, AveragePerStep: true}, []adapt.Weights{net.Source(), net.Source()}, l); err != nil {
			t.Fatal(err)
		}
	}
	step(twinLesson(channels, 1, 32, 1)) // PyTorch's side does the same before it measures
	l := twinLesson(channels, 1, size, steps)
	debug.FreeOSMemory()
	before := residentMiB(t, "VmRSS")
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("SKIPPED, the peak cannot be reset here: %v", err)
	}
	step(l)
	most := residentMiB(t, "VmHWM")
	fmt.Printf("peak MiB: %.1f %.1f %.1f\n", most-before, most-libraries, most)
}

// residentMiB reads a line of this process's /proc/self/status.
func residentMiB(tb testing.TB, what string) float64 {
	tb.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skipf("SKIPPED, this system does not tell its memory: %v", err)
	}
	_, rest, _ := strings.Cut(string(data), what+":")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kib / 1024
}

// BenchmarkMemory prints the memory curve: what steps add at their peak, by the side of the image and by the number of steps.
func BenchmarkMemory(b *testing.B) {
	r := rival{path: filepath.Join("..", "..", "apps", "scribbles", "scribbles.onnx"), channels: 4}
	for _, size := range []int{64, 128, 256, 384, 512} {
		b.Run(fmt.Sprintf("side %d", size), func(b *testing.B) { reportMemory(b, r, size) })
	}
	for _, steps := range []string{"1", "10", "50"} {
		b.Run("128, steps "+steps, func(b *testing.B) {
			b.Setenv("SCRAWL_MEMORY_STEPS", steps)
			reportMemory(b, r, 128)
		})
	}
}

func reportMemory(b *testing.B, r rival, size int) {
	b.Helper()
	p := freshMemory(b, r, size, twinThreads(b))
	for b.Loop() { // one measurement says it
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(p.Steps, "MiB")
	b.ReportMetric(p.Steps*(1<<20)/float64(size*size), "B/pixel")
}

// BenchmarkAgainstPyTorch compares with PyTorch eager on the same number of threads (TWIN_THREADS, else 2), in turn, in one run:
//
//	SCRAWL_PYTHON=/path/to/python go test -run '^$' -bench AgainstPyTorch -benchtime 5x -timeout 1h ./engine/adapt
//
// step is one training step (forward, backward, SGD, average); augment one of 16 augmented copies, the augmentation itself included on our
// side only. Memory is resident, at its peak, in processes that do nothing else: see [peak].
func BenchmarkAgainstPyTorch(b *testing.B) {
	threads := twinThreads(b)
	t := startTwin(b, threads)
	for _, r := range rivals(b, t, "unet34", "default") {
		net := network(b, r.model, adapt.Trainable{})
		e, err := adapt.NewEngine(net, r.images, lowered(b, ort.Options{Threads: threads}))
		if err != nil {
			b.Fatal(err)
		}
		sizes := []int{256, 512}
		if r.name == "default" {
			sizes = []int{128, 256}
		}
		for _, size := range sizes {
			prepare := func(batch int) {
				t.ask(b, map[string]any{"do": "prepare", "net": r.name, "size": size, "batch": batch, "channels": r.channels, "path": r.path})
			}
			b.Run(fmt.Sprintf("step/%s/%d", r.name, size), func(b *testing.B) {
				prepare(1)
				const steps = 4
				l := twinLesson(r.channels, 1, size, steps)
				o := adapt.StepOptions{Batch: 1, Averages: 1, AveragePerStep: true}
				sets := []adapt.Weights{net.Source(), net.Source()}
				race(b, func() {
					if _, _, err := e.Step(b.Context(), o, sets, l); err != nil {
						b.Fatal(err)
					}
				}, func() twinAnswer { return t.ask(b, map[string]any{"do": "step", "steps": steps}) }, steps)
				freshMemory(b, r, size, threads).report(b, "")
				twinMemory(b, r, size, threads).report(b, "-torch")
			})
			b.Run(fmt.Sprintf("augment/%s/%d", r.name, size), func(b *testing.B) {
				const copies = 16
				prepare(copies)
				x := wave(1, r.channels, size, size)
				s := adapt.Slice{X: x, Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
				moved := append(adapt.Weights{net.Source()[0].Clone()}, net.Source()[1:]...)
				p := filled(0.5, 1, 2, size, size)
				race(b, func() {
					if _, _, err := adapt.PseudoMask(e, b.Context(), adapt.Thesis(), moved, s, p, copies, 1); err != nil {
						b.Fatal(err)
					}
				}, func() twinAnswer { return t.ask(b, map[string]any{"do": "forward"}) }, copies)
			})
		}
	}
}
