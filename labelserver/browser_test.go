package labelserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/engine/ort/orttest"
	"scrawl/labelserver/auth"
)

// The example volume of `scrawl demo`, whose truth is known.
var (
	exampleSize    = [3]int{192, 160, 48}
	exampleSpacing = [3]float64{2, 2, 5}
)

const exampleSeed = 7

// process is `scrawl demo`, or another subcommand that serves, as a process of its own, so that it can be killed as a power cut would.
type process struct {
	t       testing.TB
	binary  string
	args    []string
	studies string
	port    string
	address string
	cmd     *exec.Cmd
}

func startDemo(t testing.TB) *process { return startScrawl(t, "demo") }

// programs is the folder of what tests build and start. It lasts as long as the tests, not one of them.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "scrawl-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// program is scrawl, built once for all tests that start it.
var program = sync.OnceValues(func() (name string, err error) {
	name = filepath.Join(programs, "scrawl")
	if out, err := exec.Command("go", "build", "-o", name, "scrawl/cmd/scrawl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return name, nil
})

func startScrawl(t testing.TB, args ...string) *process {
	t.Helper()
	orttest.Path(t)
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, binary: binary, args: args, studies: filepath.Join(t.TempDir(), "studies"), port: "0"}
	if err := os.MkdirAll(p.studies, 0o750); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.kill)
	return p
}

var addressLine = regexp.MustCompile(`http://127\.0\.0\.1:(\d+)`)

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, append(p.args, "--studies", p.studies, "--port", p.port)...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := addressLine.FindStringSubmatch(lines.Text()); m != nil {
			p.address, p.port = m[0], m[1]
			go func() {
				for lines.Scan() { // so that the process is never blocked by what nobody reads
				}
			}()
			return
		}
	}
	p.t.Fatalf("scrawl told no address: %v", lines.Err())
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// browser is a headless Chromium with one page open.
type browser struct {
	t   testing.TB
	ctx context.Context
}

// openBrowser starts Chromium. Tests that need it are skipped where there is none, or fail when SCRAWL_REQUIRE is set. Everything that the
// page complains about, blocked content above all, fails the test.
func openBrowser(t testing.TB, width, height int) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("SCRAWL_REQUIRE") != "" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("SKIPPED: Chromium is not installed, so the page is not tested")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(width, height),
		chromedp.Flag("use-angle", "swiftshader"), chromedp.Flag("enable-unsafe-swiftshader", true), chromedp.Flag("disable-gpu", false),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t, ctx}
	b.do(chromedp.Navigate("about:blank"), chromedp.EmulateViewport(int64(width), int64(height)))
	go func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return // the browser was closed
			}
			if m.IsException() || strings.Contains(m.Text, "Content Security Policy") || strings.Contains(m.Text, "Content-Security-Policy") {
				t.Errorf("the page complains: %s", m)
			}
		}
	}()
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.screenshot("failure")
		b.t.Fatal(err)
	}
}

func run[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.screenshot("failure")
		b.t.Fatal(err)
	}
	return v
}

// screenshot keeps a picture of the page among the test's artefacts.
func (b *browser) screenshot(name string) {
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Logf("screenshot: %v", err)
		return
	}
	file := filepath.Join(b.t.ArtifactDir(), name+".png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		b.t.Logf("screenshot: %v", err)
	}
}

// until waits until an expression of JavaScript is true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if run(b, chromedp.Evaluate[bool]("Boolean("+expression+")")) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.screenshot("failure")
	b.t.Fatalf("waited in vain for %s; the page says %q", what, b.text("#status"))
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q).textContent", selector)))
}

// open shows an address and waits until an image can be drawn on.
func (b *browser) open(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address))
	b.until("the image", `document.querySelector("#status").textContent.includes("voxels")`)
}

// choose presses the button of a segment.
func (b *browser) choose(name string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`[...document.querySelectorAll("#segments button")].find(b => b.querySelector("span").textContent === %q).click()`, name)))
}

// stroke draws with the mouse through voxels given in the viewer's order (right, anterior, superior), on the axial slice that is shown.
func (b *browser) stroke(tool string, voxels ...[3]int) {
	b.t.Helper()
	b.do(chromedp.Click(fmt.Sprintf(`[data-tool=%q]`, tool)))
	b.pointer(input.DispatchMouseEventPointerTypeMouse, voxels...)
}

// answered waits for the answer to the strokes just drawn.
func (b *browser) answered(interactions int) {
	b.t.Helper()
	b.until(fmt.Sprintf("answer %d", interactions), fmt.Sprintf(`document.querySelector("#interactions").textContent === "%d" && document.querySelector("#busy").hidden`, interactions))
}

// labels are the segments as the page has them, in the order of the image's voxels.
func (b *browser) labels() []byte {
	b.t.Helper()
	text := run(b, chromedp.Evaluate[string](`btoa(Array.from(scrawl.stored(), v => String.fromCharCode(v)).join(""))`))
	labels, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return labels
}

// dice compares one segment of the page with the truth.
func dice(labels []byte, number byte, truth *volume.LabelMap, organ uint16) float64 {
	both, sum := 0, 0
	for i, l := range labels {
		in, should := l == number, truth.Labels[i] == organ
		if in {
			sum++
		}
		if should {
			sum++
		}
		if in && should {
			both++
		}
	}
	return 2 * float64(both) / float64(max(sum, 1))
}

// inViewer turns a voxel of the example, stored along L, P, S, into the viewer's right, anterior, superior.
func inViewer(i, j, k int) [3]int { return [3]int{exampleSize[0] - 1 - i, exampleSize[1] - 1 - j, k} }

// row is a straight line of voxels along i.
type row struct{ from, to, j, k int }

// longest finds the longest line along i, on slice k, of voxels for which wrong holds, and counts them all.
func longest(size [3]int, k int, wrong func(at int) bool) (best row, count int) {
	for j := range size[1] {
		start := -1
		for i := 0; i <= size[0]; i++ {
			if i < size[0] && wrong((k*size[1]+j)*size[0]+i) {
				count++
				if start < 0 {
					start = i
				}
				continue
			}
			if start >= 0 && i-start > best.to-best.from {
				best = row{start, i, j, k}
			}
			start = -1
		}
	}
	return best, count
}

// correct draws one stroke where the segment is most wrong: over what is missed, or beside it over what it spilled into.
func (b *browser) correct(number byte, truth *volume.LabelMap, organ uint16) {
	b.t.Helper()
	labels := b.labels()
	missed := func(at int) bool { return truth.Labels[at] == organ && labels[at] != number }
	spilled := func(at int) bool { return truth.Labels[at] != organ && labels[at] == number }
	worst, most, tool := row{}, 0, "object"
	for k := range exampleSize[2] {
		for name, wrong := range map[string]func(int) bool{"object": missed, "background": spilled} {
			if r, n := longest(exampleSize, k, wrong); n > most || n == most && name < tool {
				worst, most, tool = r, n, name
			}
		}
	}
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("scrawl.goTo(2, %d)", worst.k)))
	margin := (worst.to - worst.from) / 6
	b.stroke(tool, inViewer(worst.from+margin, worst.j, worst.k), inViewer((worst.from+worst.to)/2, worst.j, worst.k), inViewer(worst.to-1-margin, worst.j, worst.k))
}

// interactions is the number of interactions that the page counts for the chosen segment.
func (b *browser) interactions() int {
	b.t.Helper()
	n, err := strconv.Atoi(b.text("#interactions"))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(selector))
}

// What an annotator does with the page, from the first stroke to the submitted label, over a reload and the server's sudden end.
func TestPageInBrowser(t *testing.T) {
	p := startDemo(t)
	_, truth := phantom.Abdomen(exampleSize, exampleSpacing, exampleSeed)
	organs := phantom.Labels()
	b := openBrowser(t, 1280, 720)
	b.open(p.address)
	b.screenshot("1-opened")

	const aorta, liver = 5, 1 // their places in the list of segments
	b.choose("aorta")
	reached := 0.0
	for n := 1; n <= 12 && reached < 0.8; n++ {
		b.correct(aorta, truth, organs["aorta"])
		b.answered(n)
		reached = dice(b.labels(), aorta, truth, organs["aorta"])
		t.Logf("Dice of the aorta after %d strokes: %.3f", n, reached)
		b.screenshot(fmt.Sprintf("2-stroke-%02d", n))
	}
	if reached < 0.8 {
		t.Errorf("Dice of the aorta is %.3f after 12 strokes, want at least 0.8", reached)
	}

	before := b.labels()
	n := b.interactions()
	b.correct(aorta, truth, organs["aorta"])
	b.answered(n + 1)
	after := b.labels()
	b.click("#undo")
	b.answered(n + 2)
	b.screenshot("3-undone")
	if !bytes.Equal(b.labels(), before) {
		t.Error("undo did not bring the mask back that was there before the stroke")
	}
	if !strings.Contains(b.text("#status"), "Taken back") {
		t.Errorf("after undo the page says %q", b.text("#status"))
	}
	b.do(chromedp.KeyEvent("y", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	b.answered(n + 3)
	if !bytes.Equal(b.labels(), after) {
		t.Error("redo did not bring the later mask back")
	}

	b.choose("liver")
	b.overhear()
	for n := 1; n <= 2; n++ {
		b.correct(liver, truth, organs["liver"])
		b.answered(n)
	}
	both := b.labels()
	t.Logf("Dice of the liver after 2 strokes: %.3f", dice(both, liver, truth, organs["liver"]))
	for i, l := range after {
		if l == aorta && both[i] != aorta {
			t.Fatal("drawing the liver took voxels from the aorta")
		}
	}
	b.goesWhereTold()
	b.showsUnsure()

	b.click("#submit")
	b.until("the label to be stored", `document.querySelector("#status").textContent.startsWith("Stored")`)
	submitted, err := readLabels(filepath.Join(p.studies, "labels", "final", "abdomen_example.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range both {
		if submitted.Labels[i] != uint16(l) {
			t.Fatalf("voxel %d of the submitted label is %d, on the page it is %d", i, submitted.Labels[i], l)
		}
	}
	b.showsLesson("liver")

	b.open(p.address)
	b.screenshot("5-reloaded")
	if !bytes.Equal(b.labels(), both) {
		t.Error("the segments are not the same after a reload")
	}
	if run(b, chromedp.Evaluate[int]("scrawl.strokeVoxels()")) == 0 {
		t.Error("the strokes are gone after a reload")
	}

	b.choose("aorta")
	n = b.interactions()
	if n == 0 {
		t.Error("the page counts no interactions after a reload")
	}
	p.kill()
	b.correct(aorta, truth, organs["aorta"])
	b.until("the page to notice that the server is gone", `document.querySelector("#status").textContent.includes("does not answer")`)
	b.screenshot("6-server-gone")
	p.start()
	b.answered(n + 1)
	if bytes.Equal(b.labels(), both) {
		t.Error("the stroke drawn while the server was away changed nothing")
	}
	b.screenshot("7-server-back")

	b.do(chromedp.Navigate(p.address + "/operator"))
	b.until("the operator's page", `document.querySelector("#server").textContent.includes("Runs on") && document.querySelector("#log").textContent.length > 0`)
	b.screenshot("8-operator")
}

// showsLesson holds that the loss of a segment's last lesson, here of a finished label, is drawn, step by step, as the server has it.
func (b *browser) showsLesson(segment string) {
	b.t.Helper()
	b.until("a lesson", `Number(document.querySelector("#lessons").textContent) > 0 && document.querySelector("#loss polyline").points.length > 1`)
	type lesson struct {
		Points        int
		Width, Height float64
		Title         string
		Loss          []float64
		Distance      string
	}
	got := run(b, chromedp.Evaluate[lesson](fmt.Sprintf(`(async () => {
		const picture = document.querySelector("#loss");
		const query = new URLSearchParams({client_id: localStorage.getItem("scrawl-client"), model: document.querySelector("#model").value, image: "abdomen_example", label: %q});
		let told;
		const drawn = () => picture.querySelector("polyline").points.length === told.loss.length; // soon after the server has learned, as the page asks now and then
		for (let i = 0; i < 300; i++) {
			told = await (await fetch("/scrawl/learned?" + query)).json();
			if (!told.busy && told.lessons > 0 && drawn()) {
				break;
			}
			await new Promise((done) => setTimeout(done, 200));
		}
		const line = picture.querySelector("polyline"), box = line.getBBox();
		return {points: line.points.length, width: box.width, height: box.height, title: picture.querySelector("title").textContent, loss: told.loss,
			distance: document.querySelector("#distance").textContent};
	})()`, segment), chromedp.EvalAwaitPromise))
	if got.Points != len(got.Loss) || got.Width < 100 || got.Height < 20 {
		b.t.Errorf("the loss of %d steps is drawn as %d points in %.0f × %.0f of 200 × 60", len(got.Loss), got.Points, got.Width, got.Height)
	}
	if !strings.Contains(got.Title, fmt.Sprintf("in %d steps", len(got.Loss))) || got.Distance == "0.00 %" {
		b.t.Errorf("the curve says %q, and the weights moved by %s", got.Title, got.Distance)
	}
}

// overhear keeps what the server tells with its answers to strokes, for reports.
func (b *browser) overhear() {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`{
		const ask = window.fetch;
		window.reports = [];
		window.fetch = async (address, init) => {
			const answer = await ask(address, init);
			if (String(address).includes("/infer/")) {
				window.reports.push(JSON.parse((await answer.clone().formData()).get("params")).scrawl);
			}
			return answer;
		};
	}`))
}

// goesWhereTold holds that the button of the next slice worth a stroke names and shows the slice that the server named.
func (b *browser) goesWhereTold() {
	b.t.Helper()
	type slice struct {
		Plane string
		Index int
	}
	told := run(b, chromedp.Evaluate[slice](`window.reports.at(-1).next_slice`))
	axis := strings.Index("ijk", told.Plane)
	if axis < 0 {
		b.t.Fatalf("the server named slice %d across %q", told.Index, told.Plane)
	}
	plane := []string{"sagittal", "coronal", "axial"}[axis]
	if text := b.text("#goto"); text != fmt.Sprintf("A stroke helps most on %s slice %d", plane, told.Index+1) {
		b.t.Errorf("the button says %q, the server named %s slice %d", text, plane, told.Index+1)
	}
	away := (told.Index + exampleSize[axis]/2) % exampleSize[axis]
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("scrawl.goTo(%d, %d)", axis, away)))
	if at := b.slices(); at[axis] != away {
		b.t.Fatalf("the page shows slices %v, not %d across %s", at, away, told.Plane)
	}
	b.click("#goto")
	if at := b.slices(); at[axis] != told.Index {
		b.t.Errorf("the page shows slices %v, the server named %d across %s", at, told.Index, told.Plane)
	}
}

// slices are those of the example that the page shows, across i, j and k.
func (b *browser) slices() [3]int {
	b.t.Helper()
	c := run(b, chromedp.Evaluate[[3]int]("scrawl.cross()"))
	return inViewer(c[0], c[1], c[2])
}

// showsUnsure holds that the picture changes where the answer is unsure, and is as before without.
func (b *browser) showsUnsure() {
	b.t.Helper()
	plain := b.view()
	b.click("#unsure")
	changed := 0
	for range 100 {
		if changed = differing(plain, b.view()); changed > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.screenshot("4-two-segments-unsure")
	if changed < 100 {
		b.t.Errorf("with where the mask is unsure %d pixels of the picture look other than without", changed)
	}
	b.click("#unsure")
	for range 100 {
		if changed = differing(plain, b.view()); changed == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Errorf("%d pixels stay changed when where the mask is unsure is no longer shown", changed)
}

// view is the picture of the image's slices.
func (b *browser) view() image.Image {
	b.t.Helper()
	picture, err := png.Decode(bytes.NewReader(run(b, chromedp.CaptureScreenshot())))
	if err != nil {
		b.t.Fatal(err)
	}
	box := run(b, chromedp.Evaluate[[4]int](`(() => { const r = document.querySelector("#view").getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom].map(Math.trunc); })()`))
	cut, ok := picture.(interface {
		SubImage(image.Rectangle) image.Image
	})
	if !ok {
		b.t.Fatalf("a screenshot is a %T", picture)
	}
	return cut.SubImage(image.Rect(box[0], box[1], box[2], box[3]-30)) // without the line at the bottom that tells who works
}

// differing counts the pixels that are not the same in two pictures.
func differing(a, b image.Image) (count int) {
	if a.Bounds() != b.Bounds() {
		return -1
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				count++
			}
		}
	}
	return count
}

// A picture and a series of DICOM files opened in the page, what was learned forgotten, and masks saved in every format.
func TestUploadsInBrowser(t *testing.T) {
	p := startDemo(t)
	b := openBrowser(t, 1280, 720)
	b.open(p.address)

	dir := t.TempDir()
	picture := filepath.Join(dir, "cells and more.png")
	writePicture(t, picture)
	b.do(chromedp.SetUploadFiles("#files", []string{picture}, chromedp.NodeReady))
	b.until("the picture", `document.querySelector("#status").textContent.startsWith("cells and more: 96 × 64 × 1")`)
	b.choose("liver")
	b.stroke("object", [3]int{95 - 30, 63 - 30, 0}, [3]int{95 - 34, 63 - 32, 0}, [3]int{95 - 38, 63 - 34, 0})
	b.answered(1)
	b.screenshot("picture")
	mask := b.labels()
	for _, kind := range []string{"nifti", "nrrd"} {
		name := b.download(kind)
		saved, err := readLabels(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range mask {
			if saved.Labels[i] != uint16(l) {
				t.Fatalf("voxel %d of %s is %d, on the page it is %d", i, filepath.Base(name), saved.Labels[i], l)
			}
		}
	}
	b.click("#reset")
	b.answered(2)
	if text := b.text("#distance"); text != "0.00 %" || !bytes.Equal(b.labels(), mask) {
		t.Errorf("after forgetting, the weights have moved by %s, or the first stroke has another mask than before", text)
	}
	inside := 0
	for _, l := range mask {
		if l == 1 {
			inside++
		}
	}
	if inside < 50 {
		t.Errorf("the stroke on the picture's disc got %d pixels", inside)
	}

	shared := os.Getenv("SCRAWL_SHARED")
	if shared == "" {
		t.Log("SKIPPED the DICOM series: SCRAWL_SHARED is not set")
		return
	}
	series, err := filepath.Glob(filepath.Join(shared, "data", "dicom", "seg_ct3slice", "series", "*"))
	if err != nil || len(series) == 0 {
		t.Fatalf("no DICOM files in seg_ct3slice: %v", err)
	}
	b.do(chromedp.SetUploadFiles("#files", series, chromedp.NodeReady))
	b.until("the series", `document.querySelector("#status").textContent.startsWith("Uploaded image: 512 × 512 × 3")`)
	if run(b, chromedp.Evaluate[bool](`document.querySelector('#download [value="dicom"]').disabled`)) {
		t.Error("no DICOM segmentation is offered of a DICOM series")
	}
	b.showsRange([2]float64{-160, 240}, "Soft tissue")
	b.stroke("object", [3]int{250, 256, 1}, [3]int{256, 256, 1}, [3]int{262, 256, 1})
	b.answered(1)
	b.screenshot("series")
	file, err := os.ReadFile(b.download("dicom"))
	if err != nil || len(file) < 132 || string(file[128:132]) != "DICM" {
		t.Errorf("the DICOM SEG saved is no DICOM file of %d bytes: %v", len(file), err)
	}
}

// download saves the mask in a format that the page offers and returns the file's name.
func (b *browser) download(kind string) string {
	b.t.Helper()
	dir := b.t.TempDir()
	if _, err := chromedp.Call(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}); err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`{ const d = document.querySelector("#download"); d.value = %q; d.dispatchEvent(new Event("change")); }`, kind)))
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			b.t.Fatal(err)
		}
		if len(files) == 1 && !strings.HasSuffix(files[0], ".crdownload") && !strings.HasPrefix(filepath.Base(files[0]), ".") {
			return files[0]
		}
	}
	b.screenshot("failure")
	b.t.Fatalf("no %s file came; the page says %q", kind, b.text("#status"))
	return ""
}

// On a tablet, with a server that wants a log-in: the page asks, refuses a wrong password in words, shows the image after the right one, and
// everything that a wide screen has can be reached.
func TestLogInOnTabletInBrowser(t *testing.T) {
	password, err := auth.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	accounts := auth.Accounts{Users: []auth.Account{{Name: "anna", Password: password, Roles: []string{"user", "annotator"}}}}
	var text bytes.Buffer
	name := filepath.Join(t.TempDir(), "accounts.yaml")
	if err := errors.Join(accounts.Encode(&text), os.WriteFile(name, text.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := startScrawl(t, "serve", "--accounts", name)
	writePicture(t, filepath.Join(p.studies, "cells.png"))
	b := openBrowser(t, 820, 1100)
	b.do(chromedp.Navigate(p.address))
	b.until("the log-in", `document.querySelector("#login").open`)
	b.do(chromedp.SetValue("#user", "anna"), chromedp.SetValue("#password", "wrong"))
	b.click("#loginForm button")
	b.until("the refusal", `document.querySelector("#loginError").textContent === "wrong user name or password"`)
	b.do(chromedp.SetValue("#password", "correct horse"))
	b.click("#loginForm button")
	b.until("the image", `!document.querySelector("#login").open && document.querySelector("#status").textContent.startsWith("cells: 96 × 64 × 1")`)
	b.do(chromedp.ScrollIntoView("#reset"))
	b.screenshot("tablet")
	for _, selector := range []string{"#interactions", "#loss", "#profile", "#reset", "#undo", "#submit"} {
		if !run(b, chromedp.Evaluate[bool](fmt.Sprintf("document.querySelector(%q).checkVisibility()", selector))) {
			t.Errorf("%s is not shown on a tablet", selector)
		}
	}
	if run(b, chromedp.Evaluate[bool](`[...document.querySelectorAll("#tools button")].some(e => e.scrollWidth > e.clientWidth) || document.querySelector(".tools").scrollWidth > document.querySelector(".tools").clientWidth`)) {
		t.Error("the tools' buttons overflow on a tablet")
	}
	b.click("#account")
	b.until("the log-in again", `document.querySelector("#login")?.open`)

	b.do(chromedp.Navigate(p.address + "/auth/login?next=/docs"))
	b.do(chromedp.SetValue("#username", "anna"), chromedp.SetValue("#password", "wrong"))
	b.click("#login button")
	b.until("the refusal", `document.querySelector("#problem").textContent === "wrong user name or password"`)
	b.screenshot("login")
	b.do(chromedp.SetValue("#password", "correct horse"))
	b.click("#login button")
	b.until("the page asked for", `location.pathname === "/docs"`)
}

// What has no mouse: a file dropped onto the page, strokes of a finger, of a pen and by the keyboard, and the eraser. Then what was spent is
// still known after a reload, and the next image is one without a label.
func TestOtherHandsInBrowser(t *testing.T) {
	p := startDemo(t)
	b := openBrowser(t, 1280, 720)
	b.open(p.address)
	picture := filepath.Join(t.TempDir(), "cells.png")
	writePicture(t, picture)
	b.drop(picture)
	b.until("the picture that was dropped", `document.querySelector("#status").textContent.startsWith("cells: 96 × 64 × 1")`)
	if !run(b, chromedp.Evaluate[bool](`document.querySelector('#download [value="dicom"]').disabled`)) {
		t.Error("a DICOM segmentation is offered of a picture")
	}

	b.choose("liver")
	b.touch([3]int{65, 33, 0}, [3]int{61, 31, 0})
	one := b.strokeVoxels()
	b.touch([3]int{65, 25, 0}, [3]int{61, 27, 0}) // at once: no double tap
	two := b.strokeVoxels()
	if one == 0 || two <= one {
		t.Errorf("two strokes of a finger cover %d and then %d voxels", one, two)
	}
	b.idle()
	mask := b.labels()
	if mask[32*96+34] != 1 {
		t.Error("the strokes of the finger got no mask")
	}
	b.click(`[data-tool="background"]`)
	corner := [][3]int{{5, 5, 0}, {12, 5, 0}}
	b.pointer(input.DispatchMouseEventPointerTypePen, corner...)
	b.idle()
	three := b.strokeVoxels()
	if three <= two {
		t.Errorf("a stroke of the pen covers nothing: %d voxels after %d", three, two)
	}
	b.stroke("eraser", corner...)
	b.idle()
	if n := b.strokeVoxels(); n != two {
		t.Errorf("after erasing the pen's stroke %d voxels are left, want %d", n, two)
	}
	b.click(`[data-tool="object"]`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#view").focus()`), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(" "))
	b.idle()
	if n := b.strokeVoxels(); n <= two {
		t.Error("the space bar draws nothing")
	}
	b.screenshot("other-hands")

	n, seconds := b.interactions(), b.text("#userTime")
	b.open(p.address + "/?image=cells")
	if after := b.text("#userTime"); after == "0.0 s" || b.text("#serverTime") == "0.0 s" {
		t.Errorf("after %d interactions the user had spent %s, and after a reload %s", n, seconds, after)
	}
	b.click("#submit")
	b.until("the label to be stored", `document.querySelector("#status").textContent.startsWith("Stored")`)
	b.do(chromedp.KeyEvent("n"))
	b.until("the next image", `document.querySelector("#status").textContent.startsWith("abdomen_example: 192 × 160 × 48")`)

	for page, wanted := range map[string]string{"/docs": "/infer/{model}", "/logs/": "interaction"} {
		b.do(chromedp.Navigate(p.address + page))
		b.until(page, fmt.Sprintf(`document.body.textContent.includes(%q)`, wanted))
		b.screenshot(strings.Trim(page, "/"))
	}
}

// Volumes dropped onto the page open in a window that suits their modality, and then the tools beside the image: brush sizes, clearing,
// segments of one's own, and the bar that tells what takes long.
func TestVolumesAndToolsInBrowser(t *testing.T) {
	p := startDemo(t)
	b := openBrowser(t, 1280, 720)
	b.open(p.address)
	dir := t.TempDir()

	ct, _ := phantom.Abdomen([3]int{40, 32, 9}, [3]float64{8, 8, 15}, 1)
	b.dropVolume(filepath.Join(dir, "trunk.nii.gz"), ct, "trunk: 40 × 32 × 9")
	b.showsRange([2]float64{-160, 240}, "Soft tissue")

	mr := volume.NewVolume(volume.New([3]int{30, 20, 10}, [3]float64{1, 1, 2}))
	for n := range mr.Voxels {
		mr.Voxels[n] = float32(100 + n*7%1000)
	}
	mr.Voxels[77] = 30000 // a spike, which a window from lowest to highest would be spoilt by
	b.dropVolume(filepath.Join(dir, "head.nrrd"), mr, "head: 30 × 20 × 10")
	sorted := slices.Sorted(slices.Values(mr.Voxels))
	low, high := sorted[len(sorted)*2/100], sorted[len(sorted)*98/100]
	b.showsRange([2]float64{float64(low), float64(high)}, "Automatic")
	b.do(chromedp.Evaluate[chromedp.Void](`{ const w = document.querySelector("#window"); w.selectedIndex = 1; w.dispatchEvent(new Event("change")); }`))
	b.showsRange([2]float64{100, 30000}, "Whole range")

	// A DICOM series says its modality, whatever its intensities look like.
	b.openSeries(ct, "1.2.826.92", "MR")
	if name := b.window(); name != "Automatic" {
		t.Errorf("an MR with intensities as a CT has them opens in the window %q", name)
	}
	for n, x := range ct.Voxels {
		ct.Voxels[n] = max(x, -100)
	}
	b.openSeries(ct, "1.2.826.93", "CT")
	b.showsRange([2]float64{-160, 240}, "Soft tissue")

	picture := filepath.Join(dir, "cells.png")
	writePicture(t, picture)
	b.drop(picture)
	b.until("the picture", `document.querySelector("#status").textContent.startsWith("cells: 96 × 64 × 1")`)
	b.drawsAsWide()
	b.clears()
	b.drawsNewSegment()
	b.tellsWhatTakesLong()
}

// dropVolume writes an image and drops it onto the page, which then tells of it.
func (b *browser) dropVolume(name string, v *volume.Volume, told string) {
	b.t.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(format.Encode(name, f, v, format.Options{DType: string(volume.Int16)}), f.Close()); err != nil {
		b.t.Fatal(err)
	}
	b.drop(name)
	b.until(name, fmt.Sprintf(`document.querySelector("#status").textContent.startsWith(%q)`, told))
}

// showsRange holds that intensities are shown in a window, and which one of those offered it is.
func (b *browser) showsRange(want [2]float64, name string) {
	b.t.Helper()
	got := run(b, chromedp.Evaluate[[2]float64]("scrawl.range()"))
	if math.Abs(got[0]-want[0]) > 1 || math.Abs(got[1]-want[1]) > 1 {
		b.t.Errorf("intensities are shown from %v to %v, want %v to %v", got[0], got[1], want[0], want[1])
	}
	if chosen := b.window(); chosen != name {
		b.t.Errorf("the window is called %q, want %q", chosen, name)
	}
}

// window is what the window is called in which intensities are shown.
func (b *browser) window() string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](`document.querySelector("#window").selectedOptions[0].text`))
}

// openSeries opens an image as a DICOM series of a modality.
func (b *browser) openSeries(v *volume.Volume, uid, modality string) {
	b.t.Helper()
	var names []string
	dir := b.t.TempDir()
	for name, file := range sliceFiles(b.t, v, uid) {
		file = bytes.Replace(file, []byte("CS\x02\x00CT"), []byte("CS\x02\x00"+modality), 1)
		names = append(names, filepath.Join(dir, name))
		if err := os.WriteFile(names[len(names)-1], file, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#status").textContent = ""`), chromedp.SetUploadFiles("#files", names, chromedp.NodeReady))
	b.until("the series", fmt.Sprintf(`document.querySelector("#status").textContent.startsWith("Uploaded image: %d × %d × %d")`, v.Size[0], v.Size[1], v.Size[2]))
}

// Values of the map that the server remembers of the picture.
const objectStroke = 3

// remembered is what the server remembers of a segment of the picture: 96 × 64 values, or none when that is nothing.
func (b *browser) remembered(segment string) []byte {
	b.t.Helper()
	text := run(b, chromedp.Evaluate[string](fmt.Sprintf(`(async () => {
		const query = new URLSearchParams({client_id: localStorage.getItem("scrawl-client"), model: document.querySelector("#model").value, image: "cells", label: %q});
		const answer = await fetch("/scrawl/state?" + query);
		return btoa(String.fromCharCode(...new Uint8Array(await answer.arrayBuffer()).slice(352)));
	})()`, segment), chromedp.EvalAwaitPromise))
	m, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(m) != 0 && len(m) != 96*64 {
		b.t.Fatalf("the server remembers %d bytes of %s: %v", len(m), segment, err)
	}
	return m
}

// drawsAsWide holds that strokes, as the server has got them, are as wide as the brush, set by keys and by its slider.
func (b *browser) drawsAsWide() {
	b.t.Helper()
	b.choose("liver")
	bigger := func() {
		b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#view").focus()`), chromedp.KeyEvent("]"), chromedp.KeyEvent("]"))
	}
	slider := func() { b.do(chromedp.Focus("#brush"), chromedp.KeyEvent(kb.ArrowLeft)) }
	before := 0
	for _, step := range []struct {
		change     func()
		row, width int
	}{{func() {}, 10, 3}, {bigger, 30, 7}, {slider, 50, 5}} {
		step.change()
		if size := b.text("#brushSize"); size != strconv.Itoa(step.width) {
			b.t.Errorf("the brush is called %s wide, want %d", size, step.width)
		}
		b.stroke("object", [3]int{95 - 20, 63 - step.row, 0}, [3]int{95 - 30, 63 - step.row, 0}, [3]int{95 - 40, 63 - step.row, 0})
		b.idle()
		m := b.remembered("liver")
		if len(m) == 0 {
			b.t.Fatalf("the server remembers nothing of a stroke")
		}
		width := 0
		for j := max(step.row-9, 0); j <= step.row+9; j++ {
			if m[j*96+30] == objectStroke {
				width++
			}
		}
		if width != step.width {
			b.t.Errorf("a stroke of a brush of %d voxels is %d wide", step.width, width)
		}
		drawn := b.strokeVoxels()
		if drawn != bytes.Count(m, []byte{objectStroke}) || drawn <= before {
			b.t.Errorf("the page has strokes on %d voxels, the server on %d, and before there were %d", drawn, bytes.Count(m, []byte{objectStroke}), before)
		}
		before = drawn
	}
}

// clears holds that clearing takes all strokes away, on the page and on the server, and can be taken back.
func (b *browser) clears() {
	b.t.Helper()
	before := b.strokeVoxels()
	b.click("#clear")
	b.idle()
	if n, kept := b.strokeVoxels(), bytes.Count(b.remembered("liver"), []byte{objectStroke}); n != 0 || kept != 0 {
		b.t.Errorf("after clearing, strokes cover %d voxels on the page and %d on the server", n, kept)
	}
	b.click("#undo")
	b.idle()
	if n := b.strokeVoxels(); n != before {
		b.t.Errorf("after clearing was taken back, strokes cover %d voxels, want %d", n, before)
	}
}

// drawsNewSegment holds that a segment that the model does not know gets a mask, and nothing of the others'.
func (b *browser) drawsNewSegment() {
	b.t.Helper()
	liver := bytes.Count(b.labels(), []byte{1})
	b.do(chromedp.SendKeys("#name", "vacuole"+kb.Enter))
	b.until("the new segment", `document.querySelector('#segments [aria-checked="true"] span')?.textContent === "vacuole"`)
	number := run(b, chromedp.Evaluate[int](`document.querySelectorAll("#segments button").length`))
	b.stroke("object", [3]int{95 - 70, 63 - 30, 0}, [3]int{95 - 80, 63 - 30, 0})
	b.answered(1)
	labels := b.labels()
	if got := bytes.Count(labels, []byte{byte(number)}); labels[30*96+75] != byte(number) || got < 11 {
		b.t.Errorf("the new segment, number %d, has %d voxels, and %d is under its stroke", number, got, labels[30*96+75])
	}
	if n := bytes.Count(b.remembered("vacuole"), []byte{objectStroke}); n != b.strokeVoxels() {
		b.t.Errorf("the server has %d voxels of the new segment's stroke, the page %d", n, b.strokeVoxels())
	}
	if now := bytes.Count(labels, []byte{1}); now != liver {
		b.t.Errorf("the liver has %d voxels, and had %d before another segment was drawn", now, liver)
	}
}

// tellsWhatTakesLong holds that a line is shown while the server thinks, a bar with the stage when that takes long, and neither after it.
// The answer is kept back until the bar was looked at, and what is told of it meanwhile is of the same form as the server's.
func (b *browser) tellsWhatTakesLong() {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`{
		const ask = window.fetch;
		window.fetch = async (address, init) => {
			if (String(address).includes("/scrawl/progress")) {
				return Response.json({stage: "carry", done: 3, total: 12});
			}
			const answer = await ask(address, init);
			if (String(address).includes("/infer/")) {
				await new Promise((done) => (window.release = done));
			}
			return answer;
		};
		window.looks = [];
		const busy = document.querySelector("#busy");
		new MutationObserver(() => {
			const stage = getComputedStyle(document.querySelector("#stage")).display !== "none" ? "with stage" : "without";
			const look = busy.hidden ? "nothing" : (busy.clientHeight > 10 ? "bar " : "line ") + stage;
			if (window.looks.at(-1) !== look) {
				window.looks.push(look);
			}
		}).observe(busy, {attributes: true});
	}`))
	b.stroke("object", [3]int{95 - 70, 63 - 36, 0}, [3]int{95 - 80, 63 - 36, 0})
	b.until("the bar", `document.querySelector("#busy").classList.contains("long") && document.querySelector("#stage").textContent && window.release`)
	b.screenshot("takes-long")
	type bar struct {
		Stage, Now string
		Part       float64
	}
	got := run(b, chromedp.Evaluate[bar](`({stage: document.querySelector("#stage").textContent, now: document.querySelector("#busy").getAttribute("aria-valuenow"),
		part: document.querySelector("#bar").clientWidth / document.querySelector("#busy").clientWidth})`))
	if got.Stage != "Carrying the object through the volume: 3 of 12" || got.Now != "25" || math.Abs(got.Part-0.25) > 0.01 {
		b.t.Errorf("of a stage that is a quarter done the bar tells %+v", got)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("window.release()"))
	b.idle()
	looks := run(b, chromedp.Evaluate[[]string]("window.looks"))
	if want := []string{"line without", "bar with stage", "nothing"}; !slices.Equal(looks, want) {
		b.t.Errorf("while the server thinks the page shows %q, want %q", looks, want)
	}
	if text := b.text("#stage"); text != "" {
		b.t.Errorf("after the answer the stage is still %q", text)
	}
}

func (b *browser) strokeVoxels() int {
	b.t.Helper()
	return run(b, chromedp.Evaluate[int]("scrawl.strokeVoxels()"))
}

// idle waits until all strokes are answered.
func (b *browser) idle() {
	b.t.Helper()
	b.until("the answers", `document.querySelector("#busy").hidden`)
}

// drop lets go of a file over the image.
func (b *browser) drop(file string) {
	b.t.Helper()
	data := &input.DragData{Items: []*input.DragDataItem{}, Files: []string{file}, DragOperationsMask: 1}
	for _, kind := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
		if _, err := chromedp.Call(b.ctx, input.DispatchDragEvent, input.DispatchDragEventParams{Type: kind, X: 500, Y: 300, Data: data}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// touch draws with a finger.
func (b *browser) touch(voxels ...[3]int) {
	b.t.Helper()
	send := func(kind input.DispatchTouchEventType, points ...*input.TouchPoint) {
		b.t.Helper()
		if points == nil {
			points = []*input.TouchPoint{}
		}
		if _, err := chromedp.Call(b.ctx, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: kind, TouchPoints: points}); err != nil {
			b.t.Fatal(err)
		}
	}
	kind := input.DispatchTouchEventTypeTouchStart
	for _, v := range voxels {
		at := b.pageOf(v)
		send(kind, &input.TouchPoint{X: at.X, Y: at.Y})
		kind = input.DispatchTouchEventTypeTouchMove
		time.Sleep(20 * time.Millisecond) // the viewer looks whether a second finger follows
	}
	send(input.DispatchTouchEventTypeTouchEnd)
}

// point is a place on the page.
type point struct{ X, Y float64 }

func (b *browser) pageOf(v [3]int) point {
	b.t.Helper()
	return run(b, chromedp.Evaluate[point](fmt.Sprintf("scrawl.pageOf([%d,%d,%d])", v[0], v[1], v[2])))
}

// pointer draws with what moves the cursor, with the tool that is chosen.
func (b *browser) pointer(kind input.DispatchMouseEventPointerType, voxels ...[3]int) {
	b.t.Helper()
	events := []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed}
	for i, v := range voxels {
		at := b.pageOf(v)
		if i > 0 {
			events = []input.DispatchMouseEventType{input.DispatchMouseEventTypeMouseMoved}
		}
		if i == len(voxels)-1 {
			events = append(events, input.DispatchMouseEventTypeMouseReleased)
		}
		for _, e := range events {
			params := input.DispatchMouseEventParams{Type: e, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1, PointerType: kind}
			if _, err := chromedp.Call(b.ctx, input.DispatchMouseEvent, params); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// The operator sees the course of a training.
func TestOperatorInBrowser(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	b := openBrowser(t, 1280, 720)
	if status, answer := s.call("POST", "/train/organs?run_sync=true", `{"max_epochs":3,"client_id":"ann"}`); status != 200 {
		t.Fatalf("training: %d %v", status, answer)
	}
	b.do(chromedp.Navigate(s.address + "/operator"))
	b.until("the curve", `document.querySelector("#curve polyline")?.getAttribute("points").split(" ").length === 3`)
	if text := b.text("#training"); !strings.Contains(text, "3 of 3") || !strings.Contains(text, "organs") {
		t.Errorf("of the training the operator is told %q", text)
	}
	if run(b, chromedp.Evaluate[bool](`[...document.querySelectorAll("section")].some(s => s.scrollWidth > s.clientWidth)`)) {
		t.Error("a table of the operator's page is cut at 1280 pixels")
	}
	b.screenshot("operator")
}

// writePicture draws a bright disc on a dark ground.
func writePicture(t *testing.T, name string) {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 96, 64))
	for y := range 64 {
		for x := range 96 {
			grey := uint8(40 + (x*7+y*13)%9)
			if (x-34)*(x-34)+(y-32)*(y-32) < 18*18 {
				grey += 150
			}
			img.SetGray(x, y, color.Gray{Y: grey})
		}
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func readLabels(name string) (*volume.LabelMap, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return format.DecodeLabels(name, f, volume.DefaultLimits())
}

// BenchmarkPage measures what a person waits for on a CT of 512×512×100 voxels: the first picture after the page was opened, and the mask
// of the slice after a stroke. Times are the browser's own, in milliseconds.
func BenchmarkPage(b *testing.B) {
	p := startDemo(b)
	p.kill()
	v, truth := phantom.Abdomen([3]int{512, 512, 100}, [3]float64{0.75, 0.75, 3}, exampleSeed)
	name := filepath.Join(p.studies, "large.nii.gz")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := format.Encode(name, f, v, format.Options{DType: string(volume.Int16)}); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	p.start()
	page := openBrowser(b, 1280, 720)
	const k = 60
	aorta := phantom.Labels()["aorta"]
	run, _ := longest(v.Size, k, func(at int) bool { return truth.Labels[at] == aorta })
	at := func(i int) [3]int { return [3]int{v.Size[0] - 1 - i, v.Size[1] - 1 - run.j, k} }
	var picture, mask float64
	n := 0
	for b.Loop() {
		page.open(p.address + "/?image=large")
		page.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("scrawl.goTo(2, %d)", k)))
		page.choose("aorta")
		done := page.interactions()
		page.stroke("object", at(run.from+2), at((run.from+run.to)/2), at(run.to-2))
		page.answered(done + 1)
		picture += page.mark("picture")
		mask += page.mark("mask") - page.mark("stroke")
		n++
		page.click("#clear")
		page.answered(done + 2)
	}
	b.ReportMetric(picture/float64(n), "ms/picture")
	b.ReportMetric(mask/float64(n), "ms/mask")
	b.ReportMetric(0, "ns/op")
}

// mark is when the page first noted a mark, in milliseconds since it was opened.
func (b *browser) mark(name string) float64 {
	b.t.Helper()
	return run(b, chromedp.Evaluate[float64](fmt.Sprintf("performance.getEntriesByName(%q)[0].startTime", name)))
}
