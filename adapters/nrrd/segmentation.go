package nrrd

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// Segment is what a .seg.nrrd says about one label.
type Segment struct {
	// ID is Slicer's identifier, Name what its user reads.
	ID, Name string
	// Label is the number of the segment in the label map.
	Label uint16
	// Color is red, green and blue from 0 to 1.
	Color [3]float64
}

// Segmentation is a label map with the names of its segments.
type Segmentation struct {
	*volume.LabelMap
	// Segments are in the order of the file; empty for a plain label map.
	Segments []Segment
	// ExtentOffset is the voxel of the reference image's grid at which this grid starts
	// (Segmentation_ReferenceImageExtentOffset): Slicer crops what it saves. The Geometry has it already; see On.
	ExtentOffset [3]int
}

// DecodeSegmentation reads a label map with the segments of a .seg.nrrd, if it has any. Data in another file is opened by files;
// nil refuses it.
//
// Slicer keeps segments that overlap in layers. They become one label map: layers are laid over each other in order, so that the
// last one wins where segments overlap. Where two layers use one number for different segments, all segments are numbered anew,
// 1, 2, … in the order of the file; the Segments tell their numbers.
func DecodeSegmentation(r io.Reader, files fs.FS, lim volume.Limits) (*Segmentation, error) {
	var s *Segmentation
	err := open(r, files, lim, func(h *header, l layout, data io.Reader) error {
		segments, err := h.segments()
		if err != nil {
			return err
		}
		if l.components > 1 && (len(segments) == 0 || !l.listFirst) {
			return h.tooManyComponents(l)
		}
		s = &Segmentation{ExtentOffset: h.extentOffset()}
		var labels []uint16
		if l.components == 1 {
			labels, err = sample.ReadLabels(data, l.format, l.geometry.Size)
		} else {
			labels, err = flatten(data, l, segments)
		}
		for _, seg := range segments {
			s.Segments = append(s.Segments, seg.Segment)
		}
		s.LabelMap = &volume.LabelMap{Geometry: l.geometry, Labels: labels}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// On is the label map on the grid of the image it belongs to, of which its own grid may be a part: voxels outside the reference
// are dropped, those not covered are background. It fails with volume.ErrGeometry where the grids are not aligned.
func (s *Segmentation) On(reference volume.Geometry) (*volume.LabelMap, error) {
	at := reference.WorldToIndex(s.Origin)
	var lo [3]int
	for c, x := range at {
		if math.Abs(x) > math.MaxInt32 || math.IsNaN(x) {
			return nil, fmt.Errorf("%w: the segmentation lies %g voxels away from its image", volume.ErrGeometry, x)
		}
		lo[c] = int(math.Round(x))
	}
	if err := reference.Crop(lo, s.Size).SameGrid(s.Geometry); err != nil {
		return nil, fmt.Errorf("segmentation and its image: %w", err)
	}
	out := volume.NewLabelMap(reference)
	i0, i1 := max(lo[0], 0), min(lo[0]+s.Size[0], reference.Size[0])
	if i0 >= i1 {
		return out, nil
	}
	for k := max(lo[2], 0); k < min(lo[2]+s.Size[2], reference.Size[2]); k++ {
		for j := max(lo[1], 0); j < min(lo[1]+s.Size[1], reference.Size[1]); j++ {
			from := s.Index(i0-lo[0], j-lo[1], k-lo[2])
			copy(out.Labels[reference.Index(i0, j, k):], s.Labels[from:from+i1-i0])
		}
	}
	return out, nil
}

// layered is a segment with the layer it is in.
type layered struct {
	Segment
	layer int
}

// segments reads Segment0_ID, Segment0_Name … until a number is missing.
func (h *header) segments() ([]layered, error) {
	var out []layered
	for n := 0; ; n++ {
		prefix := fmt.Sprintf("Segment%d_", n)
		id, hasID := h.keys[prefix+"ID"]
		name, hasName := h.keys[prefix+"Name"]
		if !hasID && !hasName {
			return out, nil
		}
		s := layered{Segment: Segment{ID: id, Name: name, Label: 1}}
		if text, ok := h.keys[prefix+"LabelValue"]; ok {
			label, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
			if err != nil {
				return nil, fmt.Errorf("%w: %sLabelValue %.40q, want 0 to %d", volume.ErrFormat, prefix, text, math.MaxUint16)
			}
			s.Label = uint16(label)
		}
		if text, ok := h.keys[prefix+"Layer"]; ok {
			layer, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || layer < 0 {
				return nil, fmt.Errorf("%w: %sLayer %.40q, want a number", volume.ErrFormat, prefix, text)
			}
			s.layer = layer
		}
		for c, text := range strings.Fields(h.keys[prefix+"Color"]) {
			if x, err := strconv.ParseFloat(text, 64); err == nil && c < 3 {
				s.Color[c] = x // a colour that cannot be read stays black
			}
		}
		out = append(out, s)
	}
}

func (h *header) extentOffset() (offset [3]int) {
	parts := strings.Fields(h.keys["Segmentation_ReferenceImageExtentOffset"])
	if len(parts) != 3 {
		return offset
	}
	for c, text := range parts {
		if n, err := strconv.Atoi(text); err == nil {
			offset[c] = n
		}
	}
	return offset
}

// flatten reads layers that alternate voxel by voxel and lays them over each other. It gives the segments their numbers.
func flatten(r io.Reader, l layout, segments []layered) ([]uint16, error) {
	relabel := renumber(segments)
	// The layers of a voxel are neighbours, so the data reads as a grid that is wider by their number.
	wide := l.geometry.Size
	wide[0] *= l.components
	values, err := sample.ReadLabels(r, l.format, wide)
	if err != nil {
		return nil, err
	}
	out := make([]uint16, l.geometry.Voxels())
	for n := range out {
		for layer, v := range values[n*l.components : (n+1)*l.components] {
			if v == 0 {
				continue
			}
			out[n] = v
			if to, ok := relabel[layerLabel{layer, v}]; ok {
				out[n] = to
			}
		}
	}
	return out, nil
}

type layerLabel struct {
	layer int
	label uint16
}

func renumber(segments []layered) map[layerLabel]uint16 {
	seen := map[uint16]bool{}
	clash := false
	for _, s := range segments {
		clash = clash || seen[s.Label]
		seen[s.Label] = true
	}
	to := map[layerLabel]uint16{}
	if !clash {
		return to
	}
	for n := range segments {
		s := &segments[n]
		to[layerLabel{s.layer, s.Label}] = uint16(n + 1)
		s.Label = uint16(n + 1)
	}
	return to
}

// EncodeSegmentation writes a label map with its segments, as Slicer reads them.
func EncodeSegmentation(w io.Writer, s *Segmentation, o Options) error {
	return encodeLabels(w, s.LabelMap, s.Segments, s.ExtentOffset, o)
}

func segmentKeys(b *strings.Builder, m *volume.LabelMap, segments []Segment, offset [3]int) {
	extents := labelExtents(m)
	line := func(n int, key, value string) { fmt.Fprintf(b, "Segment%d_%s:=%s\n", n, key, escape(value)) }
	for n, s := range segments {
		id := s.ID
		if id == "" {
			id = fmt.Sprintf("Segment_%d", n+1)
		}
		line(n, "Color", fmt.Sprintf("%s %s %s", number(s.Color[0]), number(s.Color[1]), number(s.Color[2])))
		e, ok := extents[s.Label]
		if !ok {
			e = [6]int{0, -1, 0, -1, 0, -1} // VTK's empty extent
		}
		line(n, "Extent", strings.Trim(fmt.Sprint(e), "[]"))
		line(n, "ID", id)
		line(n, "LabelValue", strconv.Itoa(int(s.Label)))
		line(n, "Layer", "0")
		line(n, "Name", s.Name)
	}
	b.WriteString("Segmentation_ContainedRepresentationNames:=Binary labelmap|\n")
	b.WriteString("Segmentation_MasterRepresentation:=Binary labelmap\n")
	fmt.Fprintf(b, "Segmentation_ReferenceImageExtentOffset:=%d %d %d\n", offset[0], offset[1], offset[2])
}

// labelExtents are the boxes that labels fill, first and last index along i, j and k.
func labelExtents(m *volume.LabelMap) map[uint16][6]int {
	out := map[uint16][6]int{}
	n := 0
	for k := range m.Size[2] {
		for j := range m.Size[1] {
			for i := range m.Size[0] {
				label := m.Labels[n]
				n++
				if label == 0 {
					continue
				}
				e, ok := out[label]
				if !ok {
					e = [6]int{i, i, j, j, k, k}
				}
				out[label] = [6]int{min(e[0], i), max(e[1], i), min(e[2], j), max(e[3], j), min(e[4], k), max(e[5], k)}
			}
		}
	}
	return out
}

func escape(s string) string { return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", "").Replace(s) }
