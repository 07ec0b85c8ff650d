package annotation

import (
	"context"
	"errors"
	"testing"
)

// Images are judged by what the user has taught the network, in the background of the device, and the same way each time.
func TestImageUncertainty(t *testing.T) {
	for model, a := range map[string]*Annotator{"scribbles": clickAnnotator(t), segmentation: classAnnotator(t, t.TempDir())} {
		u := newUser(t, a, "ann", "case", 1)
		ask := func(client string) float64 {
			t.Helper()
			v, err := a.ImageUncertainty(t.Context(), model, client, u.request().Image)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		version := func(client string) string {
			t.Helper()
			v, err := a.WeightsVersion(t.Context(), model, client)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		source, before := ask("ann"), version("ann")
		if source <= 0 || source >= 1 || ask("ann") != source || version("ann") != before {
			t.Errorf("%s: uncertainty %g, or not the same again", model, source)
		}
		u.draw(row(8, 10, 2))
		u.draw(row(8, 10, 2), row(12, 14, 5))
		u.draw(row(8, 10, 2), row(12, 14, 5), row(5, 20, 6))
		u.learned() // waits for what is learned behind the answer
		if version("ann") == before {
			t.Errorf("%s: the weights have changed but not their version", model)
		}
		if version("bob") != before || version("") != before || ask("bob") != source {
			t.Errorf("%s: another user's images are judged by what ann has taught", model)
		}
		if model == segmentation && ask("ann") == source {
			t.Error("what ann has taught does not show")
		}
		l, err := a.Learned(t.Context(), Work{Model: model, Image: u.request().Image, ClientID: "ann", LabelName: "liver"})
		if err != nil || l.Lessons == 0 || l.Distance <= 0 {
			t.Errorf("%s: learned %+v, %v", model, l, err)
		}
		if model == "scribbles" && l.OnImage != 3 || l.Interactions < l.OnImage {
			t.Errorf("%s: %d interactions with the image and %d in all, want 3 with the image", model, l.OnImage, l.Interactions)
		}
		if _, err := a.ImageUncertainty(t.Context(), "nothing", "ann", u.request().Image); !errors.Is(err, NotFound) {
			t.Errorf("an unknown model: %v", err)
		}
		if _, err := a.WeightsVersion(t.Context(), "nothing", "ann"); !errors.Is(err, NotFound) {
			t.Errorf("an unknown model: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.ImageUncertainty(ctx, model, "ann", u.request().Image); err == nil {
			t.Errorf("%s: a cancelled request was answered", model)
		}
	}
}

// A reply names the slice that most deserves the next stroke.
func TestNextSlice(t *testing.T) {
	u := newUser(t, clickAnnotator(t), "ann", "case", 1)
	_, told := u.draw(row(8, 10, 2))
	next, ok := told.Object("next_slice")
	plane, _ := next.Text("plane")
	index, _ := next.Number("index")
	wrong, _ := next.Number("expected_wrong_mm2")
	why, _ := next.Text("why")
	if !ok || plane != "k" || index == 2 || index < 0 || index >= 8 || wrong <= 0 || why == "" {
		t.Errorf("next slice %v of %v", next, told)
	}
	_, told = u.send(u.clicks("deepgrow_2d", nil, []Click{{9, 10, 2}}, nil))
	if told.Has("next_slice") {
		t.Error("a client of single slices is told another one")
	}
	c := newUser(t, classAnnotator(t, t.TempDir()), "ann", "case", 1)
	_, told = c.draw(row(8, 10, 2))
	next, ok = told.Object("next_slice")
	if index, _ := next.Number("index"); !ok || index == 2 {
		t.Errorf("next slice %v for a network with classes", next)
	}
}
