package localstore_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/localstore"
)

// incumbent is the datastore of the real monailabel package on a folder, in a process of its own.
type incumbent struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startIncumbent(t *testing.T, dir string) *incumbent {
	t.Helper()
	python := os.Getenv("SCRAWL_PYTHON")
	if python == "" {
		python = "python3"
	}
	const needs = "import filelock, watchdog, pydantic, pydantic_settings, monailabel"
	if out, err := exec.CommandContext(t.Context(), python, "-c", needs).CombinedOutput(); err != nil {
		const how = "`pip install filelock watchdog pydantic pydantic-settings && pip install --no-deps monailabel`, and SCRAWL_PYTHON set to that Python"
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1, but the datastore of MONAI Label is missing (%v: %s); get it with %s", err, out, how)
		}
		t.Skipf("SKIPPED, no datastore of MONAI Label here; get it with %s", how)
	}
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "incumbent.py"), dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	return &incumbent{t, cmd, in, lines}
}

// do runs one command and returns its answer.
func (i *incumbent) do(command ...any) []byte {
	i.t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		i.t.Fatal(err)
	}
	if _, err := i.in.Write(append(line, '\n')); err != nil {
		i.t.Fatal(err)
	}
	if !i.lines.Scan() {
		i.t.Fatalf("%v: the incumbent gave up: %v", command, i.cmd.Wait())
	}
	return i.lines.Bytes()
}

func (i *incumbent) close() {
	i.t.Helper()
	if err := i.in.Close(); err != nil {
		i.t.Fatal(err)
	}
	if err := i.cmd.Wait(); err != nil {
		i.t.Fatal(err)
	}
}

// folderState is all that a store knows, in a form that both can be brought to.
type folderState struct {
	Images, Labelled, Unlabelled []string
	Infos                        map[string]map[string]any
	Labels                       map[string]map[string][2]any // content and info by tag
	Files                        map[string]string
}

func (i *incumbent) state() folderState {
	i.t.Helper()
	var s folderState
	if err := json.Unmarshal(i.do("state"), &s); err != nil {
		i.t.Fatal(err)
	}
	for _, info := range s.Infos {
		delete(info, "path")
	}
	return s
}

func asMap(t *testing.T, o *api.Object) map[string]any {
	t.Helper()
	text, err := api.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func readItem(t *testing.T, item datastore.Item) string {
	t.Helper()
	f, err := item.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ourState is what our store knows, in the incumbent's terms.
func ourState(t *testing.T, s *localstore.Store) folderState {
	t.Helper()
	ctx := t.Context()
	items, err := s.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st := folderState{Images: []string{}, Labelled: []string{}, Unlabelled: []string{}, Infos: map[string]map[string]any{}, Labels: map[string]map[string][2]any{}, Files: map[string]string{}}
	for _, item := range items {
		st.Images = append(st.Images, item.ID)
		st.Infos[item.ID], st.Files[item.ID] = asMap(t, item.Info), readItem(t, item)
		tags, err := s.Tags(ctx, item.ID)
		if err != nil {
			t.Fatal(err)
		}
		st.Labels[item.ID] = map[string][2]any{}
		for _, tag := range tags {
			label, err := s.Label(ctx, item.ID, tag)
			if err != nil {
				t.Fatal(err)
			}
			st.Labels[item.ID][tag] = [2]any{readItem(t, label), asMap(t, label.Info)}
		}
	}
	unlabelled, err := s.Unlabelled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range unlabelled {
		st.Unlabelled = append(st.Unlabelled, item.ID)
	}
	pairs, err := s.Labelled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		st.Labelled = append(st.Labelled, p.Image.ID)
	}
	return st
}

var byName = cmp.Transformer("sorted", func(list []string) map[string]bool {
	m := map[string]bool{}
	for _, name := range list {
		m[name] = true
	}
	return m
})

// A folder that goes to and fro between the real package and this one, one after the other and both at once, loses nothing.
func TestRealIncumbent(t *testing.T) {
	dir, uploads := t.TempDir(), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(uploads, name)
		write(t, path, text)
		return path
	}
	theirs := startIncumbent(t, dir)
	theirs.do("add_image", "case_0", file("x.nii.gz", "image 0"), map[string]any{"client_id": "user-xyz", "user": "admin"})
	theirs.do("add_image", "3: Thorax 1.0 B45f", file("y.nrrd", "image 1"), map[string]any{})
	theirs.do("add_image", "Größe +1", file("z.nii.gz", "image 2"), map[string]any{"nested": map[string]any{"z": 1, "a": []any{1.5, nil, "ü"}}})
	theirs.do("save_label", "case_0", file("l.nii.gz", "label 0"), "final", map[string]any{"label_info": []any{map[string]any{"name": "spleen", "idx": 1}}})
	theirs.do("save_label", "case_0", file("m.nii.gz", "answer 0"), "original", map[string]any{"model": "m"})
	theirs.do("save_label", "Größe +1", file("n.nrrd", "review"), "version_1", map[string]any{})
	theirs.do("image_info", "case_0", map[string]any{"strategy": map[string]any{"random": map[string]any{"ts": 1, "client_id": "x"}}})
	before := theirs.state()
	theirs.close()
	index, err := os.ReadFile(filepath.Join(dir, "datastore_v2.json"))
	if err != nil {
		t.Fatal(err)
	}

	ours := open(t, localstore.Options{Dir: dir})
	if diff := cmp.Diff(before, ourState(t, ours), byName); diff != "" {
		t.Errorf("what the incumbent knew and we know (-incumbent +ours):\n%s", diff)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "datastore_v2.json")); err != nil || string(again) != string(index) {
		t.Errorf("opening the folder rewrote its index: %v\n%s", err, cmp.Diff(string(index), string(again)))
	}
	ctx := t.Context()
	for _, err := range []error{
		ours.PutImage(ctx, "My Volume 1+2", ".nii.gz", strings.NewReader("image 3"), api.NewObject("user", "anna")),
		ours.PutLabel(ctx, "3: Thorax 1.0 B45f", "final", ".nrrd", strings.NewReader("label 1"), api.NewObject("model", "scribbles", "weights", "sha", "seconds", 1.5)),
		ours.PutLabel(ctx, "case_0", "anna", ".nii.gz", strings.NewReader("second reader"), nil),
		ours.UpdateLabelInfo(ctx, "case_0", "final", api.NewObject("segmentationMeta", api.NewObject("status", "approved"))),
		ours.DeleteLabel(ctx, "case_0", "original"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}

	theirs = startIncumbent(t, dir)
	ours = open(t, localstore.Options{Dir: dir})
	if diff := cmp.Diff(ourState(t, ours), theirs.state(), byName); diff != "" {
		t.Errorf("what we left and the incumbent finds (-ours +incumbent):\n%s", diff)
	}
	// Both have the folder open: what one changes the other sees. We never write over what the incumbent wrote; it does not write over what
	// we wrote once its watcher has noticed.
	theirs.do("save_label", "My Volume 1+2", file("o.nii.gz", "label 3"), "final", map[string]any{"by": "incumbent"})
	if err := ours.UpdateImageInfo(ctx, "case_0", api.NewObject("seen", true)); err != nil {
		t.Fatal(err)
	}
	theirs.do("notice")
	theirs.do("label_info", "case_0", "anna", map[string]any{"checked": "yes"})
	if err := ours.PutLabel(ctx, "Größe +1", "final", ".nii.gz", strings.NewReader("label 2"), nil); err != nil {
		t.Fatal(err)
	}
	theirs.do("notice")
	theirs.do("remove_image", "3: Thorax 1.0 B45f")
	got := ourState(t, ours)
	if diff := cmp.Diff(got, theirs.state(), byName); diff != "" {
		t.Errorf("with both at once (-ours +incumbent):\n%s", diff)
	}
	theirs.close()
	seen := got.Infos["case_0"]["seen"] == true && got.Infos["case_0"]["strategy"] != nil
	if !seen || got.Labels["My Volume 1+2"]["final"][0] != "label 3" || got.Labels["Größe +1"]["final"][0] != "label 2" || len(got.Images) != 3 ||
		got.Labels["case_0"]["anna"][1].(map[string]any)["checked"] != "yes" || got.Labels["Größe +1"]["version_1"][0] != "review" {
		t.Errorf("something was lost: %+v", got)
	}
}
