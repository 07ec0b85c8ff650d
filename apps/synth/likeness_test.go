package synth

import (
	"slices"
	"testing"
)

// TestLikeness: to some nothing is known of the target's look; to the others its pixels look more like it than the rest of the picture does,
// by far mostly, and never when it has vanished.
func TestLikeness(t *testing.T) {
	const size = 64
	var blank, known, better, all int
	for _, b := range take(t, BatchOptions{Options: Options{Size: size}, Batch: 4}, 80) {
		for i := range b.seats {
			s := &b.seats[i]
			all++
			var sum, n [2]float64
			blanks := true
			for k, v := range s.plane(channelLikeness) {
				inside := 0
				if s.target.Bits[k] {
					inside = 1
				}
				sum[inside] += float64(v)
				n[inside]++
				blanks = blanks && v == 0
			}
			switch {
			case blanks:
				blank++
				if s.look.known && slices.Max(s.plane(channelPositive)) > 0 {
					t.Error("strokes show nothing of the target's look")
				}
			case n[1] == 0 && sum[0]/n[0] > -0.3:
				t.Errorf("a likeness of %.2f to what is not in the picture", sum[0]/n[0])
			case n[1] > 0:
				known++
				if sum[1]/n[1] > sum[0]/n[0]+0.2 {
					better++
				}
			}
		}
	}
	t.Logf("%d of %d know nothing, %d know the look, %d of them better than the rest", blank, all, known, better)
	if blank < all/5 || blank > all/2 || known < all/3 {
		t.Errorf("of %d nothing is known to %d, the look to %d", all, blank, known)
	}
	if better < 7*known/10 {
		t.Errorf("in %d of %d the target looks like itself", better, known)
	}
}
