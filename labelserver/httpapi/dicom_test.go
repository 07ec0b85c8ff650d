package httpapi

import (
	"slices"
	"testing"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

func TestDICOMSegments(t *testing.T) {
	const attribute = `{"name":"a","idx":1,"color":[255,0,51],"segmentAttribute":{"SegmentLabel":"A!","SegmentAlgorithmType":"MANUAL","SegmentedPropertyTypeCodeSequence":{"CodeValue":"78961009","CodingSchemeDesignator":"SCT","CodeMeaning":"Spleen"}}}`
	for name, test := range map[string]struct {
		values []uint16
		names  []annotation.Segment
		params string
		want   []string
	}{
		"names of the answer":          {[]uint16{1, 2}, []annotation.Segment{{Name: "liver", ID: 1}, {Name: "spleen", ID: 2}}, `{}`, []string{"liver", "spleen"}},
		"label_info by number":         {[]uint16{1, 5}, nil, `{"label_info":[{"name":"x","idx":5},{"name":"y","id":1},{"name":"z","idx":9}]}`, []string{"y", "x"}},
		"Slicer's positions":           {[]uint16{1, 2}, nil, `{"label_info":[{"name":"x","idx":2},{"name":"y","idx":3}]}`, []string{"x", "y"}},
		"the answer's names win":       {[]uint16{1}, []annotation.Segment{{Name: "liver", ID: 1}}, `{"label_info":[{"name":"x","idx":1}]}`, []string{"liver"}},
		"nobody knows":                 {[]uint16{7}, nil, `{"label_info":[{"idx":"?"},3]}`, []string{"Segment 7"}},
		"nothing, and what was wanted": {nil, nil, `{}`, []string{"asked"}},
		"dcmqi's attributes":           {[]uint16{1}, nil, `{"label_info":[` + attribute + `]}`, []string{"A!"}},
	} {
		params, bad := api.DecodeBody([]byte(test.params))
		if bad != nil {
			t.Fatal(bad)
		}
		got := dicomSegments(&volume.LabelMap{Labels: test.values}, test.names, params, "asked")
		var names []string
		for _, s := range got {
			names = append(names, s.Name)
		}
		if !slices.Equal(names, test.want) {
			t.Errorf("%s: segments %q, want %q", name, names, test.want)
		}
		if name == "dcmqi's attributes" {
			s := got[0]
			if s.AlgorithmType != "MANUAL" || s.Type != (dicomseg.Code{Value: "78961009", Scheme: "SCT", Meaning: "Spleen"}) || s.Color == nil || s.Color[0] != 1 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}
