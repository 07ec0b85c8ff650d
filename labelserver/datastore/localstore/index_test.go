package localstore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// The files in testdata were written by Python (make_index.py): uploads and predictions are indexes such as the
// incumbent leaves, odd has what else it may write.
func TestIndexIsWrittenAsPythonDoes(t *testing.T) {
	for _, name := range []string{"uploads", "predictions", "odd"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		x, err := decodeIndex(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := x.encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := string(text)
		for _, pair := range [][2]string{{": NaN", ": null"}, {" -Infinity,", " null,"}, {" Infinity,", " null,"}} {
			want = strings.ReplaceAll(want, pair[0], pair[1])
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestIndexThatIsNone(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"", "broken JSON near byte 0: unexpected EOF"},
		{"{", "unexpected EOF"},
		{"[]", "not an object"},
		{"null", "not an object"},
		{"{} {}", "text follows"},
		{"\xff{}", "not UTF-8"},
		{`{"name":3}`, `"name" is not a string`},
		{`{"images_dir":"../other"}`, `images_dir is "../other", want a folder inside`},
		{`{"images_dir":"/data"}`, `images_dir is "/data", want a folder inside`},
		{`{"labels_dir":""}`, `labels_dir is "", want a folder inside`},
		{`{"objects":[]}`, "not an object"},
		{`{"objects":{"a":3}}`, `object "a" is not an object`},
		{`{"objects":{"a":{}}}`, `object "a": member "image" is missing`},
		{`{"objects":{"a":{"image":{"ext":3}}}}`, `object "a": image: member "ext" is not a string`},
		{`{"objects":{"a":{"image":{"info":[]}}}}`, `"info" is not an object`},
		{`{"objects":{"a":{"image":{},"labels":null}}}`, `"labels" is not an object`},
		{`{"objects":{"a":{"image":{},"labels":{"final":1}}}}`, `label "final" is not an object`},
		{`{"objects":{"a":{"image":{}}`, "unexpected EOF"},
		{`{"objects":{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}}`, "nested deeper"},
	} {
		if _, err := decodeIndex([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: error is %v, want %q in it", c.text, err, c.says)
		}
	}
}

func TestIndexMadeByHand(t *testing.T) {
	x, err := decodeIndex([]byte(`{"objects":{"a":{"image":{}}},"images_dir":"","note":"mine"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.Encode(x.document())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"objects":{"a":{"image":{"ext":"","info":{}},"labels":{}}},"images_dir":".","note":"mine",` +
		`"name":"new-dataset","description":"New Dataset","labels_dir":"labels"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutNaN(t *testing.T) {
	for in, want := range map[string]string{
		`[NaN,-Infinity,Infinity,-1]`: `[null,null,null,-1]`,
		`{"NaN":"Infinity \" NaN"}`:   `{"NaN":"Infinity \" NaN"}`,
		`{"a\\":NaN}`:                 `{"a\\":null}`,
		`"NaN`:                        `"NaN`,
		`"NaN\`:                       `"NaN\`,
	} {
		if got := string(withoutNaN([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	x, err := newExtensions([]string{"*.nii.gz", "*.nii", "*.gz", "*.nrrd"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		image  split
		labels []split
	}{
		{"case_0.nii.gz", split{"case_0", ".nii.gz"}, []split{{"case_0", ".nii.gz"}}},
		{"a.b.nii", split{"a.b", ".nii"}, []split{{"a.b", ".nii"}}},
		{"a.nii.gz.nii.gz", split{"a.nii.gz", ".nii.gz"}, []split{{"a.nii.gz", ".nii.gz"}}},
		{"3: Thorax 1.0 B45f.nrrd", split{"3: Thorax 1.0 B45f", ".nrrd"}, []split{{"3: Thorax 1.0 B45f", ".nrrd"}}},
		{"x.seg.nrrd", split{"x.seg", ".nrrd"}, []split{{"x.seg", ".nrrd"}, {"x", ".seg.nrrd"}}},
		{"x.json", split{}, nil},
		{"nii.gz", split{"nii", ".gz"}, []split{{"nii", ".gz"}}},
		{".nii.gz", split{}, nil},
		{"x", split{}, nil},
	} {
		image, ok := x.image(c.name)
		if !ok {
			image = split{}
		}
		if image != c.image {
			t.Errorf("%s as an image is %v, want %v", c.name, image, c.image)
		}
		if diff := cmp.Diff(c.labels, x.label(c.name), cmp.AllowUnexported(split{})); diff != "" {
			t.Errorf("%s as a label: %s", c.name, diff)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"*"}, {"*."}, {"x*.nii"}, {"nii"}, {"*.n*"}, {"*./x"}, {`*.a\b`}} {
		if _, err := newExtensions(bad); err == nil {
			t.Errorf("patterns %q are taken", bad)
		}
	}
}

// TestSplitInverts: the parts of a split make the name again, and a stored name splits into what it was made of.
func TestSplitInverts(t *testing.T) {
	x, err := newExtensions([]string{"*.nii.gz", "*.nii", "*.nrrd"})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a-zé0-9 +]([a-zé0-9 +.]{0,9}[a-z])?`).Draw(t, "id")
		ext := x.storedImage(rapid.SampledFrom([]string{".nii.gz", ".v1.nii", ".nrrd", ".seg.nrrd"}).Draw(t, "ext"))
		if got, ok := x.image(id + ext); !ok || got.id+got.ext != id+ext || got != (split{id, ext}) {
			t.Errorf("%q + %q splits into %v, %v", id, ext, got, ok)
		}
	})
}

func FuzzIndex(f *testing.F) {
	for _, name := range []string{"uploads", "predictions", "odd"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"objects":{"a":{"image":{}},"a":{"image":{"ext":".x"},"labels":{"t":{}}}},"x":[NaN]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := decodeIndex(text)
		if err != nil {
			return
		}
		once, err := x.encode()
		if err != nil {
			t.Fatalf("an index that was read cannot be written: %v", err)
		}
		again, err := decodeIndex(once)
		if err != nil {
			t.Fatalf("an index that was written cannot be read: %v\n%s", err, once)
		}
		twice, err := again.encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("an index changes when it is read and written again: %v\n%s\n%s", err, once, twice)
		}
		for id, e := range x.entries {
			if _, err := e.withLabel("t", ".x", api.NewObject("k", 1)).withImage(".y", nil).withoutLabel("t").sealed(); err != nil {
				t.Fatalf("object %q cannot be changed: %v", id, err)
			}
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("case_0.nii.gz", ".nii.gz")
	f.Add("x.seg.nrrd", ".v1.seg.nrrd")
	f.Add(`..\x.nii`, "")
	f.Fuzz(func(t *testing.T, name, ext string) {
		x, err := newExtensions([]string{"*.nii.gz", "*.nii", "*.nrrd", "*.png"})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range x.label(name) {
			if s.id+s.ext != name || datastore.CheckID(s.id) != nil {
				t.Errorf("%q splits into %q", name, s)
			}
		}
		for _, stored := range []string{x.storedImage(ext), x.storedLabel(ext)} {
			if !strings.HasSuffix(ext, stored) {
				t.Errorf("%q is stored under %q", ext, stored)
			}
		}
		if file, err := checkFile(name, ext); err == nil && !filepath.IsLocal(file) {
			t.Errorf("%q leads out of its folder", file)
		}
	})
}
