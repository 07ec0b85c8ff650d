package dicomweb

import (
	"bytes"
	"path"
	"strings"
	"testing"
)

func FuzzDatasets(f *testing.F) {
	for _, s := range []string{``, `[]`, `[{"0020000E":{"vr":"UI","Value":["1.2"]}}]`, `[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"a"}]},"00081115":{"vr":"SQ","Value":[{},null,3]}}]`, `[null,{"x":null}]`, `{}`, `[[`, `[{"00201209":{"Value":[1e9,"7"]}}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := decodeDatasets(bytes.NewReader(text), 1<<20)
		if err != nil {
			return
		}
		for _, d := range list {
			for tag := range d {
				_, _ = d.Int(tag)
				_ = d.Items(tag)
			}
		}
		if _, err := decodeDatasets(bytes.NewReader(text), int64(len(text))); err != nil {
			t.Errorf("a limit of the text's own length is too small: %v", err)
		}
	})
}

func FuzzInstanceUID(f *testing.F) {
	head := strings.Repeat("\x00", 128) + "DICM"
	f.Add([]byte(head + "\x02\x00\x00\x00UL\x04\x00\x0a\x00\x00\x00\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01\x02\x00\x03\x00UI\x04\x001.2\x00"))
	f.Add([]byte(head + "\x02\x00\x01\x00OB\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte(head))
	f.Fuzz(func(t *testing.T, file []byte) {
		uid, err := InstanceUID(bytes.NewReader(file))
		if err == nil && CheckUID(uid) != nil {
			t.Errorf("UID %q", uid)
		}
	})
}

// Whatever is let through stays below the root, however it is read on the way.
func FuzzForwardedPath(f *testing.F) {
	for _, s := range []string{"studies", "studies/1.2/series/3/instances/4/frames/1,2", "studies/1/bulkdata/a/b", "studies/../x", "studies/%2e%2e", "studies//x"} {
		f.Add("GET", s)
	}
	f.Fuzz(func(t *testing.T, method, p string) {
		if _, ok := resourceOf(method, p); !ok {
			return
		}
		first, _, _ := strings.Cut(p, "/")
		if path.Clean("/"+p) != "/"+p || strings.ContainsAny(p, "%\\?#@: \r\n") || (first != "studies" && first != "series" && first != "instances") {
			t.Errorf("%s %q is let through", method, p)
		}
	})
}
