package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
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

func TestEveryFileOfSettingsLoads(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(configs, "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		if _, err := Load(file, nil, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestSchemaCoversEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(configs, "schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	collectProperties(t, &got, "", text)
	slices.Sort(got)
	if diff := cmp.Diff(Keys(), got); diff != "" {
		t.Errorf("configs/schema.json differs from Config (-config +schema):\n%s", diff)
	}
}

// collectProperties lists the dotted names of a schema's properties that have none of their own. Objects must be closed.
func collectProperties(t *testing.T, found *[]string, prefix string, text []byte) {
	t.Helper()
	var node struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Additional *bool                      `json:"additionalProperties"`
	}
	if err := json.Unmarshal(text, &node); err != nil {
		t.Fatal(err)
	}
	if node.Properties == nil {
		*found = append(*found, strings.TrimSuffix(prefix, "."))
		return
	}
	if node.Additional == nil || *node.Additional {
		t.Errorf("schema of %q takes properties that nobody knows", prefix)
	}
	for name, raw := range node.Properties {
		collectProperties(t, found, prefix+name+".", raw)
	}
}

// The schema takes what Load takes and refuses what Load refuses for the form of a value.
func TestSchemaValidates(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(configs, "schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(file string) error {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := yaml.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		if value == nil {
			return nil
		}
		return schema.Validate(value)
	}
	good, _ := filepath.Glob("testdata/good/*.yaml")
	for _, file := range append(good, filepath.Join(configs, "default.yaml")) {
		if err := check(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, name := range []string{"misspelt", "section", "device", "port-range", "port-text", "prefix", "duration", "size", "no-extensions", "origin"} {
		if check("testdata/bad/"+name+".yaml") == nil {
			t.Errorf("the schema takes testdata/bad/%s.yaml", name)
		}
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
		"SCRAWL_REQUIRE=1", "HOME=/nowhere", "SCRAWL_AUTH_ALLOW_ANONYMOUS=true",
	}
	got, err := Load("testdata/good/some.yaml", environ, map[string]any{"app": "other", "server.host": "0.0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Studies, want.App = "/srv/monai", "other"
	want.Server.Host, want.Server.Port = "0.0.0.0", 9001
	want.Server.CORSOrigins = []string{"http://a", "http://b"}
	want.Auth.AllowAnonymous = true
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

func TestSources(t *testing.T) {
	l, err := Read(Input{
		File: "testdata/good/some.yaml",
		Environ: []string{
			"MONAI_LABEL_SERVER_PORT=9000", "SCRAWL_SERVER_PORT=9001", "MONAI_LABEL_INFER_CONCURRENCY=4", "SCRAWL_SERVER_PROT=1", "MONAI_LABEL_AUTH_CLIENT_ID=lab",
			`MONAI_LABEL_APP_CONF={"models":"scribbles,other","skip_scoring":"true","preload":"true"}`, "MONAI_LABEL_DATASTORE_URL=",
			"SCRAWL_AUTH_CLIENT_SECRET=hush-hush",
		},
		Conf:      [][2]string{{"models", "scribbles"}, {"engine.profile", "thesis"}, {"skip_trainers", "False"}},
		Overrides: map[string]any{"app": "other"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.Server.Port != 9001 || !slices.Equal(l.Models, []string{"scribbles"}) || l.Engine.Profile != "thesis" || l.Tasks.Scoring || !l.Tasks.Train || l.Auth.ClientID != "lab" {
		t.Errorf("configuration is %+v", l.Config)
	}
	for key, want := range map[string]string{
		"server.port": "environment variable SCRAWL_SERVER_PORT", "studies": "configuration testdata/good/some.yaml", "engine.profile": "--conf engine.profile",
		"app": "command line", "tasks.scoring": "--conf skip_scoring", "server.name": "default",
	} {
		if got := l.Source(key); got != want {
			t.Errorf("source of %s is %q, want %q", key, got, want)
		}
	}
	for _, want := range []string{"MONAI_LABEL_INFER_CONCURRENCY", "did you mean server.port", "preload"} {
		if !slices.ContainsFunc(l.Notices, func(n string) bool { return strings.Contains(n, want) }) {
			t.Errorf("notices %q do not speak of %s", l.Notices, want)
		}
	}
	var b strings.Builder
	if err := l.Print(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Contains(text, "hush-hush") || !strings.Contains(text, `client_secret: '********' # environment variable SCRAWL_AUTH_CLIENT_SECRET`) ||
		!strings.Contains(text, "port: 9001 # environment variable SCRAWL_SERVER_PORT") {
		t.Errorf("printed as\n%s", text)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", l.Config, l.Config, *l.Config), "hush-hush") {
		t.Error("the secret shows in a printed configuration")
	}
	file := filepath.Join(t.TempDir(), "printed.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := Load(file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	back.Auth.ClientSecret = l.Auth.ClientSecret
	if diff := cmp.Diff(l.Config, back); diff != "" {
		t.Errorf("what is printed does not read back (-want +got):\n%s", diff)
	}
}

func TestConf(t *testing.T) {
	for _, bad := range [][2]string{{"server.prot", "1"}, {"skip_scoring", "perhaps"}, {"server.port", "many"}, {"nonsense", "1"}} {
		if _, err := Read(Input{Conf: [][2]string{bad}}); err == nil || !strings.Contains(err.Error(), bad[0]) {
			t.Errorf("--conf %s %s gives %v", bad[0], bad[1], err)
		}
	}
	for _, bad := range []string{"MONAI_LABEL_DATASTORE=xnat", "MONAI_LABEL_APP_CONF=[1]", "MONAI_LABEL_AUTH_ENABLE=true"} {
		if _, err := Load("", []string{bad}, nil); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	l, err := Read(Input{Conf: [][2]string{{"models", "all"}, {"use_pretrained_model", "false"}}})
	if err != nil || len(l.Models) != 0 || len(l.Notices) != 1 {
		t.Errorf("models all: %+v, %v", l, err)
	}
}

// Without a login only this machine may be let in, unless somebody says so.
func TestWhoMayListen(t *testing.T) {
	for _, c := range []struct {
		settings map[string]any
		ok       bool
	}{
		{map[string]any{"server.host": "127.0.0.1"}, true},
		{map[string]any{"server.host": "localhost"}, true},
		{map[string]any{"server.host": "::1"}, true},
		{map[string]any{"server.host": "0.0.0.0"}, false},
		{map[string]any{"server.host": ""}, false},
		{map[string]any{"server.host": "::"}, false},
		{map[string]any{"server.host": "10.0.0.7"}, false},
		{map[string]any{"server.host": "lab.example"}, false},
		{map[string]any{"server.host": "0.0.0.0", "auth.allow_anonymous": true}, true},
		{map[string]any{"server.host": "0.0.0.0", "auth.enable": true}, false},
		{map[string]any{"server.host": "0.0.0.0", "auth.enable": true, "auth.accounts": "accounts.yaml"}, true},
		{map[string]any{"auth.enable": true, "auth.accounts": "accounts.yaml", "auth.allow_anonymous": true}, false},
		{map[string]any{"auth.enable": true, "auth.realm_uri": "https://sso.example/realms/m"}, true},
		{map[string]any{"auth.enable": true, "auth.realm_uri": "http://sso.example/realms/m"}, false},
		{map[string]any{"auth.enable": true, "auth.realm_uri": "http://127.0.0.1:8080/realms/m"}, true},
		{map[string]any{"auth.enable": true, "auth.realm_uri": "ftp://127.0.0.1/realms/m"}, false},
		{map[string]any{"auth.roles.user": "monailabel-admin"}, false},
	} {
		if _, err := Load("", nil, c.settings); (err == nil) != c.ok {
			t.Errorf("%v gives %v", c.settings, err)
		}
	}
}

func TestEnvFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("export MONAI_LABEL_SERVER_PORT=9000\nMONAI_LABEL_STUDIES=\"/srv/a b\"\nPATH=/evil\n# x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := WithEnvFile([]string{"MONAI_LABEL_SERVER_PORT=9001", "PATH=/bin"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"MONAI_LABEL_SERVER_PORT=9001", "PATH=/bin", "MONAI_LABEL_STUDIES=/srv/a b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := WithEnvFile(nil, file+".none"); err != nil || got != nil {
		t.Errorf("a missing file gives %v, %v", got, err)
	}
}
