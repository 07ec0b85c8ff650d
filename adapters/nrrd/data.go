package nrrd

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

func (h *header) encoding() string {
	switch e := strings.ToLower(h.fields["encoding"]); e {
	case "gz":
		return "gzip"
	case "bz2":
		return "bzip2"
	case "txt", "text":
		return "ascii"
	default:
		return e
	}
}

func (h *header) isText() bool { return h.encoding() == "ascii" }

// data is the reader of binary samples behind skips, compression and text.
func (h *header) data(r io.Reader, l layout, lim volume.Limits) (io.Reader, error) {
	lines, err := h.number("line skip", 0)
	if err != nil {
		return nil, err
	}
	skip, err := h.number("byte skip", 0)
	if err != nil {
		return nil, err
	}
	if lines < 0 || skip < -1 || skip > lim.MaxBytes {
		return nil, fmt.Errorf("%w: line skip %d, byte skip %d", volume.ErrFormat, lines, skip)
	}
	if lines > 0 {
		if r, err = skipLines(r, lines, lim.MaxBytes); err != nil {
			return nil, err
		}
	}
	encoding := h.encoding()
	switch encoding {
	case "raw", "ascii", "hex":
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, sample.Broken(err)
		}
		r = z
	case "bzip2":
		r = bunzip{bzip2.NewReader(r)}
	case "":
		return nil, fmt.Errorf("%w: field \"encoding\" is missing", volume.ErrFormat)
	default:
		return nil, fmt.Errorf("%w: encoding %.40q, want raw, gzip, bzip2, ascii or hex", volume.ErrUnsupported, encoding)
	}
	if skip == -1 {
		if encoding != "raw" {
			return nil, fmt.Errorf("%w: byte skip -1 with encoding %s, want raw", volume.ErrFormat, encoding)
		}
		return lastBytes(r, int64(l.geometry.Voxels())*int64(l.components)*int64(l.format.Type.Bytes()), lim.MaxBytes)
	}
	if _, err := io.CopyN(io.Discard, r, skip); err != nil {
		return nil, fmt.Errorf("skipping %d bytes: %w", skip, sample.Broken(err))
	}
	switch encoding {
	case "ascii":
		return newTextReader(r, l.format.Type), nil
	case "hex":
		return hexDigits{hex.NewDecoder(unspaced{r})}, nil
	}
	return r, nil
}

func skipLines(r io.Reader, lines, most int64) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	for read := int64(0); lines > 0; {
		part, err := b.ReadSlice('\n')
		if read += int64(len(part)); read > most {
			return nil, fmt.Errorf("%w: skipped %d bytes of lines", volume.ErrTooLarge, read)
		}
		switch {
		case err == nil:
			lines--
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%d lines left to skip: %w", lines, sample.Broken(err))
		}
	}
	return b, nil
}

// lastBytes keeps the last n bytes of a stream of up to most bytes: byte skip -1 puts the data at the end, whatever precedes it.
func lastBytes(r io.Reader, n, most int64) (io.Reader, error) {
	ring := make([]byte, 0, min(n, 1<<20))
	at, total := int64(0), int64(0)
	buf := make([]byte, 64<<10)
	for {
		got, err := r.Read(buf)
		if total += int64(got); total > most {
			return nil, fmt.Errorf("%w: more than %d bytes to look for the last %d in", volume.ErrTooLarge, most, n)
		}
		for b := buf[:got]; len(b) > 0; {
			if room := n - int64(len(ring)); room > 0 {
				k := min(room, int64(len(b)))
				ring, b = append(ring, b[:k]...), b[k:]
				continue
			}
			k := copy(ring[at:], b)
			at, b = (at+int64(k))%n, b[k:]
		}
		if errors.Is(err, io.EOF) {
			return io.MultiReader(bytes.NewReader(ring[at:]), bytes.NewReader(ring[:at])), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// bunzip marks damage, for which compress/bzip2 has a type.
type bunzip struct{ r io.Reader }

func (b bunzip) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	var damaged bzip2.StructuralError
	if errors.As(err, &damaged) {
		err = fmt.Errorf("%w: %w", volume.ErrFormat, err)
	}
	return n, err
}

// hexDigits marks what is not hexadecimal.
type hexDigits struct{ r io.Reader }

func (h hexDigits) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	var odd hex.InvalidByteError
	if errors.As(err, &odd) {
		err = fmt.Errorf("%w: hexadecimal data: %w", volume.ErrFormat, err)
	}
	return n, err
}

// unspaced drops white space.
type unspaced struct{ r io.Reader }

func (u unspaced) Read(p []byte) (int, error) {
	for {
		n, err := u.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil || len(p) == 0 {
			return kept, err
		}
	}
}

// textReader turns numbers written as text into little-endian binary of a type.
type textReader struct {
	words   *bufio.Scanner
	t       volume.DType
	out     [8]byte
	pending []byte
}

func newTextReader(r io.Reader, t volume.DType) *textReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), 4096) // no number is longer, so no reader without white space fills memory
	s.Split(bufio.ScanWords)
	return &textReader{words: s, t: t}
}

// Read implements io.Reader.
func (t *textReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(t.pending) == 0 {
			if !t.words.Scan() {
				err := t.words.Err()
				switch {
				case errors.Is(err, bufio.ErrTooLong):
					err = fmt.Errorf("%w: text data with a word of more than 4096 bytes", volume.ErrFormat)
				case err == nil:
					err = io.EOF
				}
				return n, err
			}
			if err := t.convert(t.words.Text()); err != nil {
				return n, err
			}
		}
		c := copy(p[n:], t.pending)
		t.pending, n = t.pending[c:], n+c
	}
	return n, nil
}

func (t *textReader) convert(word string) error {
	bits := 8 * t.t.Bytes()
	var u uint64
	var err error
	switch {
	case t.t.IsFloat():
		var x float64
		x, err = strconv.ParseFloat(strings.ToLower(word), bits)
		if bits == 32 {
			u = uint64(math.Float32bits(float32(x)))
		} else {
			u = math.Float64bits(x)
		}
	case t.t[0] == 'u':
		u, err = strconv.ParseUint(word, 10, bits)
	default:
		var i int64
		i, err = strconv.ParseInt(word, 10, bits)
		u = uint64(i)
	}
	if err != nil {
		return fmt.Errorf("%w: text data: %.40q is not a number of type %s", volume.ErrFormat, word, t.t)
	}
	binary.LittleEndian.PutUint64(t.out[:], u)
	t.pending = t.out[:bits/8]
	return nil
}
