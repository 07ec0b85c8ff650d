// Package synth draws pictures that look roughly like slices of CT, MR, ultrasound, X-ray and microscopy, each with an object
// to segment, so that a network that is told what to segment by strokes can be trained without a single patient.
//
// The idea is domain randomisation (Billot et al., "SynthSeg", 2023; Butoi et al., "UniverSeg", 2023): what real images have in
// common is drawn at random far beyond what any of them shows, and the network is left with the one thing that is always true,
// namely that objects have borders and that the user's strokes tell on which side of them he is.
//
// # From numbers to a batch
//
//  1. A scene is a label map: smooth fields, organs in a body, heads, hearts, nested shells, vessels, the back of an eye, cells,
//     tissue layers, projections.
//  2. Rendering gives every label an intensity and a texture, then adds what scanners add: bias, blur, noise, speckle, windows.
//  3. One object is chosen: a connected part mostly, sometimes everything of one or two labels.
//  4. A view is cut out and scaled, since the application looks closely at small objects, then turned and mirrored.
//  5. A [Batcher] puts strokes and a previous mask beside the image and plays the user for a few rounds.
//
// # Determinism
//
// Example number i of a seed depends on the seed, i and the [Options] alone: not on other examples, on goroutines or
// on the time. The numbers are float32, and the Go compiler may fuse multiplications and additions on some processors, so
// examples of different architectures can differ in their last bits.
package synth

import (
	"math"
	"math/rand/v2"
	"slices"

	"scrawl/adapters/morph"
)

// Options are the choices of a [Generator]. The zero value means the defaults.
type Options struct {
	// Size is the side of the square pictures in pixels, 128 by default and at least 32.
	Size int
	// Zoomed is the share of examples that look closely at the object, 0.62 by default; negative means none.
	Zoomed float64
	// Vanished is the share of examples in which a batcher shows the previous slice's object in an image that no longer has it,
	// so that the network learns where objects end; 0.05 by default; negative means none.
	Vanished float64
}

func (o Options) withDefaults() Options {
	if o.Size == 0 {
		o.Size = 128
	}
	o.Size = max(o.Size, 32)
	o.Zoomed = share(o.Zoomed, 0.62)
	o.Vanished = share(o.Vanished, 0.05)
	return o
}

func share(v, unset float64) float64 {
	if v == 0 {
		return unset
	}
	return min(max(v, 0), 1)
}

// Example is a picture and the object to segment in it.
type Example struct {
	// Size is the side of the square picture in pixels.
	Size int
	// Image holds Size·Size intensities in 0…1, x fastest.
	Image []float32
	// Target is the object. It is empty only when Vanished is not.
	Target morph.Mask
	// Whole tells that the target is all there is of its kind in the scene, not one object among others like it.
	Whole bool
	// Vanished is where the object was before it was taken out of the picture; its Bits are nil mostly.
	Vanished morph.Mask
	// Zoom is by how much the picture is enlarged: strokes drawn in the slice itself look that much thicker.
	Zoom float64
	// Kind tells what was drawn and how, for looking at samples.
	Kind string

	// What the view was cut out of, where it is enlarged.
	scene []float32

	lone bool // no slice of a volume, so that masks of neighbours are rare
}

// Generator draws examples. It keeps scratch memory, so each goroutine needs its own; they are cheap to make.
type Generator struct {
	seed uint64
	next uint64
	opts Options
	canvas
}

// New makes a generator whose examples follow from seed and opts.
func New(seed uint64, opts Options) *Generator {
	g := &Generator{seed: seed, opts: opts.withDefaults()}
	g.init(g.opts.Size)
	return g
}

// Next draws the examples number 0, 1, 2, …
func (g *Generator) Next() Example {
	g.next++
	return g.At(g.next - 1)
}

// At draws example number i.
func (g *Generator) At(i uint64) Example {
	e, _ := g.at(i)
	return e
}

// at also returns the numbers that follow the example's, from which a batcher draws its strokes.
func (g *Generator) at(i uint64) (Example, *rand.Rand) {
	source := rand.NewPCG(g.seed, scramble(i))
	g.random = random{rand.New(source)}
	for {
		// A scene without any object of a fit size is rare, and simply drawn anew.
		if e, ok := g.attempt(); ok {
			return e, g.Rand
		}
	}
}

// scramble spreads consecutive numbers over all 64 bits (the finaliser of SplitMix64).
func scramble(i uint64) uint64 {
	i += 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	return i ^ i>>31
}

// shareAlike of the objects touch something that looks like them, where anything suits.
const shareAlike = 0.4

func (g *Generator) attempt() (Example, bool) {
	kind := g.scene()
	lone := kind == "retina"
	target, whole, ok := g.chooseTarget()
	if !ok {
		return Example{}, false
	}
	vanished := g.chance(g.opts.Vanished) && !lone
	if vanished {
		vanished = g.remove(target)
	}
	g.merged = g.merged[:0]
	if g.chance(shareAlike) {
		if other, of, found := g.alike(target); found {
			g.merged = append(g.merged, other, of)
		}
	}
	kind += " " + g.render(kind)
	if !vanished && !g.visible(target) && !g.chance(0.1) {
		return Example{}, false
	}
	e := Example{Size: g.n, Zoom: 1, Kind: kind, Whole: whole, lone: lone}
	e.Image, e.Target, e.Zoom = g.view(target)
	if e.Zoom > 1 {
		e.scene = slices.Clone(g.image)
	}
	if a := e.Target.Count(); a < g.smallest() || a > g.largest() {
		return Example{}, false
	}
	e.Zoom *= g.scaled
	g.turn(&e)
	if vanished {
		e.Vanished, e.Target = e.Target, morph.New(g.n, g.n)
	}
	return e, true
}

// smallest and largest are the areas of objects that are worth a stroke, in pixels.
func (g *Generator) smallest() int { return max(g.n*g.n/500, 6) }
func (g *Generator) largest() int  { return g.n * g.n * 6 / 10 }

// random is a source of numbers in the forms that drawing needs.
type random struct{ *rand.Rand }

func (r random) chance(p float64) bool { return r.Float64() < p }

func (r random) between(lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }

// whole draws from lo, lo+1, …, hi.
func (r random) whole(lo, hi int) int { return lo + r.IntN(hi-lo+1) }

// logBetween favours no order of magnitude between lo and hi.
func (r random) logBetween(lo, hi float64) float64 {
	return lo * math.Exp(r.Float64()*math.Log(hi/lo))
}

// pick draws an index with the given weights.
func (r random) pick(weights ...float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	v := r.Float64() * sum
	for i, w := range weights {
		if v < w {
			return i
		}
		v -= w
	}
	return len(weights) - 1
}
