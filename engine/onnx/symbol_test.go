package onnx

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestSymbolNames fixes the names that sizes get in the usual layers.
func TestSymbolNames(t *testing.T) {
	a := newAlgebra()
	h, w := a.of(Dim{Symbol: "H"}), a.of(Dim{Symbol: "W"})
	half := a.floorDiv(h, 2)
	odd := a.of(Dim{Symbol: "batch-size"})
	for want, p := range map[string]poly{
		"0":                         {},
		"-3":                        number(-3),
		"H":                         h,
		"2*H":                       h.scale(2),
		"H - 2":                     h.addInt(-2),
		"-H + 1":                    h.scale(-1).addInt(1),
		"H + W":                     w.add(h),
		"H*W":                       a.mul(w, h),
		"2*H + H*W":                 a.mul(w.addInt(2), h),
		"floor(H/2)":                half,
		"floor((H + 1)/2)":          a.floorDiv(h.addInt(2-3), 2).addInt(1), // kernel 3, stride 2, padding 1
		"floor(H/4)":                a.floorDiv(half, 2),
		"floor(H/2) + 1":            a.floorDiv(h.addInt(2), 2),
		"2*floor(H/2)":              half.scale(2),
		"floor(W*floor(H/2)/3)":     a.floorDiv(a.mul(half, w), 3),
		"max(H, W)":                 a.extremum("max", w, h),
		"quotient(H, W)":            a.quotient(h, w),
		"batch-size":                odd,
		"2*[batch-size]":            odd.scale(2),
		"floor([batch-size]/2)":     a.floorDiv(odd, 2),
		"H + floor(H/2)":            a.floorDiv(h.scale(3), 2), // whole multiples come out
		"H*floor(H/2)":              a.mul(h, half),
		"floor((H + W)/2)":          a.floorDiv(h.add(w), 2),
		"floor((H + 3*W + 2)/4)":    a.floorDiv(h.add(w.scale(3)).addInt(2), 4),
		"floor((W + floor(H/2))/3)": a.floorDiv(half.add(w), 3),
	} {
		if got := a.dim(p).String(); got != want {
			t.Errorf("named %q, want %q", got, want)
		}
	}
	if q := a.quotient(a.mul(h, w.scale(8)), w.scale(2)); a.string(q) != "4*H" {
		t.Errorf("8*H*W / 2*W is %s", a.string(q))
	}
}

// TestSymbolsMeanWhatTheySay builds random expressions and holds their names, read back by another algebra, against arithmetic.
func TestSymbolsMeanWhatTheySay(t *testing.T) {
	sizes := map[string]int64{"H": 7, "W": 12, "n-1": 3, "/conv/y_axis2": 5}
	rapid.Check(t, func(t *rapid.T) {
		a := newAlgebra()
		type pair struct {
			p poly
			v int64
		}
		pool := []pair{{number(2), 2}}
		for s, v := range sizes {
			pool = append(pool, pair{a.of(Dim{Symbol: s}), v})
		}
		pick := func(label string) pair { return pool[rapid.IntRange(0, len(pool)-1).Draw(t, label)] }
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			x, y := pick("x"), pick("y")
			d := rapid.Int64Range(1, 9).Draw(t, "divisor")
			var next pair
			switch rapid.IntRange(0, 5).Draw(t, fmt.Sprint("op", i)) {
			case 0:
				next = pair{x.p.add(y.p), x.v + y.v}
			case 1:
				next = pair{x.p.sub(y.p), x.v - y.v}
			case 2:
				if x.v > 1e4 || y.v > 1e4 {
					continue
				}
				next = pair{a.mul(x.p, y.p), x.v * y.v}
			case 3:
				next = pair{a.floorDiv(x.p, d), floorQuotient(x.v, d)}
			case 4:
				next = pair{a.extremum("max", x.p, y.p), max(x.v, y.v)}
			default:
				next = pair{a.extremum("min", x.p, y.p), min(x.v, y.v)}
			}
			pool = append(pool, next)
			dim := a.dim(next.p)
			if dim.Known() {
				if dim.Size != next.v {
					t.Fatalf("%v is %d, want %d", dim, dim.Size, next.v)
				}
				continue
			}
			if got, invented := EvalSymbol(dim.Symbol, sizes); invented == "" && got != next.v {
				t.Fatalf("%q is %d, want %d", dim.Symbol, got, next.v)
			}
			if again := newAlgebra(); again.dim(again.of(dim)) != dim {
				t.Fatalf("%q is read as %q", dim.Symbol, again.dim(again.of(dim)).Symbol)
			}
		}
	})
}

// TestSymbolsStayShort squares a size over and over, which must neither take long nor give long names.
func TestSymbolsStayShort(t *testing.T) {
	a := newAlgebra()
	p := a.of(Dim{Symbol: "H"}).addInt(1)
	for range 200 {
		p = a.floorDiv(a.mul(p, p.add(a.of(Dim{Symbol: "W"}))), 3)
		if n := len(a.dim(p).Symbol); n > 4*maxName {
			t.Fatalf("a name has %d bytes", n)
		}
	}
}
