package graphcut

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// network is a flow network as it was before the cut.
type network struct {
	Size     [3]int
	Terminal []int32
	Links    [][4]int32 // voxel, axis, there, back
	Flow     int64
}

func (n network) grid(t interface{ Fatal(...any) }) *Grid {
	g, err := NewGrid(n.Size)
	if err != nil {
		t.Fatal(err)
	}
	for v, c := range n.Terminal {
		g.SetTerminal(v, c)
	}
	for _, l := range n.Links {
		g.SetLink(int(l[0]), int(l[1]), l[2], l[3])
	}
	return g
}

// cost is what the cut that a labelling stands for carries.
func (n network) cost(inSource func(int) bool) int64 {
	stride := [3]int{1, n.Size[0], n.Size[0] * n.Size[1]}
	var sum int64
	for v, c := range n.Terminal {
		switch {
		case c > 0 && !inSource(v):
			sum += int64(c)
		case c < 0 && inSource(v):
			sum -= int64(c)
		}
	}
	for _, l := range n.Links {
		a, b := inSource(int(l[0])), inSource(int(l[0])+stride[l[1]])
		switch {
		case a && !b:
			sum += int64(l[2])
		case b && !a:
			sum += int64(l[3])
		}
	}
	return sum
}

func TestMaximumFlowIsSciPys(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var networks []network
	if err := json.Unmarshal(data, &networks); err != nil {
		t.Fatal(err)
	}
	if len(networks) < 20 {
		t.Fatalf("%d networks", len(networks))
	}
	for i, n := range networks {
		g := n.grid(t)
		if err := g.Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.Flow() != n.Flow || n.cost(g.InSource) != n.Flow {
			t.Errorf("network %d of %v: flow %d and a cut of %d, SciPy has %d", i, n.Size, g.Flow(), n.cost(g.InSource), n.Flow)
		}
	}
}

func randomNetwork(rng *rand.Rand, size [3]int, top int32, linked float64) network {
	n := network{Size: size, Terminal: make([]int32, size[0]*size[1]*size[2])}
	g, _ := NewGrid(size)
	for v := range n.Terminal {
		if rng.Float64() < linked {
			n.Terminal[v] = rng.Int32N(2*top+1) - top
		}
		for axis := range 3 {
			if v/g.offset[2*axis]%size[axis]+1 < size[axis] {
				n.Links = append(n.Links, [4]int32{int32(v), int32(axis), rng.Int32N(top), rng.Int32N(top)})
			}
		}
	}
	return n
}

// No flow is larger than a cut and no cut smaller than a flow: where both are equal, both are the best there is. What is left of the
// links agrees with what flowed.
func TestFlowEqualsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := [3]int{rapid.IntRange(1, 12).Draw(t, "w"), rapid.IntRange(1, 12).Draw(t, "h"), rapid.IntRange(1, 6).Draw(t, "d")}
		top := rapid.SampledFrom([]int32{1, 2, 10, 10000}).Draw(t, "top")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n := randomNetwork(rng, size, top, rapid.SampledFrom([]float64{0.05, 0.3, 1}).Draw(t, "linked"))
		g := n.grid(t)
		if err := g.Cut(context.Background()); err != nil {
			t.Fatal(err)
		}
		if cost := n.cost(g.InSource); cost != g.Flow() {
			t.Fatalf("a cut of %d and a flow of %d", cost, g.Flow())
		}
		for _, l := range n.Links {
			v, w := int(l[0]), int(l[0])+g.offset[2*l[1]]
			there, back := g.link[6*v+2*int(l[1])], g.link[6*w+2*int(l[1])+1]
			if there < 0 || back < 0 || there+back != l[2]+l[3] {
				t.Fatalf("a link of %d and %d is left with %d and %d", l[2], l[3], there, back)
			}
		}
	})
}

func TestALargeNetwork(t *testing.T) {
	n := randomNetwork(rand.New(rand.NewPCG(1, 2)), [3]int{60, 50, 40}, 1000, 0.2)
	g := n.grid(t)
	if err := g.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cost := n.cost(g.InSource); cost != g.Flow() || cost == 0 {
		t.Errorf("a cut of %d and a flow of %d", cost, g.Flow())
	}
}

func TestCutEndsWithItsContext(t *testing.T) {
	n := randomNetwork(rand.New(rand.NewPCG(1, 2)), [3]int{20, 20, 20}, 1000, 0.2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.grid(t).Cut(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled cut gives %v", err)
	}
}

func TestGridsThatAreNone(t *testing.T) {
	for _, size := range [][3]int{{0, 1, 1}, {1, -1, 1}, {1 << 16, 1 << 15, 1}, {1 << 40, 1 << 40, 1 << 40}} {
		if _, err := NewGrid(size); err == nil {
			t.Errorf("a grid of %v was made", size)
		}
	}
}
