package inspect

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/apps"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

func compiler(t *testing.T) adapt.Compiler {
	lib := orttest.Library(t)
	return func(m *onnx.Model) (adapt.Session, error) {
		data, err := m.Marshal()
		if err != nil {
			return nil, err
		}
		s, err := lib.NewSession(data, ort.Options{})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Exported networks: which sizes they take, which parts they have, and that they can be adapted.
func TestLook(t *testing.T) {
	for file, want := range map[string]struct {
		channels, classes, multiple int
		normalised                  bool
	}{
		"engine/onnx/testdata/unet_instance_nearest_17.onnx": {1, 2, 2, true},
		"engine/onnx/testdata/unet_batch_bilinear_11.onnx":   {1, 2, 1, false},
		"apps/scribbles/image_only.onnx":                     {1, 2, 4, true},
	} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var stages []int
			n, err := Look(t.Context(), read(t, strings.Split(file, "/")...), compiler(t), func(s int) { stages = append(stages, s) })
			if err != nil {
				t.Fatal(err)
			}
			if n.Channels != want.channels || n.Classes != want.classes || n.Multiple != want.multiple || !n.Ready() {
				t.Errorf("found %+v", n)
			}
			if normal := n.Parts[2]; (normal.Missing == "") != want.normalised {
				t.Errorf("normalisation: %+v", normal)
			}
			if n.Parts[1].Numbers == 0 || n.Parts[1].Numbers >= n.Parts[0].Numbers {
				t.Errorf("the decoder has %d of %d weights", n.Parts[1].Numbers, n.Parts[0].Numbers)
			}
			if len(stages) != len(Stages) || n.PredictTime <= 0 || n.LearnTime <= 0 {
				t.Errorf("stages %v, times %v and %v", stages, n.PredictTime, n.LearnTime)
			}
			if !slices.ContainsFunc(n.Operators, func(o Operator) bool { return o.Name == "Conv" && o.Count > 2 && o.Differ }) {
				t.Errorf("operators %+v", n.Operators)
			}
		})
	}
	if _, err := Look(t.Context(), []byte("no network"), nil, func(int) {}); err == nil {
		t.Error("bytes that are no network were taken")
	}
}

func TestDraft(t *testing.T) {
	plain := Network{Channels: 1, Classes: 2, Size: []int{0, 0}, Multiple: 16}
	change := func(f func(*Network)) Network { n := plain; f(&n); return n }
	for name, c := range map[string]struct {
		n    Network
		w    Wishes
		want []string // in app.yaml
		note string
	}{
		"one unnamed object":  {plain, Wishes{Name: "net"}, []string{"channels: [image]", "grid: 256", "multiple: 16", "profile: thesis"}, "without a name"},
		"one named object":    {plain, Wishes{Name: "net", Labels: []string{"liver"}}, []string{"liver: 1", "type: segmentation", "network: net", "patch: [256, 256]"}, ""},
		"labels of the file":  {change(func(n *Network) { n.Classes, n.Labels = 3, []string{"a", "b"} }), Wishes{Name: "net"}, []string{"a: 1", "b: 2"}, "the file names"},
		"nameless classes":    {change(func(n *Network) { n.Classes = 3 }), Wishes{Name: "net"}, []string{"class 1: 1", "class 2: 2"}, "--labels"},
		"colour":              {change(func(n *Network) { n.Channels = 3 }), Wishes{Name: "net"}, []string{"channels: [image, image, image]", "mean: [0.485, 0.456, 0.406]"}, "ImageNet"},
		"strokes":             {change(func(n *Network) { n.Channels = 4 }), Wishes{Name: "net"}, []string{"channels: [image, positive, negative, previous]", "profile: hindsight"}, "--channels"},
		"volumes":             {change(func(n *Network) { n.Size, n.Multiple = []int{0, 0, 0}, 8 }), Wishes{Name: "net", Labels: []string{"brain"}, Part: "decoder"}, []string{"patch: [96, 96, 96]", "trainable: {part: decoder}"}, ""},
		"one size only":       {change(func(n *Network) { n.Size, n.Multiple = []int{224, 224}, 1 }), Wishes{Name: "net"}, []string{"grid: 224", "multiple: 1"}, ""},
		"channels as told":    {change(func(n *Network) { n.Channels = 6 }), Wishes{Name: "net", Channels: []string{"image", "image", "image", "previous", "positive", "negative"}}, []string{"channels: [image, image, image, previous, positive, negative]"}, ""},
		"large multiples fit": {change(func(n *Network) { n.Multiple = 64 }), Wishes{Name: "net", Grid: 200}, []string{"grid: 192"}, ""},
	} {
		d, err := NewDraft(c.n, c.w, "net.onnx")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := d.YAML()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: app.yaml lacks %q:\n%s", name, want, text)
			}
		}
		if notes := strings.Join(d.Notes, "\n"); !strings.Contains(notes, c.note) {
			t.Errorf("%s: notes %q, want one about %q", name, notes, c.note)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.yaml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := apps.Open(dir); err != nil {
			t.Errorf("%s: the app does not open: %v\n%s", name, err, text)
		}
	}
	for name, w := range map[string]Wishes{
		"too many channels named": {Name: "net", Channels: []string{"image", "image"}},
		"too many labels named":   {Name: "net", Labels: []string{"a", "b", "c"}},
	} {
		if _, err := NewDraft(plain, w, "net.onnx"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := NewDraft(change(func(n *Network) { n.Channels = 7 }), Wishes{Name: "net"}, "net.onnx"); err == nil || !strings.Contains(err.Error(), "--channels") {
		t.Errorf("seven channels: %v", err)
	}
}

func TestLabelsInMetadata(t *testing.T) {
	for text, want := range map[string][]string{
		`["background","liver","spleen"]`: {"liver", "spleen"},
		"liver, spleen":                   {"liver", "spleen"},
		"":                                nil,
	} {
		if got := labelsOf(map[string]string{"labels": text}); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}
