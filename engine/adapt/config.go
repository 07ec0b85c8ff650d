package adapt

import "fmt"

// Config holds every constant of the method. [Thesis] returns the thesis's values where it gives them; the others were
// found by measurement.
type Config struct {
	// UncertainLow and UncertainHigh bound the probabilities that count as uncertain: 0.4 and 0.6.
	UncertainLow  float64 `yaml:"uncertain_low"`
	UncertainHigh float64 `yaml:"uncertain_high"`
	// Copies is the table from the ratio of uncertain pixels to the number N of augmented copies (3.2).
	Copies []CopyRule `yaml:"copies"`
	// MaxCopies caps N; 16 beats 32 (Table 4.4).
	MaxCopies int `yaml:"max_copies"`
	// FixedCopies, when above 0, is N whatever the ratio.
	FixedCopies int `yaml:"fixed_copies"`

	// Noise, Blur and Inversion switch the kinds of augmentation. NoiseSigma is the largest standard deviation of the noise, as
	// a share of the intensity range; BlurSigma bounds the Gaussian's width in pixels.
	Noise      bool       `yaml:"noise"`
	Blur       bool       `yaml:"blur"`
	Inversion  bool       `yaml:"inversion"`
	NoiseSigma float64    `yaml:"noise_sigma"`
	BlurSigma  [2]float64 `yaml:"blur_sigma"`

	// Temperature softens the teacher's answers; Variance is the largest variance over the copies with which a pixel still takes part
	// in the consistency loss.
	Temperature float64 `yaml:"temperature"`
	Variance    float64 `yaml:"variance"`

	// Consistency and Interactive switch the two losses; Lambda weighs the second (4.2).
	Consistency bool    `yaml:"consistency"`
	Interactive bool    `yaml:"interactive"`
	Lambda      float64 `yaml:"lambda"`
	// SumLosses keeps the losses as sums over pixels, as printed; otherwise each is divided by the number of pixels in it.
	SumLosses bool `yaml:"sum_losses"`

	// Steps of gradient descent in one interaction, and their LearningRate.
	Steps        int     `yaml:"steps"`
	LearningRate float64 `yaml:"learning_rate"`
	// Alpha is the teacher's inertia (3.5), applied after every step when AveragePerStep is set, else once an interaction.
	Alpha          float64 `yaml:"alpha"`
	AveragePerStep bool    `yaml:"average_per_step"`
	// StudentAnswers lets the student answer instead of the updated teacher (the ablation without an average).
	StudentAnswers bool `yaml:"student_answers"`

	// Replay is how many of the images left last are learned again along with each interaction, with the answers they were left with. It
	// is no part of the published method, and 0 there.
	Replay int `yaml:"replay"`

	// The next three are no part of the published method either. StrokeArea multiplies Lambda by the strokes' area as a share of that of all
	// that may be an object: people correct a large error with large strokes, and a network that is nearly right with small ones,
	// from which there is little to learn. Anchor is the share of the shown answer in the consistency loss's target, beside the teacher's
	// pseudo-mask: what the user leaves alone is right more often than not. Guard answers by what explains best what the user has
	// said, in networks with classes: see the package segment of apps.
	StrokeArea bool    `yaml:"stroke_area"`
	Anchor     float64 `yaml:"anchor"`
	Guard      bool    `yaml:"guard"`

	// Seed makes the augmentation repeatable.
	Seed uint64 `yaml:"seed"`
}

// CopyRule says that N is Copies while the ratio of uncertain pixels is at most UpTo.
type CopyRule struct {
	UpTo   float64 `yaml:"up_to"`
	Copies int     `yaml:"copies"`
}

// Thesis returns the configuration of the published method. λ, α, the thresholds and the table are the thesis's; learning rate, steps,
// temperature, variance and the augmentation's strengths, which it does not print, are ours.
func Thesis() Config {
	return Config{
		UncertainLow: 0.4, UncertainHigh: 0.6,
		Copies: []CopyRule{{0.3, 4}, {0.7, 16}, {1, 32}}, MaxCopies: 16,
		Noise: true, Blur: true, Inversion: true, NoiseSigma: 0.06, BlurSigma: [2]float64{0.5, 1.3},
		Temperature: 1.5, Variance: 0.02,
		Consistency: true, Interactive: true, Lambda: 2,
		Steps: 5, LearningRate: 1e-2, Alpha: 0.99, AveragePerStep: true,
		Seed: 1,
	}
}

// augments reports whether any kind of augmentation is on.
func (c Config) augments() bool { return c.Noise || c.Blur || c.Inversion }

// Validate reports the first constant that makes no sense.
func (c Config) Validate() error {
	switch {
	case !(0 <= c.UncertainLow && c.UncertainLow <= c.UncertainHigh && c.UncertainHigh <= 1):
		return fmt.Errorf("uncertain probabilities %g…%g: 0 ≤ low ≤ high ≤ 1 is wanted", c.UncertainLow, c.UncertainHigh)
	case len(c.Copies) == 0 && c.FixedCopies == 0:
		return fmt.Errorf("neither a table of copies nor a fixed number is given")
	case c.FixedCopies < 0 || c.MaxCopies < 0 || c.FixedCopies > 256:
		return fmt.Errorf("the number of augmented copies must lie in 0…256")
	case !(c.NoiseSigma >= 0) || !(0 <= c.BlurSigma[0] && c.BlurSigma[0] <= c.BlurSigma[1]):
		return fmt.Errorf("noise of %g and blur of %g…%g: 0 or more, and rising, are wanted", c.NoiseSigma, c.BlurSigma[0], c.BlurSigma[1])
	case !(c.Variance >= 0):
		return fmt.Errorf("variance %g: 0 or more is wanted", c.Variance)
	case !(c.Temperature > 0):
		return fmt.Errorf("temperature %g: above 0 is wanted", c.Temperature)
	case !(c.Lambda >= 0 && c.LearningRate >= 0):
		return fmt.Errorf("lambda %g and learning rate %g must not be negative", c.Lambda, c.LearningRate)
	case !(0 <= c.Alpha && c.Alpha <= 1):
		return fmt.Errorf("alpha %g: 0…1 is wanted", c.Alpha)
	case c.Replay < 0 || c.Replay > 64:
		return fmt.Errorf("replay of %d images: 0…64 is wanted", c.Replay)
	case !(0 <= c.Anchor && c.Anchor <= 1):
		return fmt.Errorf("anchor %g: 0…1 is wanted", c.Anchor)
	case c.Steps < 0 || c.Steps > 10000:
		return fmt.Errorf("steps %d: 0…10000 is wanted", c.Steps)
	}
	for i, r := range c.Copies {
		if r.Copies < 1 || r.Copies > 256 || i > 0 && r.UpTo <= c.Copies[i-1].UpTo {
			return fmt.Errorf("row %d of the table of copies: rising ratios and 1…256 copies are wanted", i+1)
		}
	}
	return nil
}
