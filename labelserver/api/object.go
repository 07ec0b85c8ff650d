package api

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Object is a JSON object that keeps its members in the order in which they were set or read. Clients take the first model and
// the first strategy as the default and assign labels by position, so that order is part of the protocol and a Go map, which
// encoding/json sorts, cannot carry it.
//
// Values are nil, bool, string, json.Number, Go's integers and floats, *Object, []any, []string, []int, []float64, Raw and
// slices of *Object. Decoding makes nil, bool, string, json.Number, []any and *Object. The zero value is an empty object; a nil
// *Object reads as an empty one. An Object is not safe for concurrent use while it is being changed.
type Object struct {
	members []member
	index   map[string]int
}

type member struct {
	name  string
	value any
}

// NewObject returns an object of alternating names and values: NewObject("id", 1, "name", "spleen"). A name that is not a
// string or a missing last value is a programming error and leaves that pair out.
func NewObject(pairs ...any) *Object {
	o := &Object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if name, ok := pairs[i].(string); ok {
			o.Set(name, pairs[i+1])
		}
	}
	return o
}

// Len is the number of members.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// Get returns the value of a member and whether it is there.
func (o *Object) Get(name string) (any, bool) {
	if o == nil {
		return nil, false
	}
	i, ok := o.index[name]
	if !ok {
		return nil, false
	}
	return o.members[i].value, true
}

// Has reports whether the object has a member of that name.
func (o *Object) Has(name string) bool {
	_, ok := o.Get(name)
	return ok
}

// Set gives a member a value. A new member goes to the end, a known one keeps its place.
func (o *Object) Set(name string, value any) {
	if i, ok := o.index[name]; ok {
		o.members[i].value = value
		return
	}
	if o.index == nil {
		o.index = make(map[string]int)
	}
	o.index[name] = len(o.members)
	o.members = append(o.members, member{name, value})
}

// Delete takes a member out; it is no error if there is none.
func (o *Object) Delete(name string) {
	if !o.Has(name) {
		return
	}
	at := o.index[name]
	o.members = append(o.members[:at], o.members[at+1:]...)
	delete(o.index, name)
	for i := at; i < len(o.members); i++ {
		o.index[o.members[i].name] = i
	}
}

// All yields the members in order.
func (o *Object) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if o == nil {
			return
		}
		for _, m := range o.members {
			if !yield(m.name, m.value) {
				return
			}
		}
	}
}

// Names returns the names in order.
func (o *Object) Names() []string {
	names := make([]string, 0, o.Len())
	for name := range o.All() {
		names = append(names, name)
	}
	return names
}

// Merge sets every member of other, as Python's dict.update does: known names keep their place, new ones follow.
func (o *Object) Merge(other *Object) {
	for name, value := range other.All() {
		o.Set(name, value)
	}
}

// Clone returns a copy whose members can be changed alone. Nested objects and lists are shared.
func (o *Object) Clone() *Object {
	c := &Object{}
	c.Merge(o)
	return c
}

// Text returns a string member. Clients send some one-item options as lists (`"device":["cpu"]`); the first string counts.
func (o *Object) Text(name string) (string, bool) {
	v, _ := o.Get(name)
	switch v := v.(type) {
	case string:
		return v, true
	case []any:
		if len(v) > 0 {
			s, ok := v[0].(string)
			return s, ok
		}
	case []string:
		if len(v) > 0 {
			return v[0], true
		}
	}
	return "", false
}

// Number returns a numeric member as a float64. A string that spells a number counts, since Slicer's option table sends some.
func (o *Object) Number(name string) (float64, bool) {
	v, _ := o.Get(name)
	return number(v)
}

func number(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case float64:
		return v, finite(v)
	case float32:
		return float64(v), finite(float64(v))
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && finite(f)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// Bool returns a boolean member; 0, 1 and the words of ParseBool count as booleans.
func (o *Object) Bool(name string) (value, ok bool) {
	v, _ := o.Get(name)
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		return ParseBool(v)
	case json.Number:
		return ParseBool(v.String())
	case int:
		return v != 0, true
	}
	return false, false
}

// Object returns a member that is an object.
func (o *Object) Object(name string) (*Object, bool) {
	v, _ := o.Get(name)
	child, ok := v.(*Object)
	return child, ok
}

// ParseBool reads a boolean as MONAI Label's query parameters do: true, false, 1, 0, yes, no, on, off, t, f, y, n in any case.
func ParseBool(s string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes", "on", "t", "y":
		return true, true
	case "false", "0", "no", "off", "f", "n":
		return false, true
	}
	return false, false
}

// Raw is JSON text that is written as it stands. The caller vouches that it is valid.
type Raw string

// Limits of decoded JSON: deeper or longer text than any client sends is refused before it costs anything.
const (
	maxJSONDepth = 64
	maxJSONBytes = 16 << 20
)

// DecodeObject reads the text of one JSON object. Numbers stay as written (json.Number), a name that comes twice keeps its
// first place and its last value. Empty text is an error; trailing text too.
func DecodeObject(text []byte) (*Object, error) {
	v, err := decodeValue(text)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("JSON text is %s, want an object", kindName(v))
	}
	return o, nil
}

func kindName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	default:
		return "a number"
	}
}

func decodeValue(text []byte) (any, error) {
	if len(text) > maxJSONBytes {
		return nil, fmt.Errorf("JSON text of %d bytes, want at most %d", len(text), maxJSONBytes)
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("JSON text is not UTF-8")
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	v, err := readValue(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("reading JSON: text follows the value at byte %d", dec.InputOffset())
	}
	return v, nil
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	t, err := dec.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return readObject(dec, depth)
	case json.Delim('['):
		return readList(dec, depth)
	}
	return t, nil
}

func readObject(dec *json.Decoder, depth int) (*Object, error) {
	o := &Object{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("member name is %v, want a string", t)
		}
		v, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o.Set(name, v)
	}
	return o, closeDelim(dec)
}

func readList(dec *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for dec.More() {
		v, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, closeDelim(dec)
}

func closeDelim(dec *json.Decoder) error {
	_, err := dec.Token()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// UnmarshalJSON implements json.Unmarshaler with DecodeObject.
func (o *Object) UnmarshalJSON(text []byte) error {
	read, err := DecodeObject(text)
	if err != nil {
		return err
	}
	*o = *read
	return nil
}

// MarshalJSON implements json.Marshaler with Encode. Beware: json.Marshal compacts and HTML-escapes the text again.
func (o *Object) MarshalJSON() ([]byte, error) { return Encode(o) }

// Encode writes a value as the incumbent's JSON bodies are: `{"a":1,"b":1.0}`, no escapes beyond those JSON demands.
func Encode(v any) ([]byte, error) { return encoder{}.append(nil, v) }

// EncodePython writes a value as Python's json.dumps does: `{"a": 1, "b": 1.0}`, everything beyond ASCII escaped. The params
// part of an infer answer is written so.
func EncodePython(v any) ([]byte, error) {
	return encoder{ascii: true, item: ", ", colon: ": "}.append(nil, v)
}

type encoder struct {
	ascii       bool
	item, colon string
}

func (e encoder) separators() (item, colon string) {
	if e.item == "" {
		return ",", ":"
	}
	return e.item, e.colon
}

func (e encoder) append(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return e.appendString(b, v), nil
	case json.Number:
		if !json.Valid([]byte(v)) {
			return nil, fmt.Errorf("encoding JSON: %q is not a number", string(v))
		}
		return append(b, v...), nil
	case Raw:
		return append(b, v...), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int32:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case uint8:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint16:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint32:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint64:
		return strconv.AppendUint(b, v, 10), nil
	case float32:
		return appendFloat(b, float64(v), 32)
	case float64:
		return appendFloat(b, v, 64)
	case *Object:
		return e.appendObject(b, v)
	case []any:
		return appendList(e, b, v)
	case []string:
		return appendList(e, b, v)
	case []int:
		return appendList(e, b, v)
	case []float64:
		return appendList(e, b, v)
	case []*Object:
		return appendList(e, b, v)
	}
	return nil, fmt.Errorf("encoding JSON: no form for a value of type %T", v)
}

func (e encoder) appendObject(b []byte, o *Object) ([]byte, error) {
	item, colon := e.separators()
	b = append(b, '{')
	first := true
	for name, value := range o.All() {
		if !first {
			b = append(b, item...)
		}
		first = false
		b = e.appendString(b, name)
		b = append(b, colon...)
		var err error
		if b, err = e.append(b, value); err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
	}
	return append(b, '}'), nil
}

func appendList[T any](e encoder, b []byte, list []T) ([]byte, error) {
	item, _ := e.separators()
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, item...)
		}
		var err error
		if b, err = e.append(b, v); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

// appendFloat writes a float that stays a float: Slicer parses options with Python's json and keeps the type it read, so a
// default written `1` could never again be set to 0.5.
func appendFloat(b []byte, f float64, bits int) ([]byte, error) {
	if !finite(f) {
		return nil, fmt.Errorf("encoding JSON: %v has no JSON form", f)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		format = 'e'
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, format, -1, bits)
	if format == 'f' && !strings.Contains(string(b[start:]), ".") {
		b = append(b, ".0"...)
	}
	return b, nil
}

const hexDigits = "0123456789abcdef"

func (e encoder) appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s { // invalid UTF-8 becomes U+FFFD, which keeps the text valid JSON
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20 || (e.ascii && r >= 0x7f && r < 0x10000):
			b = appendEscape(b, uint16(r))
		case e.ascii && r >= 0x10000:
			r -= 0x10000
			b = appendEscape(b, uint16(0xd800+(r>>10)))
			b = appendEscape(b, uint16(0xdc00+(r&0x3ff)))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

func appendEscape(b []byte, u uint16) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}
