package labelinfo_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/labelinfo"
)

// entry is one of several forms of a segment that clients send, described in full.
const entry = `{"name":" a ","labelID":7,"color":[255,0,51,255],"description":"d","segmentAttribute":{"SegmentLabel":"A!","SegmentAlgorithmType":"MANUAL",
	"recommendedDisplayRGBValue":[0,255,0],"SegmentedPropertyCategoryCodeSequence":{"CodeValue":"123037004","CodingSchemeDesignator":"SCT","CodeMeaning":"Anatomical Structure"},
	"SegmentedPropertyTypeCodeSequence":{"CodeValue":"64033007","CodingSchemeDesignator":"SCT","CodeMeaning":"Kidney"},
	"SegmentedPropertyTypeModifierCodeSequence":{"CodeValue":"7771000","CodingSchemeDesignator":"SCT","CodeMeaning":"Left"}}}`

func TestRead(t *testing.T) {
	full := labelinfo.Entry{Name: "a", Segment: dicomseg.Segment{Label: 7, Name: "A!", Description: "d", AlgorithmType: "MANUAL", Color: &[3]float64{0, 1, 0},
		Category: dicomseg.Code{Value: "123037004", Scheme: "SCT", Meaning: "Anatomical Structure"},
		Type:     dicomseg.Code{Value: "64033007", Scheme: "SCT", Meaning: "Kidney"}, Modifier: dicomseg.Code{Value: "7771000", Scheme: "SCT", Meaning: "Left"}}}
	of := func(label uint16, name string, color *[3]float64) labelinfo.Entry {
		return labelinfo.Entry{Name: name, Segment: dicomseg.Segment{Label: label, Name: name, Color: color}}
	}
	for _, c := range []struct {
		name, info string
		values     []uint16
		want       []labelinfo.Entry
	}{
		{"all members", `{"label_info":[` + entry + `]}`, []uint16{7}, []labelinfo.Entry{full}},
		{"colours", `{"label_info":[{"name":"a","idx":1,"color":[255,0,51,255]},{"name":"b","idx":2,"color":[1]},{"name":"c","idx":3,"color":["x",0,0]},{"name":"d","idx":4,"color":[256,0,0]}]}`,
			[]uint16{1, 2, 3, 4}, []labelinfo.Entry{of(1, "a", &[3]float64{1, 0, 0.2}), of(2, "b", nil), of(3, "c", nil), of(4, "d", nil)}},
		{"numbers as they are", `{"label_info":[{"name":"a","idx":5},{"name":"b","id":1},{"name":"c","label":9}]}`, []uint16{1, 5}, []labelinfo.Entry{of(5, "a", nil), of(1, "b", nil), of(9, "c", nil)}},
		{"as many values as entries", `{"label_info":[{"name":"a","idx":2},{"name":"b","idx":3}]}`, []uint16{1, 2}, []labelinfo.Entry{of(1, "a", nil), of(2, "b", nil)}},
		{"a value without an entry", `{"label_info":[{"name":"a","idx":2},{"name":"b","idx":4}]}`, []uint16{1}, []labelinfo.Entry{of(1, "a", nil), of(2, "b", nil)}},
		{"a value beyond the entries", `{"label_info":[{"name":"a","idx":2}]}`, []uint16{3}, []labelinfo.Entry{of(2, "a", nil)}},
		{"numbers that are none", `{"label_info":[{"name":"a","idx":1.5},{"name":"b","idx":-1},{"name":"c","idx":70000},{"name":"d","id":"0+1"}]}`, []uint16{9},
			[]labelinfo.Entry{of(0, "a", nil), of(0, "b", nil), of(0, "c", nil), of(0, "d", nil)}},
		{"what is no object", `{"label_info":[3,null,"x",{}]}`, nil, []labelinfo.Entry{of(0, "", nil)}},
		{"no list", `{"label_info":{"liver":1}}`, []uint16{1}, nil},
	} {
		info, err := api.DecodeObject([]byte(c.info))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, labelinfo.Read(info, c.values)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if _, ok := labelinfo.Find([]labelinfo.Entry{of(0, "a", nil)}, 0); ok {
		t.Error("the background is found as a segment")
	}
	if diff := cmp.Diff([]uint16{1, 3, 65535}, labelinfo.Values(&volume.LabelMap{Labels: []uint16{3, 0, 65535, 1, 3}})); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}
