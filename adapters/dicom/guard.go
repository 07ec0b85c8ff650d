package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"scrawl/adapters/volume"
)

const undefined = math.MaxUint32

// guard walks the elements of a file and writes what is safe and wanted as a canonical stream. See the package comment.
type guard struct {
	*cursor
	out      bytes.Buffer
	lim      Limits
	order    binary.ByteOrder
	charset  charset
	elements int
	muted    int // how many of the enclosing elements are left out
	pixels   pixelData
	last     Tag // where to stop at the top level; 0 for the pixels
	ids      map[Tag]string
}

// pixelData says where the pixels of a file lie.
type pixelData struct {
	tag         Tag
	offset      int64 // of the value, from the start of the data set's bytes
	length      int64 // of native pixels
	wordSwapped bool  // 8-bit samples in big-endian words
	fragments   []fragment
	basic       []int64 // basic offset table: where frames begin, from the first fragment's item
	extended    []int64 // extended offset table, likewise
	sizes       []int64 // its lengths
	truncated   string  // why not all of them are there, "" if they are
}

// fragment is an item of encapsulated pixels: at is where its tag stands, from the first fragment's tag.
type fragment struct{ at, offset, length int64 }

func (p *pixelData) encapsulated() bool { return p.fragments != nil }

// encodingOf is a file's byte order and whether value representations are left out.
type encodingOf struct {
	implicit bool
	order    binary.ByteOrder
}

// walked is what the guard has made of a file.
type walked struct {
	syntax string
	// data is what the pixels' offsets refer to: the file, or its inflated data set.
	data      io.ReaderAt
	size      int64
	order     binary.ByteOrder
	canonical []byte
	pixels    pixelData
	ids       map[Tag]string // what the file meta information says of SOP class and instance
}

// walk checks a file up to the tag last, or its pixels if that is 0.
func walk(r io.ReaderAt, size int64, lim Limits, last Tag) (*walked, error) {
	lim = lim.orDefault()
	if size > lim.MaxBytes {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d are accepted", volume.ErrTooLarge, size, lim.MaxBytes)
	}
	g := &guard{cursor: &cursor{r: r, size: size}, lim: lim, last: last, ids: map[Tag]string{}}
	syntax, err := g.meta()
	if err != nil {
		return nil, err
	}
	if syntax == DeflatedLittleEndian {
		if err := g.inflate(); err != nil {
			return nil, err
		}
	}
	enc, err := g.encoding(syntax)
	if err != nil {
		return nil, err
	}
	g.order = enc.order
	g.out.Write(canonicalHead())
	if err := g.dataset(g.size, 0, enc.implicit); err != nil && !errors.Is(err, errPixels) {
		return nil, err
	}
	return &walked{syntax: syntax, data: g.r, size: g.size, order: g.order, canonical: g.out.Bytes(), pixels: g.pixels, ids: g.ids}, nil
}

// meta reads the preamble and the file meta information, if there are any, and returns the transfer syntax, or "".
func (g *guard) meta() (syntax string, err error) {
	if head, err := g.peek(132); err == nil && string(head[128:]) == "DICM" {
		g.pos = 132
	} else if head, err := g.peek(4); err == nil && string(head) == "DICM" {
		g.pos = 4
	}
	g.order = binary.LittleEndian
	for {
		head, err := g.peek(8)
		if err != nil || g.order.Uint16(head) != 2 {
			return syntax, nil
		}
		h, err := g.header(false)
		if err != nil {
			return "", fmt.Errorf("file meta information: %w", err)
		}
		if err := g.fits(h, g.size); err != nil {
			return "", fmt.Errorf("file meta information: %w", err)
		}
		if h.length > 64 || h.tag != TransferSyntaxUID && h.tag != MediaStorageSOPClassUID && h.tag != MediaStorageSOPInstanceUID {
			g.pos += int64(h.length)
			continue
		}
		b, err := g.next(int(h.length))
		if err != nil {
			return "", err
		}
		text := strings.ToValidUTF8(string(bytes.Trim(b, " \x00")), "")
		if h.tag == TransferSyntaxUID {
			syntax = text
			continue
		}
		g.ids[h.tag] = text
	}
}

// inflate unpacks a deflated data set, which then is what is read.
func (g *guard) inflate() error {
	packed := io.NewSectionReader(g.r, g.pos, g.size-g.pos)
	limit := min(g.lim.MaxBytes, maxInflated)
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(packed), limit+1))
	if int64(len(data)) > limit {
		return fmt.Errorf("%w: the deflated data set has more than %d bytes", volume.ErrTooLarge, limit)
	}
	if err != nil && len(data) == 0 {
		return fmt.Errorf("%w: deflated data set: %w", volume.ErrFormat, err)
	}
	g.cursor = &cursor{r: bytes.NewReader(data), size: int64(len(data))} // one cut short shows when its elements are read
	return nil
}

// encoding tells from the transfer syntax, or from the first element where there is none, how elements are written.
func (g *guard) encoding(syntax string) (encodingOf, error) {
	switch syntax {
	case ImplicitVRLittleEndian:
		return encodingOf{true, binary.LittleEndian}, nil
	case ExplicitVRBigEndian:
		return encodingOf{false, binary.BigEndian}, nil
	case "":
	default: // all others are explicit and little endian
		return encodingOf{false, binary.LittleEndian}, nil
	}
	head, err := g.peek(8)
	if err != nil {
		return encodingOf{}, fmt.Errorf("%w: no DICOM: too short for one element", volume.ErrFormat)
	}
	enc := encodingOf{implicit: !isKnownVR(string(head[4:6])), order: binary.LittleEndian}
	if !enc.implicit && head[0] == 0 && head[1] != 0 {
		enc.order = binary.BigEndian
	}
	// Without a preamble nothing but the first element tells DICOM from any other file.
	first := Tag(enc.order.Uint16(head))<<16 | Tag(enc.order.Uint16(head[2:]))
	length := int64(enc.order.Uint32(head[4:]))
	plausible := !enc.implicit || vrOf(first) != "UN" && length%2 == 0 && length < 1<<10 && (first.element() != 0 || length == 4)
	if first.group() != 8 || !plausible {
		return encodingOf{}, fmt.Errorf("%w: no DICOM: neither preamble nor a first element of group 0008", volume.ErrFormat)
	}
	return enc, nil
}

// header is the head of an element.
type header struct {
	tag    Tag
	vr     string
	length uint32
}

func (g *guard) header(implicit bool) (header, error) {
	at := g.pos
	b, err := g.next(8)
	if err != nil {
		return header{}, err
	}
	h := header{tag: Tag(g.order.Uint16(b))<<16 | Tag(g.order.Uint16(b[2:]))}
	if h.tag.group() == 0xfffe {
		h.length = g.order.Uint32(b[4:])
		return h, nil
	}
	vr := string(b[4:6])
	if implicit || !isLetters(vr) { // some writers slip back into implicit VR
		h.vr, h.length = vrOf(h.tag), g.order.Uint32(b[4:])
		return h, nil
	}
	h.vr = vr
	if !hasLongLength(vr) && isKnownVR(vr) {
		h.length = uint32(g.order.Uint16(b[6:]))
		return h, nil
	}
	reserved := g.order.Uint16(b[6:])
	if !isKnownVR(vr) {
		// A representation of a future standard has a long length; one that is merely wrong may not.
		h.vr = "UN"
		if reserved != 0 {
			h.vr, h.length = vrOf(h.tag), uint32(reserved)
			return h, nil
		}
	}
	b, err = g.next(4)
	if err != nil {
		return header{}, fmt.Errorf("element %v at byte %d: %w", h.tag, at, err)
	}
	h.length = g.order.Uint32(b)
	return h, nil
}

func isLetters(vr string) bool {
	return 'A' <= vr[0] && vr[0] <= 'Z' && 'A' <= vr[1] && vr[1] <= 'Z'
}

// fits checks that a value lies within what is around it, which ends at end.
func (g *guard) fits(h header, end int64) error {
	if int64(h.length) > end-g.pos {
		return fmt.Errorf("%w: element %v claims %d bytes, %d are left", volume.ErrFormat, h.tag, h.length, max(0, end-g.pos))
	}
	return nil
}

// errPixels ends the walk where the elements that matter end.
var errPixels = errors.New("end of the elements before the pixels")

// dataset walks the elements of a data set or item that ends at end, or with a delimiter if that is -1.
func (g *guard) dataset(end int64, depth int, implicit bool) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: sequences nested more than %d deep", volume.ErrTooLarge, maxDepth)
	}
	for end < 0 || g.pos < end {
		if depth == 0 && g.size-g.pos < 8 {
			return nil // padding of some media
		}
		at := g.pos
		h, err := g.header(implicit)
		if err != nil {
			return err
		}
		if h.tag == itemDelimitation || h.tag == dataSetTrailingPadding {
			if end < 0 || depth == 0 {
				return nil
			}
			continue
		}
		if h.tag.group() == 0xfffe {
			return fmt.Errorf("%w: %v at byte %d, where an element is due", volume.ErrFormat, h.tag, at)
		}
		if g.elements++; g.elements > g.lim.MaxElements {
			return fmt.Errorf("%w: more than %d elements", volume.ErrTooLarge, g.lim.MaxElements)
		}
		if depth == 0 && (g.last != 0 && h.tag > g.last) {
			return errPixels
		}
		if err := g.element(h, g.end(end), depth, implicit); err != nil {
			if errors.Is(err, errPixels) {
				return err
			}
			return fmt.Errorf("element %v at byte %d: %w", h.tag, at, err)
		}
	}
	return nil
}

func (g *guard) end(end int64) int64 {
	if end < 0 {
		return g.size
	}
	return end
}

func (g *guard) element(h header, end int64, depth int, implicit bool) error {
	switch {
	case h.tag == PixelData || h.tag == FloatPixelData || h.tag == DoubleFloatPixelData:
		if depth == 0 {
			if err := g.locatePixels(h); err != nil {
				return err
			}
			return errPixels
		}
		return g.skip(h, end) // an icon's
	case depth == 0 && (h.tag == extendedOffsetTable || h.tag == extendedOffsetTableLengths):
		return g.offsets(h, end)
	}
	sequence := h.vr == "SQ" || h.length == undefined
	if h.vr == "UN" && h.length != undefined && vrOf(h.tag) != "UN" {
		// Kept by an archive that did not know the element: written as implicit VR little endian inside (PS3.5, section 6.2.2).
		h.vr = vrOf(h.tag)
		sequence = h.vr == "SQ"
		implicit = true
	} else if h.vr == "UN" && h.length == undefined {
		implicit = true
	}
	if sequence {
		return g.sequence(h, end, depth, implicit)
	}
	if err := g.fits(h, end); err != nil {
		return err
	}
	return g.plain(h)
}

// wanted tells the elements that are handed on: those of the standard but for overlays, curves and group lengths.
func wanted(t Tag) bool {
	group := t.group()
	return group%2 == 0 && group != 0 && group&0xff00 != 0x6000 && group&0xff00 != 0x5000 && t.element() != 0
}

// plain hands an element that is no sequence on.
func (g *guard) plain(h header) error {
	if !wanted(h.tag) || !isPassed(h.vr) || h.length > maxValue || g.muted > 0 {
		g.pos += int64(h.length)
		return nil
	}
	b, err := g.value(int(h.length))
	if err != nil {
		return err
	}
	if h.tag == SpecificCharacterSet {
		g.charset = newCharset(string(b))
		b = []byte("ISO_IR 192")
	}
	switch {
	case isText(h.vr):
		b = g.utf8(h.vr, b)
	case width(h.vr) > 0:
		b = b[:len(b)-len(b)%width(h.vr)]
		if g.order == binary.BigEndian {
			reverse(b, width(h.vr))
		}
	case len(b)%2 == 1:
		b = append(b, 0)
	}
	if !hasLongLength(h.vr) && len(b) >= math.MaxUint16 {
		if !isText(h.vr) {
			return nil
		}
		h.vr = "UT" // implicit VR has room for longer texts, such as the points of a contour
	}
	g.emit(h.tag, h.vr, uint32(len(b)))
	g.out.Write(b)
	return g.bounded()
}

func (g *guard) utf8(vr string, b []byte) []byte {
	c := g.charset
	if !charsetText(vr) {
		c = charset{}
	}
	b = []byte(c.text(b))
	if len(b)%2 == 1 {
		b = append(b, ' ')
	}
	return b
}

func (g *guard) bounded() error {
	if int64(g.out.Len()) > g.lim.MaxHeaderBytes {
		return fmt.Errorf("%w: elements beside the pixels have more than %d bytes", volume.ErrTooLarge, g.lim.MaxHeaderBytes)
	}
	return nil
}

// emit writes the head of an element in explicit VR little endian.
func (g *guard) emit(t Tag, vr string, length uint32) {
	if g.muted > 0 {
		return
	}
	var b [12]byte
	binary.LittleEndian.PutUint16(b[0:], t.group())
	binary.LittleEndian.PutUint16(b[2:], t.element())
	switch {
	case t.group() == 0xfffe:
		binary.LittleEndian.PutUint32(b[4:], length)
		g.out.Write(b[:8])
	case hasLongLength(vr):
		copy(b[4:], vr)
		binary.LittleEndian.PutUint32(b[8:], length)
		g.out.Write(b[:12])
	default:
		copy(b[4:], vr)
		binary.LittleEndian.PutUint16(b[6:], uint16(length))
		g.out.Write(b[:8])
	}
}

// sequence walks the items of a sequence, or of an element of unknown representation and undefined length, which is one. All
// lengths become undefined, since elements may be left out inside.
func (g *guard) sequence(h header, end int64, depth int, implicit bool) error {
	if h.vr != "SQ" && vrOf(h.tag) != "SQ" || !wanted(h.tag) {
		g.muted++
		defer func() { g.muted-- }()
	}
	g.emit(h.tag, "SQ", undefined)
	stop := int64(-1)
	if h.length != undefined {
		if err := g.fits(h, end); err != nil {
			return err
		}
		stop = g.pos + int64(h.length)
	}
	if h.vr == "UN" {
		defer func(order binary.ByteOrder) { g.order = order }(g.order)
		g.order = binary.LittleEndian
	}
	for stop < 0 || g.pos < stop {
		it, err := g.header(implicit)
		if err != nil {
			return err
		}
		if it.tag == sequenceDelimitation {
			break
		}
		if it.tag != item {
			return fmt.Errorf("%w: %v in a sequence, where an item is due", volume.ErrFormat, it.tag)
		}
		if g.elements++; g.elements > g.lim.MaxElements {
			return fmt.Errorf("%w: more than %d elements", volume.ErrTooLarge, g.lim.MaxElements)
		}
		itemEnd := int64(-1)
		if it.length != undefined {
			if err := g.fits(it, g.end(stop)); err != nil {
				return err
			}
			itemEnd = g.pos + int64(it.length)
		}
		g.emit(item, "", undefined)
		if err := g.dataset(itemEnd, depth+1, implicit); err != nil {
			return err
		}
		g.emit(itemDelimitation, "", 0)
	}
	g.emit(sequenceDelimitation, "", 0)
	return g.bounded()
}

// skip goes over an element whatever it is.
func (g *guard) skip(h header, end int64) error {
	if h.length != undefined {
		if err := g.fits(h, end); err != nil {
			return err
		}
		g.pos += int64(h.length)
		return nil
	}
	for range maxFragments { // the items of encapsulated pixels hold bytes, not elements
		it, err := g.header(true)
		if err != nil {
			return err
		}
		if it.tag == sequenceDelimitation {
			return nil
		}
		if it.tag != item {
			return fmt.Errorf("%w: %v among fragments", volume.ErrFormat, it.tag)
		}
		if err := g.fits(it, end); err != nil {
			return err
		}
		g.pos += int64(it.length)
	}
	return fmt.Errorf("%w: more than %d fragments", volume.ErrTooLarge, maxFragments)
}

// offsets reads a table of the extended offsets: 64-bit numbers.
func (g *guard) offsets(h header, end int64) error {
	if err := g.fits(h, end); err != nil {
		return err
	}
	if h.length > 8*maxFrames {
		return fmt.Errorf("%w: a table of more than %d frames", volume.ErrTooLarge, maxFrames)
	}
	b, err := g.value(int(h.length))
	if err != nil {
		return err
	}
	table := make([]int64, 0, len(b)/8)
	for ; len(b) >= 8; b = b[8:] {
		table = append(table, int64(g.order.Uint64(b)))
	}
	if h.tag == extendedOffsetTable {
		g.pixels.extended = table
	} else {
		g.pixels.sizes = table
	}
	return nil
}

// locatePixels finds where the pixels lie. Pixels cut short are no error here: the header can still be read.
func (g *guard) locatePixels(h header) error {
	p := &g.pixels
	p.tag, p.offset = h.tag, g.pos
	if h.length != undefined {
		p.wordSwapped = g.order == binary.BigEndian && h.vr == "OW"
		p.length = int64(h.length)
		if have := g.size - g.pos; p.length > have {
			p.truncated = fmt.Sprintf("pixel data ends after %d of %d bytes", have, p.length)
			p.length = have
		}
		return nil
	}
	p.fragments = []fragment{}
	first := int64(-1)
	for n := 0; ; n++ {
		at := g.pos
		it, err := g.header(true)
		switch {
		case err != nil && !errors.Is(err, volume.ErrFormat):
			return err
		case err != nil || it.tag != item && it.tag != sequenceDelimitation:
			p.truncated = fmt.Sprintf("pixel data breaks off after %d fragments", len(p.fragments))
			return nil
		case it.tag == sequenceDelimitation:
			return nil
		case int64(it.length) > g.size-g.pos:
			p.truncated = fmt.Sprintf("fragment %d of the pixel data claims %d bytes, %d are left", len(p.fragments), it.length, g.size-g.pos)
			return nil
		}
		if n == 0 {
			if err := g.basicOffsets(int(it.length)); err != nil {
				return err
			}
			continue
		}
		if first < 0 {
			first = at
		}
		if len(p.fragments) == maxFragments {
			return fmt.Errorf("%w: more than %d fragments", volume.ErrTooLarge, maxFragments)
		}
		p.fragments = append(p.fragments, fragment{at - first, g.pos, int64(it.length)})
		g.pos += int64(it.length)
	}
}

func (g *guard) basicOffsets(length int) error {
	if length > 4*maxFrames {
		return fmt.Errorf("%w: a table of more than %d frames", volume.ErrTooLarge, maxFrames)
	}
	b, err := g.value(length)
	if err != nil {
		return err
	}
	for ; len(b) >= 4; b = b[4:] {
		g.pixels.basic = append(g.pixels.basic, int64(g.order.Uint32(b)))
	}
	return nil
}

// reverse turns the bytes of every number of n bytes around.
func reverse(b []byte, n int) {
	for ; len(b) >= n; b = b[n:] {
		for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}
