package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const configs = "../../configs"

func TestDefaultFileSaysTheDefaults(t *testing.T) {
	got, err := Load(filepath.Join(configs, "default.yaml"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("configs/default.yaml differs from Default (-default +file):\n%s", diff)
	}
	text, err := os.ReadFile(filepath.Join(configs, "default.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for key := range keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !strings.Contains(string(text), name+":") {
			t.Errorf("configs/default.yaml does not mention %s", key)
		}
	}
}

func TestSchemaCoversEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(configs, "schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var schema node
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, raw := range schema.Properties {
		var section node
		if err := json.Unmarshal(raw, &section); err != nil {
			t.Fatal(err)
		}
		if section.Properties == nil {
			got = append(got, name)
		}
		for key := range section.Properties {
			got = append(got, name+"."+key)
		}
	}
	var want []string
	for key := range keys() {
		want = append(want, key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configs/schema.json differs from Config (-config +schema):\n%s", diff)
	}
}

func TestGoodFiles(t *testing.T) {
	got, err := Load("testdata/good/some.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Studies = "/srv/studies"
	want.Server.Port = 8001
	want.Server.CORSOrigins = []string{"http://ohif.example"}
	want.Server.MaxUpload = 512 << 20
	want.Engine.InferTimeout = 90 * time.Second
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err = Load("testdata/good/empty.yaml", nil, nil); err != nil || !cmp.Equal(got, Default()) {
		t.Errorf("an empty file gives %+v, %v, want the defaults", got, err)
	}
}

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, want, ok := strings.Cut(string(text), "# want: ")
			if !ok {
				t.Fatal("fixture has no line # want:")
			}
			_, err = Load(file, nil, nil)
			if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
				t.Errorf("error is %v, want one with %q", err, strings.TrimSpace(want))
			}
		})
	}
}

func TestEnvironmentAndOverrides(t *testing.T) {
	environ := []string{
		"MONAI_LABEL_SERVER_PORT=9000", "MONAI_LABEL_STUDIES=/srv/monai", "MONAI_LABEL_SESSION_EXPIRY=120",
		`MONAI_LABEL_DATASTORE_FILE_EXT=["*.nii.gz","*.nrrd"]`, "MONAI_LABEL_DATASTORE_READ_ONLY=True",
		"SCRAWL_SERVER_PORT=9001", "SCRAWL_SERVER_CORS_ORIGINS=http://a, http://b", "SCRAWL_ENGINE_MEMORY=1GiB",
		"SCRAWL_REQUIRE=1", "HOME=/nowhere",
	}
	got, err := Load("testdata/good/some.yaml", environ, map[string]any{"app": "other", "server.host": "0.0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Studies, want.App = "/srv/monai", "other"
	want.Server.Host, want.Server.Port = "0.0.0.0", 9001
	want.Server.CORSOrigins = []string{"http://a", "http://b"}
	want.Server.MaxUpload = 512 << 20
	want.Engine.Memory, want.Engine.InferTimeout = 1<<30, 90*time.Second
	want.Sessions.Expiry = 2 * time.Minute
	want.Datastore.FileExt, want.Datastore.ReadOnly = []string{"*.nii.gz", "*.nrrd"}, true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"SCRAWL_SERVER_PORT=many", "MONAI_LABEL_DATASTORE_READ_ONLY=perhaps", "SCRAWL_STATE_SNAPSHOT_BUDGET=-1"} {
		if _, err := Load("", []string{bad}, nil); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if _, err := Load("", nil, map[string]any{"server.hots": "x"}); err == nil || !strings.Contains(err.Error(), "server.host") {
		t.Errorf("unknown override gives %v, want the nearest key", err)
	}
}

func TestPaths(t *testing.T) {
	c := Default()
	c.Studies = "/srv/s"
	for got, want := range map[string]string{
		c.StateDir(): "/srv/s/.scrawl", c.SessionDir(): "/srv/s/.scrawl/sessions", c.LogFile(): "/srv/s/.scrawl/logs/app.log",
	} {
		if filepath.ToSlash(got) != want {
			t.Errorf("path is %s, want %s", got, want)
		}
	}
	c.State.Dir, c.Sessions.Path, c.Log.File = "/a", "/b", "/c"
	if c.StateDir() != "/a" || c.SessionDir() != "/b" || c.LogFile() != "/c" {
		t.Errorf("set paths are not taken: %s %s %s", c.StateDir(), c.SessionDir(), c.LogFile())
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "17": 17, "512MiB": 512 << 20, "4 GiB": 4 << 30, "1K": 1024, "3B": 3, "2TB": 2 << 40} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
		back, err := ParseSize(got.String())
		if err != nil || back != got {
			t.Errorf("%s does not read back: %d, %v", got, back, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5GiB", "99999999999TiB", "MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}
