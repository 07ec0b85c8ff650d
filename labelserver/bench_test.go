package labelserver

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/engine/ort/orttest"
	"scrawl/labelserver/config"
)

// benchServer serves the default app with one image and returns its address, the image and its truth.
func benchServer(b *testing.B, size [3]int, spacing [3]float64) (s *Server, address string, image *volume.Volume, truth *volume.LabelMap) {
	b.Helper()
	lib := orttest.Library(b)
	studies := b.TempDir()
	image, truth = phantom.Abdomen(size, spacing, 1)
	var file bytes.Buffer
	if err := format.Encode("x.nii.gz", &file, image, format.Options{DType: "int16", Compress: true}); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(studies, "case_0.nii.gz"), file.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	cfg, err := config.Load("", nil, map[string]any{"studies": studies, "server.port": 0, "runtime.measure": false, "state.dir": b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	s, err = New(b.Context(), cfg, Parts{Library: lib, Log: zerolog.Nop(), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	l, err := s.Listen(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	b.Cleanup(func() {
		<-done
		if err := s.Close(); err != nil {
			b.Errorf("close: %v", err)
		}
	})
	return s, "http://" + l.Addr().String(), image, truth
}

// request is an interaction as Slicer sends it.
func request(b *testing.B, address string, mask *volume.LabelMap) *http.Request {
	b.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	params := fmt.Sprintf(`{"label_info":%s,"selected_label_name":"liver","result_extension":".nrrd","result_dtype":"uint8","client_id":"bench"}`, labelInfo)
	if err := form.WriteField("params", params); err != nil {
		b.Fatal(err)
	}
	part, err := form.CreateFormFile("label", "scribbles.nii.gz")
	if err != nil {
		b.Fatal(err)
	}
	if err := format.EncodeLabels("x.nii.gz", part, mask, format.Options{DType: "uint8", Compress: true}); err != nil {
		b.Fatal(err)
	}
	if err := form.Close(); err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, address+"/infer/scribbles?image=case_0", &body)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r
}

func send(b *testing.B, r *http.Request) time.Duration {
	b.Helper()
	start := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("answer %d (%v): %.200s", resp.StatusCode, err, data)
	}
	return time.Since(start)
}

// drawing grows a set of strokes over the liver, one stroke and slice after the other, as a user would.
type drawing struct {
	image      *volume.Volume
	truth      *volume.LabelMap
	foreground [][3]int
	slices     []int
}

func newDrawing(image *volume.Volume, truth *volume.LabelMap) *drawing {
	d := &drawing{image: image, truth: truth}
	for z := range image.Size[2] {
		if len(d.liver(z)) > 100 {
			d.slices = append(d.slices, z)
		}
	}
	return d
}

func (d *drawing) liver(z int) [][3]int {
	var vs [][3]int
	for y := range d.image.Size[1] {
		for x := range d.image.Size[0] {
			if d.truth.Labels[d.image.Index(x, y, z)] == 1 {
				vs = append(vs, [3]int{x, y, z})
			}
		}
	}
	return vs
}

// next adds a stroke, eleven pixels along a row of the liver, on another slice.
func (d *drawing) next(n int) *volume.LabelMap {
	z := d.slices[(n*5)%len(d.slices)]
	vs := d.liver(z)
	at := vs[len(vs)/2]
	at[0] -= n / len(d.slices) % 5
	for i := range 11 {
		if v := ([3]int{at[0] - 5 + i, at[1], z}); v[0] >= 0 && v[0] < d.image.Size[0] {
			d.foreground = append(d.foreground, v)
		}
	}
	return layers(d.image.Geometry, d.foreground, [][3]int{{1, 1, z}, {2, 1, z}})
}

// peakMemory is the process's largest resident size so far, in MiB, or 0 where the system does not tell.
func peakMemory() float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(data), "VmHWM:")
	if !ok {
		return 0
	}
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		return 0
	}
	return kib / 1024
}

// BenchmarkInteraction is one interaction over HTTP, from the request to the last byte of the answer: a stroke on another slice each
// time, so that the slice left is learned from. Learning goes on behind the answer and is reported apart, as is the first answer, which
// includes reading the image.
func BenchmarkInteraction(b *testing.B) {
	for _, c := range []struct {
		name    string
		size    [3]int
		spacing [3]float64
	}{{"122x101x30", [3]int{122, 101, 30}, [3]float64{3, 3, 8}}, {"256x256x1", [3]int{256, 256, 1}, [3]float64{1.4, 1.4, 5}}} {
		b.Run(c.name, func(b *testing.B) {
			s, address, image, truth := benchServer(b, c.size, c.spacing)
			d := newDrawing(image, truth)
			first := send(b, request(b, address, d.next(0)))
			n, learning := 0, time.Duration(0)
			for b.Loop() {
				b.StopTimer()
				// The user looks at the answer; meanwhile the server learns.
				start := time.Now()
				s.annotator.Close()
				learning += time.Since(start)
				n++
				r := request(b, address, d.next(n))
				b.StartTimer()
				send(b, r)
			}
			b.ReportMetric(learning.Seconds()*1e3/float64(n), "ms/learning")
			b.ReportMetric(first.Seconds()*1e3, "ms/first")
			b.ReportMetric(peakMemory(), "MiB/peak")
		})
	}
}

// BenchmarkInfoWhileInferring is GET /info/ while interactions keep the device busy: median and 99th percentile.
func BenchmarkInfoWhileInferring(b *testing.B) {
	_, address, image, truth := benchServer(b, [3]int{122, 101, 30}, [3]float64{3, 3, 8})
	d := newDrawing(image, truth)
	var stop atomic.Bool
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for n := 0; !stop.Load(); n++ {
			send(b, request(b, address, d.next(n)))
		}
	}()
	time.Sleep(time.Second)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		resp, err := http.Get(address + "/info/")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		took = append(took, time.Since(start))
	}
	stop.Store(true)
	<-busy
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "ms/median")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "ms/p99")
}
