package evaluate

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"image"
	"image/png"
	"io"
	"strings"
	"testing"
)

func somePNG(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestShowcase(t *testing.T) {
	data := somePNG(t)
	shot := func(slice, interactions int, dice float64) Picture {
		return Picture{Slice: slice, Interactions: interactions, Dice: dice, PNG: data}
	}
	frozen := Course{Target: "kidney", Pictures: []Picture{shot(2, 0, 0), shot(2, 1, 0.9), shot(5, 0, 0.5), shot(8, 0, 0.6)}}
	learned := Course{Target: "kidney", Pictures: []Picture{shot(2, 0, 0), shot(2, 1, 0.9), shot(5, 0, 0.8), shot(8, 0, 0.7)},
		Series: []Series{{Slice: 2}, {Slice: 5, Position: 1}, {Slice: 8, Position: 2}}}
	s, err := NewShowcase(frozen, learned)
	if err != nil {
		t.Fatal(err)
	}
	if s.Stroke.Slice != 2 || s.Before.Dice != 0.5 || s.After.Dice != 0.8 || s.Lessons != 1 {
		t.Errorf("chose %+v", s)
	}
	var b bytes.Buffer
	if err := s.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), base64.StdEncoding.EncodeToString(data)); n != 3 {
		t.Errorf("the picture holds %d of its three parts", n)
	}
	for d := xml.NewDecoder(&b); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not well-formed: %v", err)
		}
	}
	if _, err := NewShowcase(Course{}, learned); err == nil {
		t.Error("a course without pictures was taken")
	}
}
