package labelserver

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/adapters/format"
	"scrawl/apps/phantom"
	"scrawl/labelserver/auth"
)

// The unmodified Python client logs in, and one object of it can go on after an upload, though it then announces bodies that it does not
// send.
func TestPythonClientLogsIn(t *testing.T) {
	python := pythonClient(t)
	dir := t.TempDir()
	hash, err := auth.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	accounts := encode(t, filepath.Join(dir, "accounts.yaml"), func(w io.Writer) error {
		a := auth.Accounts{Users: []auth.Account{{Name: "anna", Password: hash, Roles: []string{"user", "annotator"}}}}
		return a.Encode(w)
	})
	image, _ := phantom.Abdomen([3]int{24, 20, 6}, [3]float64{8, 8, 15}, 1)
	file := encode(t, filepath.Join(dir, "x.nii.gz"), func(w io.Writer) error {
		return format.Encode("x.nii.gz", w, image, format.Options{DType: "int16", Compress: true})
	})
	address := serveConfig(t, map[string]any{
		"app": writeApp(t, testYAML), "studies": filepath.Join(dir, "studies"), "state.dir": filepath.Join(dir, "state"), "auth.enable": true, "auth.accounts": accounts,
	})
	cmd := exec.CommandContext(t.Context(), python, "testdata/client_login.py", address, "anna", "correct horse", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("client: %v\n%s", err, stderr.String())
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var got map[string]any
	if err := json.Unmarshal(lines[len(lines)-1], &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want := map[string]any{
		"enabled": true, "before": 401.0, "wrong": 401.0, "type": "Bearer", "valid": true, "name": "Scrawl", "uploaded": "mine", "after_upload": 200.0,
		"sample": true, "after_sample": 200.0, "train": 403.0, "running": false, "made_up": 401.0, "made_up_valid": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
