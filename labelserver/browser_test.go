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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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

func startScrawl(t testing.TB, args ...string) *process {
	t.Helper()
	orttest.Path(t)
	dir := t.TempDir()
	p := &process{t: t, binary: filepath.Join(dir, "scrawl"), args: args, studies: filepath.Join(dir, "studies"), port: "0"}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.binary, "scrawl/cmd/scrawl").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
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
	b.click("#goto")
	b.click("#unsure")
	b.screenshot("4-two-segments-unsure")
	b.click("#unsure")

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
