package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"scrawl/engine/ort"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"scrawl": main})
}

// TestScript runs the command line as a user does, one process a command. The scripts that need ONNX Runtime find it in
// ORT_LIB; they are skipped where there is none, unless the environment variable SCRAWL_REQUIRE is 1.
func TestScript(t *testing.T) {
	library, _, err := ort.Locate(context.Background(), "")
	if err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1: %v", err)
		}
		t.Logf("SKIPPED the scripts that need onnx runtime; get it with `go run ./cmd/scrawl runtime install`: %v", err)
	}
	var archive []byte
	if library != "" {
		archive = packed(t, library)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) }))
	t.Cleanup(server.Close) // the scripts run in parallel, after this function
	sum := sha256.Sum256(archive)
	network, err := filepath.Abs(filepath.Join("..", "..", "engine", "onnx", "testdata", "unet_instance_nearest_17.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Condition: func(cond string) (bool, error) {
			return cond == "ort" && library != "", nil
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("LIBRARY", library)
			env.Setenv("NETWORK", network)
			env.Setenv("ARCHIVE_URL", server.URL+"/onnxruntime.zip")
			env.Setenv("ARCHIVE_SHA256", hex.EncodeToString(sum[:]))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			return errors.Join(segmentAnything(env.WorkDir), pictureSet(filepath.Join(env.WorkDir, "pictures")))
		},
	})
}

// segmentAnything writes the two files of a small Segment Anything, as Hugging Face's exporter makes them.
func segmentAnything(dir string) error {
	f, err := os.Open(filepath.Join("..", "..", "engine", "adapt", "testdata", "segment_anything.json.gz"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	var file struct {
		Parts struct{ Encoder, Decoder []byte } `json:"face_dynamo"`
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "vision_encoder.onnx"), file.Parts.Encoder, 0o600),
		os.WriteFile(filepath.Join(dir, "mask_decoder.onnx"), file.Parts.Decoder, 0o600))
}

// packed is a release archive that holds the library.
func packed(t *testing.T, library string) []byte {
	t.Helper()
	f, err := os.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	entry, err := w.CreateHeader(&zip.FileHeader{Name: "onnxruntime/lib/" + filepath.Base(library), Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(entry, f); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
