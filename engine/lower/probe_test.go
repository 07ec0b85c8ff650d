package lower_test

import (
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/ort/orttest"
)

func TestProbe(t *testing.T) {
	lib := orttest.Library(t)
	if a, b := target(t, lib), lower.Probe(lib); a.Block != b.Block {
		t.Errorf("one CPU wants %v and %v", a, b)
	}
}
