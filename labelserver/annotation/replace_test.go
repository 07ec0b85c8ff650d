package annotation

import (
	"errors"
	"slices"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// With other weights a network answers differently from the next request on and what was taught to the old ones stays with them.
func TestReplace(t *testing.T) {
	dir, old := t.TempDir(), testModel(t)
	a := newTestAnnotator(t, dir, old)
	u := newUser(t, a, "ann", "case", 1)
	first, _ := u.draw(row(9, 10, 2))
	u.draw(row(9, 10, 2), row(13, 14, 5))
	if s, _ := u.learned(); s == 0 {
		t.Fatal("nothing was learned to begin with")
	}

	net := old.Engine.Network()
	var w adapt.Weights
	for _, s := range net.Source() {
		values := slices.Clone(s.Float32s())
		slices.Reverse(values)
		w = append(w, tensor.Must(s.Shape(), values))
	}
	file, err := net.Model(w)
	if err != nil {
		t.Fatal(err)
	}
	other, err := adapt.NewNetwork(file, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	engine := *old
	if engine.Engine, err = adapt.NewEngine(other, []int{0}, compiler(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Replace("scribbles", func(e *Entry) { e.Model, e.Weights = &engine, "other" }); err != nil {
		t.Fatal(err)
	}
	second, told := u.draw(row(9, 10, 2))
	if undone(told) || slices.Equal(first, second) {
		t.Error("the answer is still the old weights'")
	}
	if err := a.Replace("scribbles", func(e *Entry) { e.Model, e.Weights = old, "w" }); err != nil {
		t.Fatal(err)
	}
	if back, told := u.draw(row(9, 10, 2)); !undone(told) || !slices.Equal(back, first) {
		t.Error("with the old weights what was taught to them is not there again")
	}
	if err := a.Replace("nothing", func(*Entry) {}); !errors.Is(err, NotFound) {
		t.Errorf("an unknown network: %v", err)
	}
}

// What users have taught can be listed and taken, by another process too.
func TestTaught(t *testing.T) {
	dir, m := t.TempDir(), testModel(t)
	a := newTestAnnotator(t, dir, m)
	u := newUser(t, a, "ann", "case", 1)
	if all, err := ListTaught(dir); err != nil || len(all) != 0 {
		t.Fatalf("before anything was drawn: %v, %v", all, err)
	}
	u.draw(row(9, 10, 2))
	u.draw(row(9, 10, 2), row(13, 14, 5))
	u.draw(row(9, 10, 2), row(13, 14, 5), row(12, 9, 6))
	u.learned()
	all, err := ListTaught(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	got := all[0]
	if got.User != "ann" || got.Network != "scribbles" || got.Label != "liver" || got.Weights != "w" || got.Learned < 1 || got.Time.IsZero() {
		t.Errorf("listed %+v", got)
	}
	_, log := u.learned()
	snapshot, err := a.journal.learned(u.lineage(t), log[len(log)-1].Learned)
	if err != nil {
		t.Fatal(err)
	}
	best, want := m.Engine.Best(m.Hindsight, *snapshot.Memory)
	if best == 0 {
		t.Fatal("the network itself is best: this test wants strokes that teach it something")
	}
	file, set, err := got.File(a.served.Load().entries[0])
	if err != nil || set == "" {
		t.Fatalf("set %q, %v", set, err)
	}
	for i, p := range m.Engine.Network().Params() {
		if !slices.Equal(file.Graph.Initializer(p).Float32s(), want[i].Float32s()) {
			t.Errorf("weight %s is not the one that answers", p)
		}
	}
}
