package dicom

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"scrawl/adapters/volume"
)

// raw writes DICOM by hand, so that it can be wrong.
type raw struct{ bytes.Buffer }

func preamble(syntax string) *raw {
	r := &raw{}
	r.Write(make([]byte, 128))
	r.WriteString("DICM")
	r.element(0x00020010, "UI", syntax+strings.Repeat("\x00", len(syntax)%2))
	return r
}

func (r *raw) head(t Tag, vr string, length uint32) *raw {
	_ = binary.Write(r, binary.LittleEndian, []uint16{t.group(), t.element()})
	switch {
	case vr == "":
		_ = binary.Write(r, binary.LittleEndian, length)
	case hasLongLength(vr):
		r.WriteString(vr + "\x00\x00")
		_ = binary.Write(r, binary.LittleEndian, length)
	default:
		r.WriteString(vr)
		_ = binary.Write(r, binary.LittleEndian, uint16(length))
	}
	return r
}

func (r *raw) element(t Tag, vr, value string) *raw {
	if len(value)%2 == 1 {
		value += " "
	}
	r.head(t, vr, uint32(len(value)))
	r.WriteString(value)
	return r
}

func us(v uint16) string { return string(binary.LittleEndian.AppendUint16(nil, v)) }

// image is a small image without its pixels.
func image(syntax string, rows, columns uint16) *raw {
	r := preamble(syntax)
	r.element(SOPClassUID, "UI", "1.2.840.10008.5.1.4.1.1.2").element(SOPInstanceUID, "UI", "1.2.3").element(SeriesInstanceUID, "UI", "1.2")
	r.element(SamplesPerPixel, "US", us(1)).element(PhotometricInterpretation, "CS", "MONOCHROME2")
	r.element(Rows, "US", us(rows)).element(Columns, "US", us(columns))
	return r.element(BitsAllocated, "US", us(16)).element(BitsStored, "US", us(16)).element(HighBit, "US", us(15)).element(PixelRepresentation, "US", us(0))
}

func readBytes(b []byte) (*Image, error) {
	return ReadSeries(context.Background(), fstest.MapFS{"f": {Data: b}}, []string{"f"}, Limits{})
}

// TestHostileFiles holds that a file that lies is an error of the right class, and that memory stays near the file's size.
func TestHostileFiles(t *testing.T) {
	deep := preamble(ExplicitVRLittleEndian)
	for range 5000 {
		deep.head(ReferencedSeriesSequence, "SQ", undefined).head(item, "", undefined)
	}
	endless := preamble(ExplicitVRLittleEndian).head(ReferencedSeriesSequence, "SQ", undefined)
	for range 5000 {
		endless.head(item, "", 0)
	}
	inner := preamble(ExplicitVRLittleEndian).head(ReferencedSeriesSequence, "SQ", 16).head(item, "", 4000).element(Modality, "CS", "CT")
	frames := image(ExplicitVRLittleEndian, 512, 512)
	frames.element(NumberOfFrames, "IS", "2147483648").element(PixelData, "OW", "12345678")
	claimed := image(ExplicitVRLittleEndian, 512, 512)
	claimed.element(NumberOfFrames, "IS", "1000000").element(PixelData, "OW", "12345678")
	packed := image("1.2.840.10008.1.2.5", 65535, 65535)
	packed.element(NumberOfFrames, "IS", "900000").head(PixelData, "OB", undefined).head(item, "", 0).head(item, "", 4)
	packed.WriteString("abcd")
	packed.head(sequenceDelimitation, "", 0)
	fragment := image("1.2.840.10008.1.2.5", 4, 4)
	fragment.head(PixelData, "OB", undefined).head(item, "", 0).head(item, "", 0xfffffff0)
	table := image("1.2.840.10008.1.2.5", 4, 4)
	table.head(PixelData, "OB", undefined).head(item, "", 0xfffffff0)
	big := image(ExplicitVRLittleEndian, 65535, 65535).head(PixelData, "OW", 0xfffffffe)
	for name, test := range map[string]struct {
		file *raw
		err  error
		text string
	}{
		"a string of 3.75 GB":     {preamble(ExplicitVRLittleEndian).head(0x00081199, "UT", 0xf0000000), volume.ErrFormat, "claims 4026531840 bytes, 0 are left"},
		"bytes of 4 GB":           {preamble(ExplicitVRLittleEndian).head(0x00281201, "OW", 0xfffffffe), volume.ErrFormat, "claims"},
		"sequences without end":   {deep, volume.ErrTooLarge, "nested more than 32"},
		"items without end":       {endless, volume.ErrFormat, "ends at byte"},
		"an item beyond its list": {inner, volume.ErrFormat, "claims 4000 bytes"},
		"2^31 frames":             {frames, volume.ErrTooLarge, "2147483648 frames"},
		"frames that are missing": {claimed, volume.ErrFormat, "8 bytes of pixel data, want 524288000000"},
		"frames beyond fragments": {packed, volume.ErrFormat, "900000 frames in 1 fragments"},
		"a fragment of 4 GB":      {fragment, volume.ErrFormat, "claims 4294967280 bytes"},
		"a table of 4 GB":         {table, volume.ErrFormat, "claims 4294967280 bytes"},
		"pixels of 8 GB":          {big, volume.ErrFormat, "pixel data ends after 0"},
		"no rows":                 {image(ExplicitVRLittleEndian, 0, 4).element(PixelData, "OW", ""), volume.ErrFormat, "0 rows and 4 columns"},
		"7 bits":                  {image(ExplicitVRLittleEndian, 1, 1).element(0x00280104, "US", us(7)).element(PixelData, "OW", ""), volume.ErrFormat, "want 2 for 1 frames"},
		"a delimiter alone":       {preamble(ExplicitVRLittleEndian).head(item, "", 0), volume.ErrFormat, "(fffe,e000) at byte"},
		"nothing":                 {&raw{}, volume.ErrFormat, "too short"},
		"a text":                  {func() *raw { r := &raw{}; r.WriteString(strings.Repeat("This is no image. ", 30)); return r }(), volume.ErrFormat, "no DICOM"},
	} {
		t.Run(name, func(t *testing.T) {
			data := test.file.Bytes()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := readBytes(data)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want %v with %q", err, test.err, test.text)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes allocated for a file of %d", got, len(data))
			}
		})
	}
}

// TestManyElements reads as many elements as are accepted, in the worst order, and one more.
func TestManyElements(t *testing.T) {
	many := func(n int) *raw {
		r := preamble(ExplicitVRLittleEndian)
		for i := range n {
			r.head(Tag(0x3ffe-2*(i>>15))<<16|Tag(0xffff-i&0x7fff), "US", 0) // of even groups, falling
		}
		return r
	}
	for _, test := range []struct {
		elements int
		want     error
	}{{1 << 16, nil}, {1<<16 + 1, volume.ErrTooLarge}} {
		b := many(test.elements).Bytes()
		f, err := Read(bytes.NewReader(b), int64(len(b)), Limits{MaxElements: 1 << 16})
		if !errors.Is(err, test.want) || err == nil && len(f.Elements()) != test.elements {
			t.Errorf("%d elements: %v, want %v", test.elements, err, test.want)
		}
	}
}

func TestIsFile(t *testing.T) {
	for name, test := range map[string]struct {
		head string
		want bool
	}{
		"preamble":              {strings.Repeat("\x00", 128) + "DICM\x02\x00", true},
		"meta without preamble": {"\x02\x00\x00\x00UL\x04\x00", true},
		"implicit":              {"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", true},
		"implicit group length": {"\x08\x00\x00\x00\x04\x00\x00\x00\x20\x01\x00\x00", true},
		"explicit":              {"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", true},
		"explicit, big endian":  {"\x00\x08\x00\x05CS\x00\x0aISO_IR 100", true},
		"a raw mask":            {"\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false},
		"a raw mask of 8s":      {"\x08\x00\x08\x00\x08\x00\x08\x00\x08\x00", false},
		"NIfTI":                 {"\x5c\x01\x00\x00" + strings.Repeat("\x00", 200), false},
		"a text":                {"NRRD0004\n# a comment", false},
		"nothing":               {"", false},
	} {
		if got := IsFile([]byte(test.head)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestInflatedBound unpacks a file that is 1000 times as large inside.
func TestInflatedBound(t *testing.T) {
	data := deflated(t, bytes.Repeat([]byte{0}, 64<<20))
	_, err := Read(bytes.NewReader(data), int64(len(data)), Limits{Limits: volume.Limits{MaxBytes: 1 << 20}})
	if !errors.Is(err, volume.ErrTooLarge) {
		t.Errorf("error %v, want %v", err, volume.ErrTooLarge)
	}
}

// TestSeriesBound opens files that are each within the limits and together are not: by long headers, and by deflated pixels.
func TestSeriesBound(t *testing.T) {
	const files, room = 64, 8 << 20
	whole := func(syntax string, n int, header, pixels int) []byte {
		r := image(syntax, 2, 2)
		r.element(0x00282000, "OB", strings.Repeat("\x00", header)).element(PixelData, "OW", strings.Repeat("\x00", pixels))
		return bytes.Replace(r.Bytes(), []byte("1.2.3\x20"), fmt.Appendf(nil, "1.9.%02d", n), 1)
	}
	for name, write := range map[string]func(n int) []byte{
		"headers": func(n int) []byte { return whole(ExplicitVRLittleEndian, n, 512<<10, 8) },
		"deflated pixels": func(n int) []byte {
			return deflated(t, whole(ExplicitVRLittleEndian, n, 8, 512<<10)[preamble(ExplicitVRLittleEndian).Len():])
		},
	} {
		folder, names := fstest.MapFS{}, []string{}
		for n := range files {
			names = append(names, fmt.Sprint(n))
			folder[names[n]] = &fstest.MapFile{Data: write(n)}
		}
		_, err := OpenSeries(t.Context(), folder, names, Limits{MaxSeriesBytes: room})
		if !errors.Is(err, volume.ErrTooLarge) || !strings.Contains(err.Error(), "of a series take more than") {
			t.Errorf("%s: error %v, want %v", name, err, volume.ErrTooLarge)
		}
		s, err := OpenSeries(t.Context(), folder, names, Limits{MaxSeriesBytes: 2 * files * 512 << 10})
		if err != nil || len(s.Files) != files {
			t.Errorf("%s within the limit: %v", name, err)
		}
	}
}

// TestCharacterSets reads names in sets that parsers know, do not know or die of.
func TestCharacterSets(t *testing.T) {
	for _, test := range []struct{ set, name, want string }{
		{"ISO_IR 166", "\xa1\xd2", "กา"}, {"ISO_IR 100", "M\xfcller", "Müller"}, {"ISO_IR 192", "山田", "山田"}, {"", "M\xfcller", "Müller"},
		{"ISO_IR 144", "\xb8\xd2\xd0\xdd", "Иван"}, {"GB18030", "\xcd\xf5", "王"}, {`\ISO 2022 IR 87`, "Yamada^\x1b$B;3ED\x1b(B", "Yamada^山田"},
		{`\ISO 2022 IR 149`, "\x1b$)C\xb1\xe8", "김"}, {"PRIVATE 7", "plain", "plain"}, {"PRIVATE 7", "\xff\xfe", "ÿþ"}, {"ISO_IR 13", "\xd4", "ﾔ"},
		{"GB18030", "\x95\x5c", "昞"}, // a letter whose second byte is the separator of values
	} {
		r := preamble(ExplicitVRLittleEndian).element(SpecificCharacterSet, "CS", test.set).element(Modality, "CS", "CT").element(PatientName, "PN", test.name)
		f, err := Read(bytes.NewReader(r.Bytes()), int64(r.Len()), Limits{})
		if err != nil {
			t.Errorf("%q: %v", test.set, err)
			continue
		}
		if got := strings.TrimPrefix(f.Text(PatientName), "\x1b$)C"); got != test.want {
			t.Errorf("%q: name %q, want %q", test.set, got, test.want)
		}
	}
}

// TestUnreadRepresentations holds that elements of representations which the parser does not know do not shift what follows.
func TestUnreadRepresentations(t *testing.T) {
	r := preamble(ExplicitVRLittleEndian)
	r.element(0x00080009, "SV", "12345678").element(0x0008000a, "ZZ", "abcdef").element(SOPInstanceUID, "UI", "1.2.3")
	r.head(0x00091001, "UN", undefined).head(item, "", undefined).head(0x00091002, "", 4)
	r.WriteString("abcd")
	r.head(itemDelimitation, "", 0).head(sequenceDelimitation, "", 0)
	r.head(ReferencedSeriesSequence, "UN", 8+12).head(item, "", 12).head(SeriesInstanceUID, "", 4)
	r.WriteString("1.9\x00")
	r.element(0x00186020, "OF", "12345678").element(SeriesInstanceUID, "UI", "1.2.4")
	r.head(InstanceNumber, "", 2) // slips back into implicit VR
	r.WriteString("7 ")
	r.element(Rows, "US", us(9))
	f, err := Read(bytes.NewReader(r.Bytes()), int64(r.Len()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := f.Int(Rows)
	number, _ := f.Int(InstanceNumber)
	got := fmt.Sprint(f.Text(SOPInstanceUID), " ", f.Item(ReferencedSeriesSequence).Text(SeriesInstanceUID), " ", f.Text(SeriesInstanceUID), " ", number, " ", rows)
	if want := "1.2.3 1.9 1.2.4 7 9"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestBrokenFilesLeaveTheOthers cuts files of a series at every kind of place: the rest is read, and the loss is told.
func TestBrokenFilesLeaveTheOthers(t *testing.T) {
	folder := fstest.MapFS{"readme.txt": {Data: []byte("no image")}, ".hidden.dcm": {Data: []byte("DICM")}}
	whole := func(n int) []byte {
		r := image(ExplicitVRLittleEndian, 2, 2)
		b := bytes.Replace(r.Bytes(), []byte("1.2.3\x20"), fmt.Appendf(nil, "1.2.%d ", n), 1)
		r = &raw{}
		r.Write(b)
		r.element(0x00280004, "CS", "MONOCHROME2").element(PixelData, "OW", "abcdefgh")
		return r.Bytes()
	}
	for n := range 6 {
		folder[fmt.Sprint("image", n)] = &fstest.MapFile{Data: whole(n)}
	}
	for _, cut := range []int{140, 200, 260, 300} {
		folder[fmt.Sprint("cut", cut)] = &fstest.MapFile{Data: whole(9)[:cut]}
	}
	got, err := ReadFolder(t.Context(), folder, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != [3]int{2, 2, 6} {
		t.Errorf("size %v, want 6 slices", got.Size)
	}
	if len(got.Series.Skipped)+len(must(Scan(t.Context(), folder, Limits{})).Skipped) == 0 {
		t.Error("nothing is said of the broken files")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"CT_small.dcm", "MR_small_RLE.dcm", "rtstruct.dcm", "MR_small_bigendian.dcm", "liver_1frame.dcm"} {
		if dir := os.Getenv("SCRAWL_SHARED"); dir != "" {
			if b, err := os.ReadFile(filepath.Join(dir, "data", "robustness", "pydicom", name)); err == nil {
				f.Add(b)
			}
		}
	}
	small := image(ExplicitVRLittleEndian, 2, 2)
	small.element(PixelData, "OW", "abcdefgh")
	f.Add(small.Bytes())
	nested := preamble(ImplicitVRLittleEndian).head(ReferencedSeriesSequence, "", undefined).head(item, "", undefined)
	nested.head(itemDelimitation, "", 0).head(sequenceDelimitation, "", 0)
	f.Add(nested.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := Limits{Limits: volume.Limits{MaxVoxels: 1 << 20, MaxBytes: 1 << 22}, MaxHeaderBytes: 1 << 20, MaxElements: 1 << 14}
		image, err := ReadSeries(t.Context(), fstest.MapFS{"f": {Data: b}}, []string{"f"}, lim)
		if err == nil {
			if err := image.Validate(); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, volume.ErrFormat) && !errors.Is(err, volume.ErrTooLarge) && !errors.Is(err, volume.ErrUnsupported) {
			t.Fatalf("error of no class: %v", err)
		}
	})
}

func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	r := preamble(DeflatedLittleEndian)
	w, err := flate.NewWriter(r, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return r.Bytes()
}
