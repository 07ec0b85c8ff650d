package jpeg2000

import (
	"cmp"
	"slices"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// Progression orders (Table A.16).
const (
	orderLRCP = iota
	orderRLCP
	orderRPCL
	orderPCRL
	orderCPRL
)

// A position is a precinct in the order of packets, with its place on the reference grid.
type position struct {
	x, y, k int
	c, r    int
}

// readPackets reads all packets of a tile in the order of its progressions (B.12), and holds that none is missing.
func (t *tile) readPackets() error {
	volumes := t.poc
	if len(volumes) == 0 {
		volumes = []progression{{order: t.order, layers: t.layers, resTo: 33, compTo: len(t.components)}}
	}
	p := packets{tile: t}
	for _, v := range volumes {
		if err := p.volume(v); err != nil {
			return err
		}
	}
	for c := range t.components {
		for r := range t.components[c].resolutions {
			for _, n := range t.components[c].resolutions[r].layersRead {
				if int(n) < t.layers {
					return frame.Malformed("resolution %d of component %d has precincts with %d of %d layers", r, c, n, t.layers)
				}
			}
		}
	}
	return nil
}

// volume reads the packets of one progression: those within its bounds that no earlier one has read.
func (p *packets) volume(v progression) error {
	v.layers = min(v.layers, p.layers)
	order := p.positions(v)
	if v.order == orderLRCP || v.order == orderRLCP {
		return p.byLayer(order, v)
	}
	for _, at := range order {
		for l := range v.layers {
			if err := p.once(at, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// byLayer reads packets where layers change before components and precincts do; order is by resolution.
func (p *packets) byLayer(order []position, v progression) error {
	groups := [][]position{order}
	if v.order == orderRLCP {
		groups = groups[:0]
		for len(order) > 0 {
			n := 1
			for n < len(order) && order[n].r == order[0].r {
				n++
			}
			groups = append(groups, order[:n])
			order = order[n:]
		}
	}
	for _, g := range groups {
		for l := range v.layers {
			for _, at := range g {
				if err := p.once(at, l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// once reads a packet, unless it has been read.
func (p *packets) once(at position, l int) error {
	c := &p.components[at.c]
	res := &c.resolutions[at.r]
	if int(res.layersRead[at.k]) != l {
		return nil
	}
	res.layersRead[at.k]++
	return p.read(c, res, at.k, l)
}

// positions lists the precincts within a progression's bounds that still lack layers, in its order, without regard to layers.
func (p *packets) positions(v progression) []position {
	var list []position
	for c := v.componentFrom; c < min(v.compTo, len(p.components)); c++ {
		tc := &p.components[c]
		for r := v.resFrom; r < min(v.resTo, len(tc.resolutions)); r++ {
			res := &tc.resolutions[r]
			for k := range res.precincts {
				if int(res.layersRead[k]) >= v.layers {
					continue
				}
				list = append(list, position{
					x: max(p.x0, (res.precinctX0+k%res.precinctsX)<<(res.ppx+res.levelsAbove)),
					y: max(p.y0, (res.precinctY0+k/res.precinctsX)<<(res.ppy+res.levelsAbove)),
					k: k, c: c, r: r,
				})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b position) int {
		place := cmp.Or(a.y-b.y, a.x-b.x)
		switch v.order {
		case orderRPCL:
			return cmp.Or(a.r-b.r, place, a.c-b.c, a.k-b.k)
		case orderPCRL:
			return cmp.Or(place, a.c-b.c, a.r-b.r, a.k-b.k)
		case orderCPRL:
			return cmp.Or(a.c-b.c, place, a.r-b.r, a.k-b.k)
		}
		return cmp.Or(a.r-b.r, a.c-b.c, a.k-b.k)
	})
	return list
}
