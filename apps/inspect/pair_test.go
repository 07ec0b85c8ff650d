package inspect

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/apps"
	"scrawl/engine/onnx"
)

type twoFiles struct{ Encoder, Decoder []byte }

// pairs are the networks of two files of engine/adapt's tests.
func pairs(t *testing.T) map[string]twoFiles {
	t.Helper()
	const dir = "../../engine/adapt/testdata/"
	var small struct{ Sam, Maps twoFiles }
	data, err := os.ReadFile(dir + "two_parts.json")
	if err == nil {
		err = json.Unmarshal(data, &small)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir + "segment_anything.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var sam struct {
		Face, Authors twoFiles
		Dynamo        twoFiles `json:"face_dynamo"`
	}
	if err := json.NewDecoder(r).Decode(&sam); err != nil {
		t.Fatal(err)
	}
	return map[string]twoFiles{"sam": small.Sam, "maps": small.Maps, "face": sam.Face, "dynamo": sam.Dynamo, "authors": sam.Authors}
}

func TestPair(t *testing.T) {
	all := pairs(t)
	for what, c := range map[string]struct {
		w     Wishes
		yaml  []string
		notes []string
	}{
		"sam":     {Wishes{Mask: 1}, []string{"channels: [image, points, previous]", "grid: 32", "points: 4", "previous: logits", "mask: 1", "file: net_decoder.onnx"}, []string{"3 answers: number 1"}},
		"maps":    {Wishes{Grid: 32}, []string{"channels: [image, positive, negative]", "grid: 32"}, []string{`"prompts" has 2 channels`}},
		"face":    {Wishes{}, []string{"channels: [image, points]", "points: 16", "mean: [0.485, 0.456, 0.406]", "positional_embedding"}, []string{"--points", "--plain"}},
		"dynamo":  {Wishes{Part: "normalisation"}, []string{"points: 4", "part: normalisation"}, []string{"3 answers"}},
		"authors": {Wishes{Plain: true, Points: 3}, []string{"channels: [image, points, previous]", "points: 3"}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			c.w.Name, c.w.Description = "net", "what it is for"
			files := all[what]
			p, err := NewPair(files.Decoder, files.Encoder, c.w)
			if err != nil || !p.Swapped {
				t.Fatalf("swapped %v, error %v", p.Swapped, err)
			}
			n, err := Look(t.Context(), p.Joined, compiler(t), func(int) {})
			if err != nil || !n.Ready() || !n.Single {
				t.Fatalf("found %+v, error %v", n, err)
			}
			for _, o := range n.Operators {
				if !o.Differ {
					t.Errorf("weights in front of %s are said not to move", o.Name)
				}
			}
			d, err := p.Draft(n, c.w)
			if err != nil {
				t.Fatal(err)
			}
			text, err := d.YAML()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(c.yaml, "  description: what it is for") {
				if !strings.Contains(string(text), want) {
					t.Errorf("app.yaml lacks %q:\n%s", want, text)
				}
			}
			for _, want := range append(c.notes, "the second file is the encoder") {
				if !strings.Contains(strings.Join(d.Notes, "\n"), want) {
					t.Errorf("notes %q, want one about %q", d.Notes, want)
				}
			}
			dir := t.TempDir()
			for name, data := range map[string][]byte{"app.yaml": text, "net_encoder.onnx": p.Encoder, "net_decoder.onnx": p.Decoder} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			app, err := apps.Open(dir)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if _, err := app.Load(app.Models[0], nil); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

func TestPairRefuses(t *testing.T) {
	all := pairs(t)
	bare := func(decoder []byte) []byte { // whose inputs nobody knows by name
		m, err := onnx.Parse(decoder)
		if err != nil {
			t.Fatal(err)
		}
		for i, in := range m.Graph.Inputs {
			if in.Name == "prompts" {
				m.Graph.Inputs[i].Shape[1] = onnx.Dim{Size: 7}
			}
		}
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for what, c := range map[string]struct {
		one, other []byte
		w          Wishes
		says       string
	}{
		"no network":      {[]byte("hello"), all["sam"].Decoder, Wishes{}, "the first file"},
		"no second":       {all["sam"].Encoder, nil, Wishes{}, "the second file"},
		"two decoders":    {all["sam"].Decoder, all["sam"].Decoder, Wishes{}, "neither file is an encoder"},
		"two encoders":    {all["sam"].Encoder, all["sam"].Encoder, Wishes{Channels: []string{"image", "points"}}, "points"},
		"other networks'": {all["face"].Encoder, all["sam"].Decoder, Wishes{}, "has shape [1 8 4 4]"},
		"unknown maps":    {all["maps"].Encoder, bare(all["maps"].Decoder), Wishes{Grid: 32}, "--channels"},
		"no such answer":  {all["dynamo"].Encoder, all["dynamo"].Decoder, Wishes{Mask: 3}, "no mask 3"},
	} {
		if _, err := NewPair(c.one, c.other, c.w); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one about %q", what, err, c.says)
		}
	}
}

// TestBlocking tells arithmetic of sizes from operators that stand in the way of a gradient.
func TestBlocking(t *testing.T) {
	m, err := onnx.Parse(read(t, "engine", "onnx", "testdata", "unet_group_corners_13.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	differ := func() map[string]bool {
		list, err := operators(m)
		if err != nil {
			t.Fatal(err)
		}
		d := map[string]bool{}
		for _, o := range list {
			d[o.Name] = o.Differ
		}
		return d
	}
	for op, ok := range differ() {
		if !ok {
			t.Errorf("%s is said to be in the way", op)
		}
	}
	for _, n := range m.Graph.Nodes {
		if n.Op == "Relu" {
			n.Op = "Hardmax"
		}
	}
	if d := differ(); d["Hardmax"] || !d["Conv"] {
		t.Errorf("found %v: only Hardmax is in the way", d)
	}
}
