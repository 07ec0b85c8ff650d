package nrrd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// maxHeader bounds the text of a header; segmentations of a hundred segments with their terminology stay below a tenth of it.
const maxHeader = 4 << 20

// header is the text of an NRRD header, taken apart line by line.
type header struct {
	fields   map[string]string // lower-case field identifiers, spelling variants merged
	keys     map[string]string // key/value pairs, as written
	dataFile string
}

func readHeader(r *bufio.Reader) (*header, error) {
	left := maxHeader
	magic, err := readLine(r, &left)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	version, ok := strings.CutPrefix(magic, "NRRD000")
	if !ok || len(version) != 1 || version[0] < '1' || version[0] > '9' {
		return nil, fmt.Errorf("%w: not an NRRD file: it starts with %.16q, want NRRD0001 to NRRD0005", volume.ErrFormat, magic)
	}
	if version[0] > '5' {
		return nil, fmt.Errorf("%w: NRRD version %s, want 1 to 5", volume.ErrUnsupported, version)
	}
	h := &header{fields: map[string]string{}, keys: map[string]string{}}
	for {
		line, err := readLine(r, &left)
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return nil, err
		}
		if line == "" {
			break
		}
		if err := h.add(line); err != nil {
			return nil, err
		}
		if ended {
			break
		}
	}
	h.dataFile = h.fields["data file"]
	return h, nil
}

// readLine reads a line without its end (LF or CR LF). At the end of the stream it returns what there is, with io.EOF.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return "", fmt.Errorf("%w: more than %d bytes without the blank line that ends a header", volume.ErrTooLarge, maxHeader)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		return text, err
	}
}

func (h *header) add(line string) error {
	if strings.HasPrefix(line, "#") {
		return nil
	}
	colon := strings.Index(line, ": ")
	pair := strings.Index(line, ":=")
	if pair >= 0 && (colon < 0 || pair < colon) {
		h.keys[unescape(line[:pair])] = unescape(line[pair+2:])
		return nil
	}
	if colon < 0 {
		if !strings.HasSuffix(line, ":") {
			return fmt.Errorf("%w: line %.80q is neither \"field: value\" nor \"key:=value\"", volume.ErrFormat, line)
		}
		colon = len(line) - 1
	}
	name := canonical(line[:colon])
	if _, twice := h.fields[name]; twice {
		return fmt.Errorf("%w: field %q stands there twice", volume.ErrFormat, name)
	}
	h.fields[name] = strings.TrimSpace(line[colon+1:])
	return nil
}

// canonical merges the spellings that the format allows for a field.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	switch name {
	case "datafile":
		return "data file"
	case "lineskip":
		return "line skip"
	case "byteskip":
		return "byte skip"
	}
	return name
}

// unescape undoes the two escapes of key/value pairs.
func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(s)
}

func (h *header) need(name string) (string, error) {
	if v := h.fields[name]; v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%w: field %q is missing", volume.ErrFormat, name)
}

func (h *header) number(name string, absent int64) (int64, error) {
	text, ok := h.fields[name]
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s %.40q, want a number", volume.ErrFormat, name, text)
	}
	return n, nil
}

func (h *header) openData(files fs.FS) (fs.File, error) {
	name := h.dataFile
	if strings.HasPrefix(name, "LIST") || strings.Contains(name, "%") {
		return nil, fmt.Errorf("NRRD header: %w: data in several files (%.80q), want one", volume.ErrUnsupported, name)
	}
	if files == nil {
		return nil, fmt.Errorf("NRRD header: %w: the data is in another file (%.80q), which did not come along: use a single .nrrd", volume.ErrUnsupported, name)
	}
	f, err := files.Open(path.Clean(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, fmt.Errorf("NRRD header: %w: data file %.80q is not there, or not below the header's folder", volume.ErrFormat, name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the NRRD's data file: %w", err)
	}
	return f, nil
}

// layout is what the header says about the data.
type layout struct {
	geometry volume.Geometry
	format   sample.Format
	// components is the length of the list axis, 1 without one; listFirst tells that it is the fastest axis.
	components int
	listFirst  bool
}

func (h *header) layout(lim volume.Limits) (layout, error) {
	var l layout
	kind, err := h.need("type")
	if err != nil {
		return l, err
	}
	if l.format.Type, err = parseType(kind); err != nil {
		return l, err
	}
	if l.format.Order, err = h.order(l.format.Type); err != nil {
		return l, err
	}
	axes, err := h.axes()
	if err != nil {
		return l, err
	}
	return l, h.place(&l, axes, lim)
}

// parseType knows the C names and the fixed-width names of the format.
func parseType(name string) (volume.DType, error) {
	switch strings.ToLower(strings.Join(strings.Fields(name), " ")) {
	case "signed char", "int8", "int8_t":
		return volume.Int8, nil
	case "uchar", "unsigned char", "uint8", "uint8_t":
		return volume.Uint8, nil
	case "short", "short int", "signed short", "signed short int", "int16", "int16_t":
		return volume.Int16, nil
	case "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t":
		return volume.Uint16, nil
	case "int", "signed int", "int32", "int32_t":
		return volume.Int32, nil
	case "uint", "unsigned int", "uint32", "uint32_t":
		return volume.Uint32, nil
	case "longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t":
		return volume.Int64, nil
	case "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t":
		return volume.Uint64, nil
	case "float":
		return volume.Float32, nil
	case "double":
		return volume.Float64, nil
	case "block":
		return "", fmt.Errorf("%w: type block, want numbers", volume.ErrUnsupported)
	}
	return "", fmt.Errorf("%w: type %.40q, want a name such as \"unsigned char\" or \"float\"", volume.ErrFormat, name)
}

func (h *header) order(t volume.DType) (binary.ByteOrder, error) {
	switch endian := strings.ToLower(h.fields["endian"]); {
	case endian == "big" && !h.isText():
		return binary.BigEndian, nil
	case endian == "little", endian == "big", t.Bytes() == 1, h.isText():
		return binary.LittleEndian, nil // which is what text is turned to
	case endian == "":
		return nil, fmt.Errorf("%w: field \"endian\" is missing, which %s needs", volume.ErrFormat, t)
	default:
		return nil, fmt.Errorf("%w: endian %.40q, want little or big", volume.ErrFormat, endian)
	}
}

// axis is one dimension of the array, fastest first.
type axis struct {
	size    int
	list    bool      // holds components, not positions
	vector  []float64 // step in space per sample, where "space directions" has it
	spacing float64   // 0 where unknown
	unit    string
}

func (h *header) axes() ([]axis, error) {
	n, err := h.number("dimension", 0)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > 16 {
		return nil, fmt.Errorf("%w: dimension %d, want 1 to 16", volume.ErrFormat, n)
	}
	axes := make([]axis, n)
	sizes := strings.Fields(h.fields["sizes"])
	if len(sizes) != len(axes) {
		return nil, fmt.Errorf("%w: %d sizes for %d dimensions", volume.ErrFormat, len(sizes), n)
	}
	for i, text := range sizes {
		if axes[i].size, err = strconv.Atoi(text); err != nil || axes[i].size < 1 {
			return nil, fmt.Errorf("%w: size %.40q along axis %d, want at least 1", volume.ErrFormat, text, i)
		}
	}
	if err := h.addDirections(axes); err != nil {
		return nil, err
	}
	if err := h.addKinds(axes); err != nil {
		return nil, err
	}
	return axes, h.addSpacings(axes)
}

func (h *header) addDirections(axes []axis) error {
	text, ok := h.fields["space directions"]
	if !ok {
		return nil
	}
	vectors, err := parseVectors(text)
	if err != nil {
		return fmt.Errorf("space directions: %w", err)
	}
	if len(vectors) != len(axes) {
		return fmt.Errorf("%w: %d space directions for %d dimensions", volume.ErrFormat, len(vectors), len(axes))
	}
	for i, v := range vectors {
		axes[i].vector, axes[i].list = v, v == nil
	}
	return nil
}

func (h *header) addKinds(axes []axis) error {
	text, ok := h.fields["kinds"]
	if !ok {
		return nil
	}
	kinds := strings.Fields(text)
	if len(kinds) != len(axes) {
		return fmt.Errorf("%w: %d kinds for %d dimensions", volume.ErrFormat, len(kinds), len(axes))
	}
	for i, kind := range kinds {
		switch strings.ToLower(kind) {
		case "domain", "space", "???", "none":
		default: // also where somebody gave a list axis a direction
			axes[i].list = true
		}
	}
	return nil
}

func (h *header) addSpacings(axes []axis) error {
	if text, ok := h.fields["spacings"]; ok {
		spacings := strings.Fields(text)
		if len(spacings) != len(axes) {
			return fmt.Errorf("%w: %d spacings for %d dimensions", volume.ErrFormat, len(spacings), len(axes))
		}
		for i, text := range spacings {
			s, err := parseNumber(text)
			if err != nil {
				return fmt.Errorf("spacings: %w", err)
			}
			if !math.IsNaN(s) && !math.IsInf(s, 0) {
				axes[i].spacing = s
			}
		}
	}
	if text, ok := h.fields["units"]; ok {
		for i, unit := range quoted(text) {
			if i < len(axes) {
				axes[i].unit = unit
			}
		}
	}
	return nil
}

func parseNumber(text string) (float64, error) {
	x, err := strconv.ParseFloat(strings.ToLower(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%w: %.40q is not a number", volume.ErrFormat, text)
	}
	return x, nil
}

// parseVectors reads "(1,0,0) none (0, 0, 1)". A vector of not-a-numbers is another way to write none.
func parseVectors(text string) ([][]float64, error) {
	var out [][]float64
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if len(text) >= 4 && strings.EqualFold(text[:4], "none") {
			out, text = append(out, nil), text[4:]
			continue
		}
		end := strings.IndexByte(text, ')')
		if text[0] != '(' || end < 0 {
			return nil, fmt.Errorf("%w: %.40q, want vectors such as (1,0,0)", volume.ErrFormat, text)
		}
		var v []float64
		undefined := true
		for _, part := range strings.Split(text[1:end], ",") {
			x, err := parseNumber(strings.TrimSpace(part))
			if err != nil {
				return nil, err
			}
			undefined = undefined && math.IsNaN(x)
			v = append(v, x)
		}
		if undefined {
			v = nil
		}
		out, text = append(out, v), text[end+1:]
	}
	return out, nil
}

// quoted reads "mm" "mm" "um".
func quoted(text string) []string {
	var out []string
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	return out
}
