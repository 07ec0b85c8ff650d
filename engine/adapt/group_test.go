package adapt_test

import (
	"slices"
	"testing"

	"scrawl/engine/adapt"
)

func TestGroups(t *testing.T) {
	unet := smallUNet(t, 2, 2, adapt.Trainable{})
	affine := []string{"down0.a.scale", "down0.a.shift", "down0.b.scale", "down0.b.shift", "down1.a.scale", "down1.a.shift", "down1.b.scale", "down1.b.shift",
		"up0.a.scale", "up0.a.shift", "up0.b.scale", "up0.b.shift"}
	decoder := []string{"head.bias", "head.weight", "up0.a.scale", "up0.a.shift", "up0.a.weight", "up0.b.scale", "up0.b.shift", "up0.b.weight"}
	for _, c := range []struct {
		name  string
		net   *adapt.Network
		group adapt.Group
		want  []string // nil: an error
	}{
		{"unet", unet, adapt.GroupAll, slices.Sorted(slices.Values(unet.Params()))},
		{"unet", unet, adapt.GroupDecoder, decoder},
		{"unet", unet, adapt.GroupNormalization, affine},
		{"unet", unet, "everything", nil},
		{"batch", network(t, exported("batch"), adapt.Trainable{}), adapt.GroupNormalization, []string{"norm.bias", "norm.weight"}},
		{"group", network(t, exported("group"), adapt.Trainable{}), adapt.GroupNormalization, []string{"norm.bias", "norm.weight"}},
		{"layer", network(t, exported("layer"), adapt.Trainable{}), adapt.GroupNormalization, []string{"norm.bias", "norm.weight"}},
		{"no decoder", network(t, exported("batch"), adapt.Trainable{}), adapt.GroupDecoder, nil},
		{"no normalisation", network(t, exported(""), adapt.Trainable{}), adapt.GroupNormalization, nil},
	} {
		got, err := c.net.Group(c.group)
		if (err == nil) != (c.want != nil) || !slices.Equal(slices.Sorted(slices.Values(got)), c.want) {
			t.Errorf("%s, %s: %v, %v; want %v", c.name, c.group, got, err, c.want)
		}
	}
}

// A restricted network trains fewer weights, and the file made of it differs from the source in them alone.
func TestRestrict(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	heads, err := n.Match("head.*")
	if err != nil || len(heads) != 2 {
		t.Fatalf("%v, %v", heads, err)
	}
	r, err := n.Restrict(heads)
	if err != nil {
		t.Fatal(err)
	}
	w := adapt.Weights{}
	for _, s := range r.Source() {
		w = append(w, filled(7, s.Shape()...))
	}
	m, err := r.Model(w)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range n.Params() {
		got, was := m.Graph.Initializer(p).Float32s(), n.Source()[i].Float32s()
		if slices.Contains(heads, p) != !slices.Equal(got, was) {
			t.Errorf("weight %s: changed %t", p, !slices.Equal(got, was))
		}
	}
	for _, bad := range [][]string{nil, {"nothing"}, {"head.bias", "nothing"}} {
		if _, err := n.Restrict(bad); err == nil {
			t.Errorf("restricted to %v without an error", bad)
		}
	}
	for _, bad := range [][]string{nil, {"nothing*"}, {"["}} {
		if _, err := n.Match(bad...); err == nil {
			t.Errorf("matched %v without an error", bad)
		}
	}
}
