package versions_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/api"
	"scrawl/labelserver/versions"
)

func numbers(t *testing.T, s *versions.Store) (all []int, current int) {
	t.Helper()
	list, err := s.List("net")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		all = append(all, v.Number)
	}
	if current, err = s.Current("net"); err != nil {
		t.Fatal(err)
	}
	return all, current
}

func want(t *testing.T, s *versions.Store, current int, all ...int) {
	t.Helper()
	got, now := numbers(t, s)
	if !cmp.Equal(all, got) || now != current {
		t.Errorf("versions %v and current %d, want %v and %d", got, now, all, current)
	}
}

func add(t *testing.T, s *versions.Store, content string, v versions.Version) versions.Version {
	t.Helper()
	v, err := s.Add("net", []byte(content), v)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVersions(t *testing.T) {
	dir := t.TempDir()
	s := versions.NewStore(filepath.Join(dir, "made later"))
	want(t, s, 0)
	given := versions.Version{Parent: "SHA256:00", Origin: versions.Trained, Data: []versions.Datum{{Image: "a b+c", Label: "SHA256:01"}, {Image: "d", Label: "SHA256:02", Held: true}},
		Metrics: map[string]float64{"val_mean_dice": 0.5}, Details: api.NewObject("learning_rate", 1.0)}
	one := add(t, s, "one", given)
	want(t, s, 0, 1) // nothing is served before it is selected
	back, err := s.Get("net", 1)
	if err != nil {
		t.Fatal(err)
	}
	rate, _ := back.Details.Number("learning_rate")
	back.Details, one.Details = nil, nil
	if d := cmp.Diff(one, back, cmp.AllowUnexported(api.Object{})); d != "" || rate != 1 {
		t.Errorf("read back (-want +got):\n%s", d)
	}
	data, v, err := s.Read("net", 1)
	if err != nil || string(data) != "one" || v.Checksum != versions.Checksum(data) {
		t.Errorf("read %q, %v, %v", data, v.Checksum, err)
	}
	if again := add(t, s, "one", versions.Version{Origin: versions.Uploaded}); again.Number != 1 || again.Origin != versions.Trained {
		t.Errorf("the same file again is version %+v", again)
	}
	add(t, s, "two", versions.Version{})
	add(t, s, "three", versions.Version{})
	for _, n := range []int{2, 3, 0, 3} {
		if err := s.Select("net", n); err != nil {
			t.Fatal(err)
		}
		want(t, s, n, 1, 2, 3)
	}
	// Another process sees the same.
	want(t, versions.NewStore(filepath.Join(dir, "made later")), 3, 1, 2, 3)

	if now, err := s.Withdraw("net", 3); err != nil || now != 2 {
		t.Errorf("withdrew 3: current %d, %v", now, err)
	}
	if now, err := s.Withdraw("net", 1); err != nil || now != 2 {
		t.Errorf("withdrew 1: current %d, %v", now, err)
	}
	if now, err := s.Withdraw("net", 2); err != nil || now != 0 {
		t.Errorf("withdrew 2: current %d, %v", now, err)
	}
	if err := s.Select("net", 3); !errors.Is(err, versions.ErrNotFound) {
		t.Errorf("selected a withdrawn version: %v", err)
	}
	if v := add(t, s, "three", versions.Version{}); v.Number != 4 {
		t.Errorf("a withdrawn file added again is version %d, want a new one", v.Number)
	}
	for _, n := range []int{-1, 5, 0} {
		if _, err := s.Withdraw("net", n); !errors.Is(err, versions.ErrNotFound) {
			t.Errorf("withdrew version %d: %v", n, err)
		}
	}
}

// Damage is told, never served.
func TestDamage(t *testing.T) {
	s := versions.NewStore(t.TempDir())
	add(t, s, "one", versions.Version{})
	if err := os.WriteFile(s.Path("net", 1), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read("net", 1); !errors.Is(err, versions.ErrDamaged) {
		t.Errorf("a changed file: %v", err)
	}
	if err := os.Remove(s.Path("net", 1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read("net", 1); !errors.Is(err, versions.ErrDamaged) {
		t.Errorf("no file: %v", err)
	}
	for _, content := range []string{"", "{", `{"number":-1}`, `{"number":"x"}`} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(s.Path("net", 1)), "..", "current.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Current("net"); !errors.Is(err, versions.ErrDamaged) {
			t.Errorf("current version %q: %v", content, err)
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	s := versions.NewStore(filepath.Join(dir, "inside"))
	for _, name := range []string{"", ".", "..", "../net", "a/b", `a\b`, ".hidden", "a\x00b", "a\nb"} {
		if _, err := s.Add(name, []byte("x"), versions.Version{}); !errors.Is(err, versions.ErrName) {
			t.Errorf("added to %q: %v", name, err)
		}
		if _, err := s.List(name); !errors.Is(err, versions.ErrName) {
			t.Errorf("listed %q: %v", name, err)
		}
		if err := s.Select(name, 0); !errors.Is(err, versions.ErrName) {
			t.Errorf("selected %q: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// Several writers get a number each.
func TestWritersAtOnce(t *testing.T) {
	dir := t.TempDir()
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			if _, err := versions.NewStore(dir).Add("net", fmt.Appendf(nil, "network %d", i), versions.Version{}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	want(t, versions.NewStore(dir), 0, 1, 2, 3, 4, 5, 6, 7, 8)
}
