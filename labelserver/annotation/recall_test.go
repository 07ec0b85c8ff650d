package annotation

import (
	"slices"
	"testing"
	"time"
)

func (u *user) work(model, label string) Work {
	return Work{Model: model, Image: u.request().Image, ClientID: u.name, LabelName: label}
}

// recall reads what is remembered of a label, and fails the test when that fails.
func (u *user) recall(model, label string) (labels []string, strokes []uint16, l Learning) {
	u.t.Helper()
	labels, err := u.a.Labels(u.t.Context(), u.work(model, label))
	if err != nil {
		u.t.Fatal(err)
	}
	m, err := u.a.Strokes(u.t.Context(), u.work(model, label))
	if err != nil {
		u.t.Fatal(err)
	}
	if m != nil {
		strokes = m.Labels
	}
	if l, err = u.a.Learned(u.t.Context(), u.work(model, label)); err != nil {
		u.t.Fatal(err)
	}
	return labels, strokes, l
}

// Strokes for networks with classes are remembered label by label, though one lineage learns all of them, and over a restart.
func TestRecallOfClasses(t *testing.T) {
	dir := t.TempDir()
	u := newUser(t, classAnnotator(t, dir), "ann", "case", 1)
	if labels, strokes, l := u.recall("scribbles", "liver"); len(labels) != 0 || strokes != nil || l.OnImage != 0 {
		t.Errorf("an untouched image: %v, %d voxels, %+v", labels, len(strokes), l)
	}
	liver := u.request(row(8, 10, 2))
	answer := infer(t, u.a, liver)
	spleen := u.request(row(20, 14, 5))
	spleen.LabelName = "spleen"
	infer(t, u.a, spleen)
	infer(t, u.a, u.request(row(8, 10, 2), row(8, 12, 3)))
	infer(t, u.a, liver) // takes the last stroke back
	for range 2 {
		labels, strokes, l := u.recall("scribbles", "liver")
		if !slices.Equal(labels, []string{"liver", "spleen"}) {
			t.Errorf("strokes for %v are remembered", labels)
		}
		if l.OnImage != 2 || l.Interactions < 3 || l.MachineSeconds <= 0 {
			t.Errorf("learned %+v, want 2 interactions on the image for the liver", l)
		}
		for at, now := range answer.Label.Labels {
			want := now
			if slices.Contains(row(8, 10, 2), [3]int{at % u.v.Size[0], at / u.v.Size[0] % u.v.Size[1], at / (u.v.Size[0] * u.v.Size[1])}) {
				want = RecalledForeground
			}
			if strokes[at] != want {
				t.Fatalf("voxel %d is recalled as %d, want %d", at, strokes[at], want)
			}
		}
		if _, strokes, l := u.recall("scribbles", "spleen"); l.OnImage != 1 || strokes[u.v.Index(20, 14, 5)] != RecalledForeground || strokes[u.v.Index(8, 10, 2)] == RecalledForeground {
			t.Errorf("of the spleen is recalled: %+v", l)
		}
		u.a.Close()
		u.a = classAnnotator(t, dir)
	}
}

// What is remembered is told while something is being learned, when the lineage is locked.
func TestRecallWaitsForNobody(t *testing.T) {
	for name, a := range map[string]*Annotator{"strokes": clickAnnotator(t), "classes": classAnnotator(t, t.TempDir())} {
		u := newUser(t, a, "ann", "case", 1)
		infer(t, a, u.request(row(8, 10, 2)))
		a.Close() // waits for what is learned behind the answer
		f, err := a.find(t.Context(), u.work("scribbles", "liver"))
		if err != nil {
			t.Fatal(err)
		}
		_, release, err := a.hold(t.Context(), f.id)
		if err != nil {
			t.Fatal(err)
		}
		labels, strokes, l := u.recall("scribbles", "liver")
		if !slices.Equal(labels, []string{"liver"}) || strokes == nil || !l.Busy || l.OnImage != 1 {
			t.Errorf("%s: while it learns, %v, %d voxels and %+v are told", name, labels, len(strokes), l)
		}
		release()
	}
}

func TestSecondsOnImage(t *testing.T) {
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	answer := func(seconds int, took float64) entry { return entry{Image: "a", Time: at(seconds), Took: took} }
	for name, c := range map[string]struct {
		log           []entry
		user, machine float64
	}{
		"nothing":                       {nil, 0, 0},
		"one answer":                    {[]entry{answer(10, 2)}, 0, 2},
		"thinking between two":          {[]entry{answer(10, 2), answer(20, 3)}, 7, 5},
		"a lesson is nobody's time":     {[]entry{answer(10, 2), {Image: "a", Time: at(15)}, answer(20, 3)}, 7, 5},
		"another image in between":      {[]entry{answer(10, 2), {Image: "b", Time: at(15), Took: 1}, answer(20, 3)}, 7, 5},
		"a night in between":            {[]entry{answer(10, 2), answer(40000, 3), answer(40010, 1)}, 9, 6},
		"forgotten":                     {[]entry{answer(10, 2), answer(20, 3), {Image: "a", Time: at(30), Forgotten: true}, answer(40, 1)}, 0, 1},
		"asked before the other's came": {[]entry{answer(10, 2), answer(11, 3)}, 0, 5},
	} {
		l := &lineage{log: c.log}
		if user, machine := l.secondsOn("a"); user != c.user || machine != c.machine {
			t.Errorf("%s: %g seconds of the user and %g of the server, want %g and %g", name, user, machine, c.user, c.machine)
		}
	}
}
