// Package segment is segmentation by a network that has classes of its own and sees the image alone, such as one trained for a
// dozen organs: it answers a whole volume without a prompt, and the strokes of an annotator teach it its classes.
//
// # The grid
//
// The network sees a grid of its own, [D,H,W]: the volume's axes in the order, direction and spacing that the network was
// trained with, or for a network of slices the slices as they were acquired. Where an image is larger than what the network
// takes at once, overlapping windows cover it, and their answers are blended, each counting most in its middle. The
// probabilities of all classes are brought back onto the image's own grid before the likeliest is chosen.
//
// # Strokes
//
// Strokes of a label train its class, those on the background class 0. Around what is new, a slice or a window is cut out, and one
// interaction of the thesis's method is done on it with all the strokes in it ([scrawl/engine/adapt.Engine.Interact], with y_u
// one-hot over the K classes). The updated teacher then answers, and stroke voxels keep their label.
package segment

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Input says how a volume becomes the network's input.
type Input struct {
	// Patch is what the network sees at once, in voxels of its grid: [H,W] for a network of slices, [D,H,W] for one of volumes. Nil is
	// the whole slice or volume, padded to multiples of Multiple; so is, for a network that takes any size, what is smaller.
	Patch    []int
	Multiple int
	// Resize brings the whole slice or volume onto one patch, its proportions kept. Otherwise windows of Patch cover it, which share
	// Overlap (0 to 0.9) of their sides with their neighbours.
	Resize  bool
	Overlap float64
	// Spacing is the grid's in mm, an entry for each axis of Patch; nil is the image's own.
	Spacing []float64
	// Orientation names the directions in which D, H and W grow, such as RAS, for a network of volumes. "" means slices, rows and
	// columns as they are stored: k, j and i.
	Orientation string
	// Percentiles of the volume's intensities that become 0 and 1, unless Range gives the intensities themselves.
	Percentiles [2]float64
	Range       *[2]float64
}

// Validate reports what is wrong with the description, for a network of images with that many axes.
func (in Input) Validate(axes int) error {
	positive := func(v int) bool { return v > 0 }
	switch {
	case axes != 2 && axes != 3:
		return fmt.Errorf("a network of %d axes: one of slices or of volumes is wanted", axes)
	case in.Multiple < 1:
		return fmt.Errorf("multiple %d: at least 1 is wanted", in.Multiple)
	case in.Patch != nil && (len(in.Patch) != axes || !all(in.Patch, positive)):
		return fmt.Errorf("patch %v: %d sizes are wanted", in.Patch, axes)
	case in.Patch != nil && !all(in.Patch, func(v int) bool { return v%in.Multiple == 0 }):
		return fmt.Errorf("patch %v: multiples of %d are wanted", in.Patch, in.Multiple)
	case in.Resize && in.Patch == nil:
		return fmt.Errorf("fit: resize wants a patch to resize to")
	case in.Resize && in.Spacing != nil:
		return fmt.Errorf("fit: resize makes its own spacing, %v cannot be had too", in.Spacing)
	case !(in.Overlap >= 0 && in.Overlap <= 0.9):
		return fmt.Errorf("overlap %g: a share from 0 to 0.9 is wanted", in.Overlap)
	case in.Spacing != nil && (len(in.Spacing) != axes || !all(in.Spacing, func(v float64) bool { return v > 0.01 && v < 1000 })):
		return fmt.Errorf("spacing %v: %d lengths in mm are wanted", in.Spacing, axes)
	case in.Range == nil && !(in.Percentiles[0] >= 0 && in.Percentiles[0] < in.Percentiles[1] && in.Percentiles[1] <= 100):
		return fmt.Errorf("percentiles %v: 0 ≤ low < high ≤ 100 is wanted", in.Percentiles)
	case in.Range != nil && !(in.Range[0] < in.Range[1]):
		return fmt.Errorf("intensity range %v: low < high is wanted", *in.Range)
	case in.Orientation != "" && axes == 2:
		return fmt.Errorf("orientation %q: a network of slices takes them as they were acquired", in.Orientation)
	case in.Orientation != "":
		_, _, err := directions(in.Orientation)
		return err
	}
	return nil
}

func all[T any](list []T, good func(T) bool) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !good(v) })
}

// directions reads three letters: for each, the patient axis (0 L–R, 1 P–A, 2 S–I) and whether it grows towards L, P or S.
func directions(letters string) (axis [3]int, positive [3]bool, err error) {
	const toward, away = "LPS", "RAI"
	seen := [3]bool{}
	if len(letters) == 3 {
		for t := range 3 {
			c := strings.ToUpper(letters[t : t+1])
			a := max(strings.Index(toward, c), strings.Index(away, c))
			if a < 0 || seen[a] {
				break
			}
			seen[a], axis[t], positive[t] = true, a, strings.Contains(toward, c)
		}
	}
	if !seen[0] || !seen[1] || !seen[2] {
		return axis, positive, fmt.Errorf("orientation %q: one letter each of R or L, A or P, S or I is wanted, such as RAS", letters)
	}
	return axis, positive, nil
}

// Class is a class of the network that has a label. Class 0 is background; classes without a label answer as background does.
type Class struct {
	Label string
	Index int
}

// Model is a network with classes that is ready to answer. It is immutable and safe for concurrent use.
type Model struct {
	Engine *adapt.Engine
	Input  Input
	// Classes are the labels, numbered 1..N in this order in answers.
	Classes []Class
	Thesis  adapt.Config
	// Thickness widens strokes in the scribble mask.
	Thickness scribble.Thickness
}

// Validate reports what does not fit the network.
func (m *Model) Validate() error {
	net := m.Engine.Network()
	if net.Channels != 1 {
		return fmt.Errorf("the network has %d input channels; a network with classes sees the image alone, in one", net.Channels)
	}
	if err := m.Input.Validate(len(net.Size)); err != nil {
		return err
	}
	for a, n := range net.Size {
		if n > 0 && (m.Input.Patch == nil || m.Input.Patch[a] != n) {
			return fmt.Errorf("the network takes images of %v only: patch: %v is wanted", net.Size, net.Size)
		}
	}
	if len(m.Classes) == 0 || len(m.Classes) > 255 {
		return fmt.Errorf("%d classes have labels; 1 to 255 are wanted", len(m.Classes))
	}
	seen := map[int]string{}
	for _, c := range m.Classes {
		switch other, twice := seen[c.Index]; {
		case c.Index < 1 || c.Index >= net.Classes:
			return fmt.Errorf("label %q has class %d; the network knows 1 to %d, and 0 for background", c.Label, c.Index, net.Classes-1)
		case twice:
			return fmt.Errorf("labels %q and %q both have class %d", other, c.Label, c.Index)
		}
		seen[c.Index] = c.Label
	}
	return nil
}

// ClassOf is the class of a label; ok is false when the network has none for it.
func (m *Model) ClassOf(label string) (class int, ok bool) {
	for _, c := range m.Classes {
		if c.Label == label {
			return c.Index, true
		}
	}
	return 0, false
}

// Warm runs the network once on an empty window, so that the first user does not wait for its compilation.
func (m *Model) Warm(ctx context.Context) error {
	shape := []int{1, 1}
	for a, n := range m.Engine.Network().Size {
		switch {
		case m.Input.Patch != nil:
			n = m.Input.Patch[a]
		case n == 0:
			n = (16 + m.Input.Multiple - 1) / m.Input.Multiple * m.Input.Multiple
		}
		shape = append(shape, n)
	}
	_, err := m.Engine.Predict(ctx, m.Engine.Network().Source(), tensor.Zeros[float32](shape...))
	return err
}

// Image is a volume prepared for a model: the volume, and the intensities that become 0 and 1.
type Image = interact.Image

// Prepare measures a volume's intensities.
func (m *Model) Prepare(v *volume.Volume) Image {
	low, high := interact.Contrast(v, m.Input.Percentiles, m.Input.Range)
	return Image{Volume: v, Low: low, High: high}
}
