package adapt

import (
	"context"
	"fmt"
)

// possibleObject is the mean probability of all classes but background from which a pixel could be part of an object.
const possibleObject = 0.1

// Disagreement says how far a network's answers with weights w to n augmented copies of an image differ, from 0, where all are the same,
// towards 1: the mean, over the pixels that could be part of an object, of
//
//	Σ_c variance(p_c) = (1 − Σ_c mean(p_c)²) − mean(1 − Σ_c p_c²),
//
// which is what the quadratic entropy of the averaged answer has beyond the answers' own: the epistemic part of the uncertainty. x is
// the network's input [1,C,H,W] or [1,C,D,H,W], draw makes the copies repeatable. Where nothing could be an object the
// answer is 0.
func (e *Engine) Disagreement(ctx context.Context, c Config, w Weights, s Slice, n int, draw uint64) (float64, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	if n < 2 {
		return 0, fmt.Errorf("%d augmented copies: at least 2 are wanted to disagree", n)
	}
	if err := e.net.CheckWeights(w); err != nil {
		return 0, err
	}
	size, err := e.checkInput(s.X)
	if err != nil {
		return 0, err
	}
	if s.Valid != nil {
		if err := checkMap("valid", s.Valid, 1, size); err != nil {
			return 0, err
		}
	}
	c.Temperature = 1
	sum, squares, err := e.augmented(ctx, c, w, s, n, draw)
	if err != nil {
		return 0, err
	}
	pixels := sum.Len() / e.net.Classes
	total, possible := 0.0, 0
	for i := range pixels {
		if s.Valid != nil && s.Valid.Float32s()[i] == 0 || 1-float64(sum.Float32s()[i])/float64(n) < possibleObject {
			continue
		}
		possible++
		for k := range e.net.Classes {
			mean := float64(sum.Float32s()[k*pixels+i]) / float64(n)
			total += max(float64(squares.Float32s()[k*pixels+i])/float64(n)-mean*mean, 0)
		}
	}
	if possible == 0 {
		return 0, nil
	}
	return total / float64(possible), nil
}
