package codec_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"scrawl/adapters/dicom/codec"
)

// sharedData is a folder of real images, beside the repository or where SCRAWL_SHARED says.
func sharedData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SCRAWL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared")
	}
	dir = filepath.Join(dir, "data")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatalf("no real images: %v", err)
		}
		t.Skipf("SKIPPED, no real images at %s: run SCRAWL_SHARED=/folder/with/data go test ./adapters/dicom/codec", dir)
	}
	return dir
}

// A part10 is the little of a DICOM file that these tests need: explicit little endian elements at the top level.
type part10 struct {
	syntax string
	codec.Frame
	frames [][]byte
}

func readPart10(t testing.TB, name string) part10 {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePart10(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

func parsePart10(data []byte) (part10, error) {
	var p part10
	p.Samples = 1
	frames := 1
	le := binary.LittleEndian
	for at := 132; at+12 <= len(data); {
		tag := uint32(le.Uint16(data[at:]))<<16 | uint32(le.Uint16(data[at+2:]))
		vr := string(data[at+4 : at+6])
		length, head := int(le.Uint16(data[at+6:])), 8
		switch vr {
		case "OB", "OW", "OF", "SQ", "UT", "UN", "UC", "UR":
			length, head = int(le.Uint32(data[at+8:])), 12
		}
		at += head
		if tag == 0x7fe00010 {
			p.frames = splitFrames(data[at:], length, frames)
			return p, nil
		}
		if length == 0xffffffff {
			end, err := skipSequence(data, at)
			if err != nil {
				return p, err
			}
			at = end
			continue
		}
		value := data[at : at+length]
		at += length
		switch tag {
		case 0x00020010:
			p.syntax = strings.TrimRight(string(value), "\x00 ")
		case 0x00280002:
			p.Samples = int(le.Uint16(value))
		case 0x00280008:
			frames, _ = strconv.Atoi(strings.TrimSpace(string(value)))
		case 0x00280010:
			p.Rows = int(le.Uint16(value))
		case 0x00280011:
			p.Columns = int(le.Uint16(value))
		case 0x00280100:
			p.BitsAllocated = int(le.Uint16(value))
		case 0x00280101:
			p.BitsStored = int(le.Uint16(value))
		case 0x00280103:
			p.Signed = le.Uint16(value) == 1
		}
	}
	return p, fmt.Errorf("no pixel data")
}

// skipSequence finds the end of a sequence of undefined length: its delimiter at depth 0, counting those of the same form inside.
func skipSequence(data []byte, at int) (int, error) {
	depth := 1
	for ; at+8 <= len(data); at++ {
		switch string(data[at : at+4]) {
		case "\xfe\xff\xdd\xe0":
			if depth--; depth == 0 {
				return at + 8, nil
			}
		default:
			if string(data[at+4:at+6]) == "SQ" && at+12 <= len(data) && string(data[at+6:at+12]) == "\x00\x00\xff\xff\xff\xff" {
				depth++
			}
		}
	}
	return 0, fmt.Errorf("sequence without an end")
}

// splitFrames cuts native pixel data into frames, and joins the fragments of a single encapsulated frame; several encapsulated
// frames must have one fragment each.
func splitFrames(data []byte, length, n int) [][]byte {
	if length != 0xffffffff {
		size := length / n
		var frames [][]byte
		for i := range n {
			frames = append(frames, data[i*size:(i+1)*size])
		}
		return frames
	}
	var items [][]byte
	for len(data) >= 8 && string(data[:4]) == "\xfe\xff\x00\xe0" {
		size := int(binary.LittleEndian.Uint32(data[4:]))
		items = append(items, data[8:8+size])
		data = data[8+size:]
	}
	items = items[1:]
	if n == 1 {
		var frame []byte
		for _, item := range items {
			frame = append(frame, item...)
		}
		return [][]byte{frame}
	}
	return items
}

// nativeSamples reads an uncompressed little endian frame as stored values.
func nativeSamples(raw []byte, f codec.Frame) []int32 {
	size := f.BitsAllocated / 8
	shift := 32 - f.BitsStored
	out := make([]int32, len(raw)/size)
	for i := range out {
		var b [4]byte
		copy(b[:], raw[i*size:][:size])
		v := binary.LittleEndian.Uint32(b[:])
		if f.Signed {
			out[i] = int32(v<<shift) >> shift
		} else {
			out[i] = int32(v)
		}
	}
	return out
}

// TestReferences decodes the committee's images and compares them with the uncompressed ones.
func TestReferences(t *testing.T) {
	dir := filepath.Join(sharedData(t), "dicom")
	for _, c := range []struct {
		file, reference string
		tolerance       int32
	}{
		{"codecs_wg04/CT1/CT1_RLE.dcm", "codecs_wg04/CT1/CT1_UNC.dcm", 0},
		{"codecs_wg04/MR1/MR1_RLE.dcm", "codecs_wg04/MR1/MR1_UNC.dcm", 0},
		{"codecs_wg04/US1/US1_RLE.dcm", "codecs_wg04/US1/US1_UNC.dcm", 0},
		{"codecs_wg04/CT1/CT1_JPLL.dcm", "codecs_wg04/CT1/CT1_UNC.dcm", 0},
		{"codecs_wg04/MR1/MR1_JPLL.dcm", "codecs_wg04/MR1/MR1_UNC.dcm", 0},
		{"codecs_wg04/CT1/CT1_JLSL.dcm", "codecs_wg04/CT1/CT1_UNC.dcm", 0},
		{"codecs_wg04/MR1/MR1_JLSL.dcm", "codecs_wg04/MR1/MR1_UNC.dcm", 0},
		{"codecs_wg04/CT1/CT1_JLSN.dcm", "codecs_wg04/CT1/CT1_UNC.dcm", 4},
		{"codecs_wg04/MR1/MR1_JLSN.dcm", "codecs_wg04/MR1/MR1_UNC.dcm", 4},
		{"codecs_wg04/CT1/CT1_J2KR.dcm", "codecs_wg04/CT1/CT1_UNC.dcm", 0},
		{"codecs_wg04/MR1/MR1_J2KR.dcm", "codecs_wg04/MR1/MR1_UNC.dcm", 0},
		{"codecs_wg04/US1/US1_J2KR.dcm", "codecs_wg04/US1/US1_UNC.dcm", 0},
		{"../robustness/pydicom/MR_small_jp2klossless.dcm", "../robustness/pydicom/MR_small.dcm", 0},
		{"multiframe_and_misc/emri_small_RLE.dcm", "multiframe_and_misc/emri_small.dcm", 0},
		{"../robustness/pydicom/MR_small_RLE.dcm", "../robustness/pydicom/MR_small.dcm", 0},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			p, reference := readPart10(t, filepath.Join(dir, c.file)), readPart10(t, filepath.Join(dir, c.reference))
			if len(p.frames) != len(reference.frames) {
				t.Fatalf("%d frames, want %d", len(p.frames), len(reference.frames))
			}
			for i, data := range p.frames {
				img, err := codec.Decode(p.syntax, data, p.Frame)
				if err != nil {
					t.Fatal(err)
				}
				within(t, img.Samples, nativeSamples(reference.frames[i], reference.Frame), c.tolerance)
			}
		})
	}
}

// TestReferenceDecoders compares images without an uncompressed twin with what other decoders make of them:
// testdata/references.json, by make_references.py.
func TestReferenceDecoders(t *testing.T) {
	dir := sharedData(t)
	raw, err := os.ReadFile("testdata/references.json")
	if err != nil {
		t.Fatal(err)
	}
	var references []struct {
		File, SHA256 string
		Stride       int
		Samples      []int32
		Tolerance    int32
	}
	if err := json.Unmarshal(raw, &references); err != nil {
		t.Fatal(err)
	}
	for _, want := range references {
		t.Run(filepath.Base(want.File), func(t *testing.T) {
			p := readPart10(t, filepath.Join(dir, filepath.FromSlash(want.File)))
			img, err := codec.Decode(p.syntax, p.frames[0], p.Frame)
			if err != nil {
				t.Fatal(err)
			}
			if want.Stride == 0 {
				h := sha256.New()
				if err := binary.Write(h, binary.LittleEndian, img.Samples); err != nil {
					t.Fatal(err)
				}
				if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
					t.Errorf("SHA-256 %s, want %s", got, want.SHA256)
				}
				return
			}
			var some []int32
			for i := 0; i < len(img.Samples); i += want.Stride {
				some = append(some, img.Samples[i])
			}
			within(t, some, want.Samples, want.Tolerance)
		})
	}
}

// within compares samples, each of which may differ by at most tolerance.
func within(t *testing.T, got, want []int32, tolerance int32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
	differing, worst, first := 0, int32(0), -1
	for i := range got {
		d := max(got[i]-want[i], want[i]-got[i])
		worst = max(worst, d)
		if d > tolerance {
			if first < 0 {
				first = i
			}
			differing++
		}
	}
	if differing > 0 {
		t.Fatalf("%d of %d samples differ by more than %d, at most by %d; sample %d is %d, want %d",
			differing, len(got), tolerance, worst, first, got[first], want[first])
	}
}
