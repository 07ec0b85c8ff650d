package httpapi

import (
	"context"
	"encoding/xml"
	"math"
	"strings"
	"testing"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
)

// flat answers with a label map of one slice: a square of liver with a hole, and two pixels of aorta.
func flat(_ context.Context, _ *annotation.Request) (*annotation.Reply, error) {
	g := volume.New([3]int{12, 10, 1}, [3]float64{1, 1, 1})
	m := volume.NewLabelMap(g)
	for y := 1; y < 9; y++ {
		for x := 1; x < 9; x++ {
			m.Labels[g.Index(x, y, 0)] = 2
		}
	}
	m.Labels[g.Index(4, 4, 0)] = 0
	m.Labels[g.Index(10, 2, 0)], m.Labels[g.Index(10, 3, 0)] = 1, 1
	return &annotation.Reply{Label: m, LabelNames: []annotation.Segment{{Name: "liver", ID: 2}, {Name: "aorta & branches", ID: 1}}}, nil
}

func TestWSIOfPlainImages(t *testing.T) {
	b := newBench(t)
	b.service.infer = flat
	wsi := func(query, body string) result {
		return b.do("POST", "/infer/wsi/segmentation_spleen?image=case_0"+query, "application/json", []byte(body))
	}
	r := wsi("&output=json", `{"params":{"client_id":"me","largest_cc":true}}`)
	b.want(r, 200, `{"label_names":{"aorta & branches":1,"liver":2},"latencies":{},"centroids":{}}`)
	req := b.service.last(t)
	if req.ClientID != "me" || req.ROI != nil || req.Model != "segmentation_spleen" {
		t.Errorf("the service was asked %+v", req)
	}
	b.want(wsi("&output=json", ""), 200, "")
	if r := wsi("", `{"params":{"result_extension":".nrrd","result_dtype":"uint8"}}`); r.status != 200 || !strings.HasPrefix(r.body, "NRRD0004\n") {
		t.Errorf("without output: %d %.40q, want the label map", r.status, r.body)
	}
	wsi("&output=json", `{"location":[2,3],"size":[5,4],"level":0}`)
	if got, want := *b.service.last(t).ROI, (annotation.Box{Min: [3]int{2, 3, 0}, Max: [3]int{7, 7, math.MaxInt32}}); got != want {
		t.Errorf("part %v was asked for, want %v", got, want)
	}
	contentType, body := form(part{name: "wsi", content: `{"params":{"client_id":"you"}}`}, part{"file", "scan.png", "pixels"})
	b.want(b.do("POST", "/infer/wsi_v2/segmentation_spleen?output=json", contentType, body), 200, "")
	if req := b.service.last(t); req.ClientID != "you" || req.Image.Key.Source != annotation.Uploaded {
		t.Errorf("the service was asked %+v for an upload", req)
	}
}

func TestWSIOutlines(t *testing.T) {
	b := newBench(t)
	b.service.infer = flat
	wsi := func(output, body string) result {
		return b.do("POST", "/infer/wsi/segmentation_spleen?image=case_0&output="+output, "application/json", []byte(body))
	}
	r := wsi("asap", `{"min_poly_area":0}`)
	var doc struct {
		Annotations []struct {
			Name  string `xml:"Name,attr"`
			Type  string `xml:"Type,attr"`
			Group string `xml:"PartOfGroup,attr"`
			At    []struct {
				Order int     `xml:"Order,attr"`
				X     float64 `xml:"X,attr"`
				Y     float64 `xml:"Y,attr"`
			} `xml:"Coordinates>Coordinate"`
		} `xml:"Annotations>Annotation"`
		Groups []struct {
			Name string `xml:"Name,attr"`
		} `xml:"AnnotationGroups>Group"`
	}
	if err := xml.Unmarshal([]byte(r.body), &doc); err != nil || r.header.Get("Content-Type") != "application/xml" {
		t.Fatalf("%v, %s in %s", err, r.header.Get("Content-Type"), r.body)
	}
	if len(doc.Annotations) != 2 || len(doc.Groups) != 2 || doc.Annotations[0].Group != "aorta & branches" || doc.Annotations[1].Type != "Polygon" {
		t.Fatalf("%+v, want a polygon of each label", doc)
	}
	liver := doc.Annotations[1].At
	if len(liver) != 4 || liver[0].X != 1 || liver[0].Y != 1 || liver[2].X != 9 || liver[2].Y != 9 || liver[3].Order != 3 {
		t.Errorf("corners %+v, want those of the square from 1 to 9", liver)
	}
	r = wsi("dsa", `{"min_poly_area":3}`)
	elements := decodeJSON(t, r.body).(map[string]any)["elements"].([]any)
	if len(elements) != 1 {
		t.Fatalf("%d outlines of 3 pixels or more in %s, want 1", len(elements), r.body)
	}
	e := elements[0].(map[string]any)
	if e["type"] != "polyline" || e["closed"] != true || len(e["points"].([]any)) != 4 || e["label"].(map[string]any)["value"] != "liver" {
		t.Errorf("element %v", e)
	}
	b.want(wsi("dsa", ``), 200, "") // nothing is as large as the default
	b.service.infer = nil           // answers with two slices
	if r := wsi("asap", `{}`); r.status != 400 || !strings.Contains(r.body, "one slice") {
		t.Errorf("outlines of a volume: %d %s", r.status, r.body)
	}
	for body, says := range map[string]string{`{"level":2}`: "level", `{"location":[1]}`: "location", `{"size":[0,5]}`: "size", `{"size":"all"}`: "size",
		`{"location":[1e99,1]}`: "location", `{"params":7}`: "params"} {
		if r := wsi("json", body); r.status != 400 || !strings.Contains(r.body, says) {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
	b.want(wsi("svs", `{}`), 422, "")
	b.want(b.do("POST", "/infer/wsi/nobody?image=case_0", "application/json", nil), 404, "")
	b.want(b.do("POST", "/infer/wsi/scribbles", "application/json", nil), 500, "")
}
