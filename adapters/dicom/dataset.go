package dicom

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Dataset is the elements of a file or of one item of a sequence, in order of their tags. The zero value is empty and ready. Reading
// methods may be called on nil, which is an empty data set, so that optional sequences need no checks.
type Dataset struct {
	elements []Element
}

// Element is one element. Value is a []string for text of all kinds (numbers as text included: DS, IS), a []int for binary
// integers, a []float64 for binary floating point, a []byte for the rest, or a []*Dataset for sequences.
type Element struct {
	Tag   Tag
	VR    string
	Value any
}

// Elements are the elements in order of tags. They are not to be changed.
func (d *Dataset) Elements() []Element {
	if d == nil {
		return nil
	}
	return d.elements
}

func (d *Dataset) find(t Tag) (int, bool) {
	if d == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(d.elements, t, func(e Element, t Tag) int { return cmp.Compare(e.Tag, t) })
}

// put adds or replaces an element.
func (d *Dataset) put(e Element) {
	n, found := d.find(e.Tag)
	if found {
		d.elements[n] = e
		return
	}
	d.elements = slices.Insert(d.elements, n, e)
}

// sorted makes a data set of elements in any order, of which the first of each tag stays.
func sorted(elements []Element) *Dataset {
	byTag := func(a, b Element) int { return cmp.Compare(a.Tag, b.Tag) }
	if !slices.IsSortedFunc(elements, byTag) {
		slices.SortStableFunc(elements, byTag)
	}
	return &Dataset{elements: slices.CompactFunc(elements, func(a, b Element) bool { return a.Tag == b.Tag })}
}

func (d *Dataset) value(t Tag) any {
	if n, found := d.find(t); found {
		return d.elements[n].Value
	}
	return nil
}

// Has reports whether there is an element, were it empty.
func (d *Dataset) Has(t Tag) bool {
	_, found := d.find(t)
	return found
}

// Texts are the values of an element of text, without the spaces around them; nil for other elements and for empty ones.
func (d *Dataset) Texts(t Tag) []string {
	values, _ := d.value(t).([]string)
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Trim(v, " \x00")
	}
	if len(out) == 1 && out[0] == "" {
		return nil
	}
	return out
}

// Text is the first of Texts, or "".
func (d *Dataset) Text(t Tag) string {
	if values := d.Texts(t); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Floats are the numbers of an element, whatever form they are stored in; nil if there are none or one of them is no finite number.
func (d *Dataset) Floats(t Tag) []float64 {
	var out []float64
	switch values := d.value(t).(type) {
	case []float64:
		out = slices.Clone(values)
	case []int:
		for _, v := range values {
			out = append(out, float64(v))
		}
	case []string:
		for _, text := range d.Texts(t) { // without the padding of values
			v, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", "."), 64) // some exporters write their country's point
			if err != nil {
				return nil
			}
			out = append(out, v)
		}
	}
	for _, v := range out {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
	}
	return out
}

// Float is the first of Floats.
func (d *Dataset) Float(t Tag) (float64, bool) {
	if values := d.Floats(t); len(values) > 0 {
		return values[0], true
	}
	return 0, false
}

// Int is the first number of an element if it is an integer of at most 32 bits.
func (d *Dataset) Int(t Tag) (int, bool) {
	v, ok := d.Float(t)
	if !ok || v != math.Trunc(v) || math.Abs(v) > math.MaxUint32 {
		return 0, false
	}
	return int(v), true
}

// Ints are the numbers of an element if all are integers of at most 32 bits; nil otherwise.
func (d *Dataset) Ints(t Tag) []int {
	var out []int
	for _, v := range d.Floats(t) {
		if v != math.Trunc(v) || math.Abs(v) > math.MaxUint32 {
			return nil
		}
		out = append(out, int(v))
	}
	return out
}

// Bytes is the value of an element of bytes or words, little endian.
func (d *Dataset) Bytes(t Tag) []byte {
	b, _ := d.value(t).([]byte)
	return b
}

// Items are the items of a sequence.
func (d *Dataset) Items(t Tag) []*Dataset {
	items, _ := d.value(t).([]*Dataset)
	return items
}

// Item is the first item of a sequence, nil if there is none.
func (d *Dataset) Item(t Tag) *Dataset {
	if items := d.Items(t); len(items) > 0 {
		return items[0]
	}
	return nil
}

// Set sets an element to texts. Without any the element is empty. The value representation is the standard's.
func (d *Dataset) Set(t Tag, values ...string) {
	if len(values) == 0 {
		values = []string{""}
	}
	d.put(Element{t, vrOf(t), values})
}

// SetInts sets an element to integers, as text where its representation is text (IS).
func (d *Dataset) SetInts(t Tag, values ...int) {
	vr := vrOf(t)
	if !isText(vr) {
		d.put(Element{t, vr, values})
		return
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = strconv.Itoa(v)
	}
	d.Set(t, texts...)
}

// SetFloats sets an element to numbers, as text of at most 16 characters where its representation is text (DS).
func (d *Dataset) SetFloats(t Tag, values ...float64) {
	vr := vrOf(t)
	if !isText(vr) {
		d.put(Element{t, vr, values})
		return
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = DecimalString(v)
	}
	d.Set(t, texts...)
}

// SetItems sets a sequence.
func (d *Dataset) SetItems(t Tag, items ...*Dataset) { d.put(Element{t, "SQ", items}) }

// SetBytes sets an element to bytes of a representation such as OB.
func (d *Dataset) SetBytes(t Tag, vr string, b []byte) { d.put(Element{t, vr, b}) }

// Copy sets an element to what another data set has, if it has it.
func (d *Dataset) Copy(from *Dataset, tags ...Tag) {
	for _, t := range tags {
		if n, found := from.find(t); found {
			d.put(from.elements[n])
		}
	}
}

// DecimalString writes a number as DS: at most 16 characters (PS3.5, section 6.2), as exactly as they allow.
func DecimalString(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return "0" // without a sign; what is no number cannot be written
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	for digits := 16; len(text) > 16; digits-- {
		text = strconv.FormatFloat(v, 'g', digits, 64)
	}
	return text
}

// ShortText makes one value of at most n characters of any text, which need not be fit for an element: without separators of values and
// control characters, and cut.
func ShortText(text string, n int) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case r < 0x20 || r == 0x7f || r == utf8.RuneError:
			return ' '
		}
		return r
	}, text))
	if utf8.RuneCountInString(text) > n {
		text = strings.TrimSpace(string([]rune(text)[:n]))
	}
	return text
}
