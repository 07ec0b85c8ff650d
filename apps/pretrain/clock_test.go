package pretrain

import (
	"testing"
	"time"
)

// TestTimeDecides sees that with a limit stages and the end follow the clock, time before an interruption included, and otherwise the steps.
func TestTimeDecides(t *testing.T) {
	r := Scribbles()
	begun := time.Unix(0, 0)
	for _, c := range []struct {
		limit, before, spent time.Duration
		steps                int
		done                 float64
		size                 int
	}{
		{0, 0, time.Hour, 0, 0, 64},
		{0, 0, time.Hour, r.Steps / 5, 0.2, 96},
		{0, 0, time.Hour, r.Steps, 1, 128},
		{10 * time.Minute, 0, time.Minute, 1 << 20, 0.1, 64},
		{10 * time.Minute, time.Minute, time.Minute, 0, 0.2, 96},
		{10 * time.Minute, 5 * time.Minute, time.Minute, 0, 0.6, 128},
		{10 * time.Minute, 0, time.Hour, 0, 1, 128},
	} {
		r.Limit = c.limit
		tr := &training{recipe: r, begun: begun, before: c.before, now: func() time.Time { return begun.Add(c.spent) }}
		done := tr.done(c.steps)
		if size := r.stage(done).Size; done < c.done-1e-9 || done > c.done+1e-9 || size != c.size {
			t.Errorf("%+v: %g done, on %d pixels", c, done, size)
		}
	}
}
