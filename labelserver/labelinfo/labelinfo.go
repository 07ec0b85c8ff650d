// Package labelinfo reads what clients say of the segments in a label map: the member label_info of an inference's parameters and of a
// label's info,
//
//	[{"name": "liver", "idx": 1, "color": [221, 130, 101], "description": "…", "segmentAttribute": {…}}, …]
//
// where segmentAttribute is a segment of dcmqi's JSON, with codes for what the segment is.
//
// # Numbers
//
// Clients number the entries in two ways. Slicer's idx is the position among all segments of its scene, while the voxels have the position
// among those it sends: the entries then go by their order. Others mean by idx (or labelID, label, id) the voxels' value. The first is
// taken for meant where the voxels' values are exactly 1 to the number of entries, or where a value has no entry.
package labelinfo

import (
	"math"
	"slices"
	"strings"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
)

// Entry is what a client says of one segment.
type Entry struct {
	// Name is the client's own. The segment has dcmqi's SegmentLabel instead where there is one.
	Name string
	// Segment describes it; its label is the voxels' value, 0 if that is not known.
	Segment dicomseg.Segment
}

// Read reads the entries for a label map that has the values, in rising order. What is no object is left out.
func Read(info *api.Object, values []uint16) []Entry {
	v, _ := info.Get("label_info")
	list, _ := v.([]any)
	var entries []Entry
	for _, item := range list {
		if o, _ := item.(*api.Object); o != nil {
			entries = append(entries, readEntry(o))
		}
	}
	if byOrder(entries, values) {
		for i := range entries {
			entries[i].Segment.Label = uint16(i + 1)
		}
	}
	return entries
}

// Find is the segment with a label.
func Find(entries []Entry, label uint16) (segment dicomseg.Segment, ok bool) {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Segment.Label == label })
	if label == 0 || i < 0 {
		return dicomseg.Segment{}, false
	}
	return entries[i].Segment, true
}

// Values are the labels in a map but 0, in rising order.
func Values(m *volume.LabelMap) []uint16 {
	var present [math.MaxUint16 + 1]bool
	for _, label := range m.Labels {
		present[label] = true
	}
	var values []uint16
	for value := 1; value < len(present); value++ {
		if present[value] {
			values = append(values, uint16(value))
		}
	}
	return values
}

func byOrder(entries []Entry, values []uint16) bool {
	n := len(values)
	if n == 0 || int(values[n-1]) > len(entries) {
		return false
	}
	if n == len(entries) { // so they are 1 to n
		return true
	}
	return slices.ContainsFunc(values, func(v uint16) bool { _, ok := Find(entries, v); return !ok })
}

func readEntry(o *api.Object) Entry {
	name, _ := o.Text("name")
	e := Entry{Name: strings.TrimSpace(name)}
	s := &e.Segment
	s.Name, s.Label, s.Color = e.Name, readNumber(o), readColor(o, "color")
	s.Description, _ = o.Text("description")
	if attribute, ok := o.Object("segmentAttribute"); ok {
		describe(s, attribute)
	}
	return e
}

// readNumber is the value that an entry means, 0 if it does not say.
func readNumber(o *api.Object) uint16 {
	for _, key := range []string{"idx", "labelID", "label", "id"} {
		if n, ok := o.Number(key); ok && n == math.Trunc(n) && n > 0 && n <= math.MaxUint16 {
			return uint16(n)
		}
	}
	return 0
}

// describe reads dcmqi's attributes of a segment.
func describe(s *dicomseg.Segment, attribute *api.Object) {
	text := func(to *string, key string) {
		if v, ok := attribute.Text(key); ok && v != "" {
			*to = v
		}
	}
	text(&s.Name, "SegmentLabel")
	text(&s.Description, "SegmentDescription")
	text(&s.AlgorithmType, "SegmentAlgorithmType")
	text(&s.AlgorithmName, "SegmentAlgorithmName")
	s.Category = readCode(attribute, "SegmentedPropertyCategoryCodeSequence")
	s.Type = readCode(attribute, "SegmentedPropertyTypeCodeSequence")
	s.Modifier = readCode(attribute, "SegmentedPropertyTypeModifierCodeSequence")
	if color := readColor(attribute, "recommendedDisplayRGBValue"); color != nil {
		s.Color = color
	}
}

func readCode(o *api.Object, key string) dicomseg.Code {
	code, _ := o.Object(key)
	var c dicomseg.Code
	c.Value, _ = code.Text("CodeValue")
	c.Scheme, _ = code.Text("CodingSchemeDesignator")
	c.Meaning, _ = code.Text("CodeMeaning")
	return c
}

// readColor reads red, green and blue from 0 to 255.
func readColor(o *api.Object, key string) *[3]float64 {
	v, _ := o.Get(key)
	list, _ := v.([]any)
	if len(list) < 3 {
		return nil
	}
	var color [3]float64
	for c := range color {
		n, ok := api.NewObject("n", list[c]).Number("n")
		if !ok || n < 0 || n > 255 {
			return nil
		}
		color[c] = n / 255
	}
	return &color
}
