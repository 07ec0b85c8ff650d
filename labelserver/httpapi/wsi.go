package httpapi

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// Clients for pathology ask for whole slide images by routes of their own. A plain image is one of a single level: it is segmented as
// by /infer, or the part that location and size name, and the answer is outlines in the form of the viewer, or as in /infer.

// Forms of outlines.
const (
	outputASAP = "asap" // the XML of ASAP, the Automated Slide Analysis Platform
	outputDSA  = "dsa"  // the JSON of the Digital Slide Archive
)

// defaultPolyArea is the smallest area of an outline in pixels, unless a client asks for another.
const defaultPolyArea = 80

// postWSI answers POST /infer/wsi/{model}, whose body is JSON.
func (s *Server) postWSI(c echo.Context) error {
	body, err := readBody(c)
	if err != nil {
		return err
	}
	return s.wsi(c, body, &api.Form{})
}

// postWSIForm answers POST /infer/wsi_v2/{model}, where that JSON is a field of a form and the image may be uploaded.
func (s *Server) postWSIForm(c echo.Context) error {
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	body, err := form.Object("wsi")
	if err != nil {
		return err
	}
	return s.wsi(c, body, form)
}

func (s *Server) wsi(c echo.Context, body *api.Object, form *api.Form) error {
	model, err := pathParam(c, "model")
	if err != nil {
		return err
	}
	output, err := queryEnum(c, "output", outputImage, outputASAP, outputDSA, outputJSON)
	if err != nil {
		return err
	}
	params, ok := body.Object("params")
	if v, _ := body.Get("params"); v != nil && !ok {
		return api.Errorf(http.StatusBadRequest, "params is no object")
	}
	call, err := s.readInfer(c, model, params.Clone(), form)
	if err != nil {
		return err
	}
	if err := readWSI(body, call); err != nil {
		return err
	}
	answer, err := s.infer(c, call)
	if err != nil {
		return err
	}
	if output != outputASAP && output != outputDSA || answer.Label == nil {
		return s.sendInfer(c, call, answer, output)
	}
	smallest := defaultPolyArea
	if n, ok := body.Number("min_poly_area"); ok && n >= 0 && n <= math.MaxInt32 {
		smallest = int(n)
	}
	shapes, err := outlines(answer, smallest)
	if err != nil {
		return err
	}
	if output == outputASAP {
		return sendASAP(c, shapes)
	}
	return sendDSA(c, model, shapes)
}

// readWSI reads the part of the image that is asked for. A client that names none means all of it: the defaults of location and
// size are for slides.
func readWSI(body *api.Object, call *inferCall) error {
	if level, ok := body.Number("level"); body.Has("level") && (!ok || level != 0) {
		return api.Errorf(http.StatusBadRequest, "level: a plain image has level 0 only")
	}
	if !body.Has("location") && !body.Has("size") {
		return nil
	}
	location, size := []int{0, 0}, []int{math.MaxInt32, math.MaxInt32}
	for name, into := range map[string]*[]int{"location": &location, "size": &size} {
		if !body.Has(name) {
			continue
		}
		v, _ := body.Get(name)
		list, _ := v.([]any)
		numbers, ok := wholeNumbers(list)
		if !ok || len(numbers) != 2 || name == "size" && (numbers[0] < 1 || numbers[1] < 1) {
			return api.Errorf(http.StatusBadRequest, "%s: two numbers of pixels [x, y] are wanted", name)
		}
		*into = numbers
	}
	box := annotation.NewBox([6]int{location[0], location[0] + size[0], location[1], location[1] + size[1], 0, math.MaxInt32})
	call.req.ROI = &box
	return nil
}

// shape is an outline of a label.
type shape struct {
	label   string
	colour  [3]uint8
	outline morph.Outline
}

// outlines are those of the parts of each label, in the order of the labels' numbers. Holes have none: the formats know no holes.
func outlines(answer *annotation.Reply, smallest int) ([]shape, error) {
	m := answer.Label
	if m.Size[2] != 1 {
		return nil, api.Errorf(http.StatusBadRequest, "outlines are of an image of one slice, this one has %d; ask for output=json or leave output out", m.Size[2])
	}
	s, err := m.Slice(volume.PlaneK, 0)
	if err != nil {
		return nil, err
	}
	names := slices.SortedStableFunc(slices.Values(answer.LabelNames), func(a, b annotation.Segment) int { return a.ID - b.ID })
	var shapes []shape
	for _, name := range names {
		if name.ID < 1 || name.ID > math.MaxUint16 {
			continue
		}
		for _, o := range morph.Equal(s.Labels, s.W, s.H, uint16(name.ID)).Outlines() {
			if area := o.Area(); area > 0 && area >= smallest {
				shapes = append(shapes, shape{name.Name, colourOf(name.ID), o})
			}
		}
	}
	return shapes, nil
}

// colourOf gives each number a colour of its own, neighbouring numbers far apart: steps of the golden angle around the wheel.
func colourOf(number int) [3]uint8 {
	hue := math.Mod(float64(number)*0.618034, 1) * 6
	channel := func(shift float64) uint8 {
		h := math.Mod(hue+shift, 6)
		return uint8(55 + 200*min(max(math.Abs(h-3)-1, 0), 1))
	}
	return [3]uint8{channel(0), channel(4), channel(2)}
}

// The document that ASAP reads.
type (
	asapDocument struct {
		XMLName     xml.Name         `xml:"ASAP_Annotations"`
		Annotations []asapAnnotation `xml:"Annotations>Annotation"`
		Groups      []asapGroup      `xml:"AnnotationGroups>Group"`
	}
	asapAnnotation struct {
		Name        string           `xml:"Name,attr"`
		Type        string           `xml:"Type,attr"`
		Group       string           `xml:"PartOfGroup,attr"`
		Color       string           `xml:"Color,attr"`
		Coordinates []asapCoordinate `xml:"Coordinates>Coordinate"`
	}
	asapCoordinate struct {
		Order int `xml:"Order,attr"`
		X     int `xml:"X,attr"`
		Y     int `xml:"Y,attr"`
	}
	asapGroup struct {
		Name       string   `xml:"Name,attr"`
		Group      string   `xml:"PartOfGroup,attr"`
		Color      string   `xml:"Color,attr"`
		Attributes struct{} `xml:"Attributes"`
	}
)

func sendASAP(c echo.Context, shapes []shape) error {
	var doc asapDocument
	for i, s := range shapes {
		colour := fmt.Sprintf("#%02X%02X%02X", s.colour[0], s.colour[1], s.colour[2])
		a := asapAnnotation{Name: fmt.Sprintf("%s %d", s.label, i), Type: "Polygon", Group: s.label, Color: colour}
		for n, p := range s.outline {
			a.Coordinates = append(a.Coordinates, asapCoordinate{n, p.X, p.Y})
		}
		doc.Annotations = append(doc.Annotations, a)
		if !slices.ContainsFunc(doc.Groups, func(g asapGroup) bool { return g.Name == s.label }) {
			doc.Groups = append(doc.Groups, asapGroup{Name: s.label, Group: "None", Color: colour})
		}
	}
	text, err := xml.MarshalIndent(doc, "", "\t")
	if err != nil {
		return err
	}
	return sendOutlines(c, ".xml", []byte(xml.Header+string(text)+"\n"))
}

func sendDSA(c echo.Context, model string, shapes []shape) error {
	elements := []any{}
	for _, s := range shapes {
		points := []any{}
		for _, p := range s.outline {
			points = append(points, []any{p.X, p.Y, 0})
		}
		rgb := fmt.Sprintf("%d,%d,%d", s.colour[0], s.colour[1], s.colour[2])
		elements = append(elements, api.NewObject("type", "polyline", "group", s.label, "label", api.NewObject("value", s.label),
			"points", points, "closed", true, "lineColor", "rgb("+rgb+")", "fillColor", "rgba("+rgb+",0.25)", "lineWidth", 2))
	}
	text, err := api.Encode(api.NewObject("name", "Scrawl", "description", "Outlines by the model "+model, "elements", elements))
	if err != nil {
		return err
	}
	return sendOutlines(c, ".json", text)
}

func sendOutlines(c echo.Context, ext string, content []byte) error {
	name := api.RandomFileName(ext)
	return sendContent(c, bytes.NewReader(content), name, `"`+name+`"`, time.Now())
}
