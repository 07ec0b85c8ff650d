package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers are the parts of the tree, each with those whose packages it may import. What is not listed is forbidden.
var layers = map[string][]string{
	"cmd":         {"cmd", "labelserver", "apps", "adapters", "engine"},
	"labelserver": {"labelserver", "apps", "adapters", "engine"},
	"apps":        {"apps", "adapters", "engine"},
	"adapters":    {"adapters"},
	"engine":      {"engine"},
}

// owners are the modules that one package alone may import.
var owners = map[string]string{
	"github.com/labstack/echo/v4":     "scrawl/labelserver/httpapi",
	"github.com/spf13/viper":          "scrawl/labelserver/config",
	"github.com/suyashkumar/dicom":    "scrawl/adapters/dicom",
	"github.com/yalue/onnxruntime_go": "scrawl/engine/ort",
	"github.com/spf13/cobra":          "scrawl/cmd/scrawl",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "scrawl/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list knows %d packages, want all of them", len(all))
	}
	return all
}

func layer(path string) string {
	_, rest, _ := strings.Cut(path, "/")
	top, _, _ := strings.Cut(rest, "/")
	return top
}

// The arrows of the design: cmd → labelserver → apps → {adapters, engine}, and nothing back.
func TestArrowsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		allowed, ok := layers[layer(p.ImportPath)]
		if !ok {
			t.Errorf("package %s lies in no known part of the tree", p.ImportPath)
		}
		for _, in := range p.Imports {
			if strings.HasPrefix(in, "scrawl/") && !slices.Contains(allowed, layer(in)) {
				t.Errorf("%s imports %s, which points upwards or sideways", p.ImportPath, in)
			}
			for module, owner := range owners {
				if owner != "" && p.ImportPath != owner && (in == module || strings.HasPrefix(in, module+"/")) {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, in, owner)
				}
			}
		}
	}
}
