package onnx

import "testing"

func TestMultiple(t *testing.T) {
	for _, c := range []struct {
		a, b Dim
		k    int64
		ok   bool
	}{
		{Dim{Symbol: "2*floor(H/16)"}, Dim{Symbol: "floor(H/16)"}, 2, true},
		{Dim{Symbol: "2*floor((H + 15)/16)"}, Dim{Symbol: "floor((H + 15)/16)"}, 2, true},
		{Dim{Symbol: "4*H + 2"}, Dim{Symbol: "2*H + 1"}, 2, true},
		{Dim{Symbol: "H"}, Dim{Symbol: "H"}, 1, true},
		{Dim{Size: 6}, Dim{Size: 3}, 2, true},
		{Dim{Symbol: "floor(H/8)"}, Dim{Symbol: "floor(H/16)"}, 0, false},
		{Dim{Symbol: "2*H + 1"}, Dim{Symbol: "H"}, 0, false},
		{Dim{Size: 5}, Dim{Size: 3}, 0, false},
		{Dim{Symbol: "H"}, Dim{Symbol: "2*H"}, 0, false},
		{Dim{Symbol: "W"}, Dim{Symbol: "H"}, 0, false},
	} {
		k, ok := Multiple(c.a, c.b)
		if ok != c.ok || ok && k != c.k {
			t.Errorf("Multiple(%v, %v) = %d, %v; want %d, %v", c.a, c.b, k, ok, c.k, c.ok)
		}
	}
}

func TestSizeOf(t *testing.T) {
	at := map[string]int64{"H": 8, "W": 5}
	for _, c := range []struct {
		dim  Dim
		size int64
		ok   bool
	}{
		{Dim{Size: 7}, 7, true},
		{Dim{Symbol: "32*H"}, 256, true},
		{Dim{Symbol: "2*floor((W + 1)/2)"}, 6, true},
		{Dim{Symbol: "floor((W + 6)/8)"}, 1, true},
		{Dim{Symbol: "H*W - 1"}, 39, true},
		{Dim{Symbol: "D"}, 0, false},
	} {
		if size, ok := SizeOf(c.dim, at); ok != c.ok || ok && size != c.size {
			t.Errorf("SizeOf(%v) = %d, %v; want %d, %v", c.dim, size, ok, c.size, c.ok)
		}
	}
}
