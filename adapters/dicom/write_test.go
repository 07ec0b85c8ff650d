package dicom_test

import (
	"bytes"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/dicom"
)

func TestDecimalString(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", math.Copysign(0, -1): "0", 1: "1", -0.5: "-0.5", 1.0 / 3: "0.33333333333333", -1.0 / 3: "-0.3333333333333", 1e300: "1e+300",
		-249.51171875: "-249.51171875", math.NaN(): "0", 0.00001234567890123: "1.234567890e-05", -1.23456789012345678e-200: "-1.23456789e-200",
	} {
		got := dicom.DecimalString(v)
		a, errA := strconv.ParseFloat(got, 64)
		b, errB := strconv.ParseFloat(want, 64)
		if errA != nil || errB != nil || len(got) > 16 || math.Abs(a-b) > 1e-9*math.Abs(b) {
			t.Errorf("%v is written %q, want about %q", v, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(-1e300, 1e300).Draw(t, "v")
		text := dicom.DecimalString(v)
		back, err := strconv.ParseFloat(text, 64)
		if len(text) > 16 || err != nil || math.Abs(back-v) > 1e-8*math.Abs(v) {
			t.Fatalf("%v is written %q and read as %v, %v", v, text, back, err)
		}
	})
}

// dataset draws elements of every kind that Write has.
func dataset(t *rapid.T, depth int) *dicom.Dataset {
	d := &dicom.Dataset{}
	text := rapid.StringMatching(`[ -\[\]-~äßéЖ山田]{0,20}[!-\[\]-~Ж山]`)
	if rapid.Bool().Draw(t, "text") {
		d.Set(dicom.SeriesDescription, text.Draw(t, "description"))
		d.Set(dicom.ImageType, "ORIGINAL", "PRIMARY")
	}
	d.SetInts(dicom.Rows, rapid.IntRange(0, 65535).Draw(t, "rows"))
	d.SetInts(dicom.InstanceNumber, rapid.IntRange(-1<<31, 1<<31-1).Draw(t, "number"))
	d.SetInts(dicom.DimensionIndexValues, rapid.SliceOfN(rapid.IntRange(0, 1<<32-1), 1, 4).Draw(t, "index")...)
	d.SetFloats(dicom.PixelSpacing, rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 2, 2).Draw(t, "spacing")...)
	d.SetBytes(dicom.RedPaletteData, "OW", rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "bytes"))
	if depth > 0 {
		var items []*dicom.Dataset
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			items = append(items, dataset(t, depth-1))
		}
		d.SetItems(dicom.ReferencedSeriesSequence, items...)
	}
	return d
}

func TestWriteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := dataset(t, 3)
		d.Set(dicom.SOPClassUID, dicom.SegmentationStorage)
		d.Set(dicom.SOPInstanceUID, dicom.NewUID())
		d.SetBytes(dicom.PixelData, "OB", []byte{1, 2, 3})
		var b bytes.Buffer
		if err := dicom.Write(&b, d); err != nil {
			t.Fatal(err)
		}
		f, err := dicom.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if f.TransferSyntax != dicom.ExplicitVRLittleEndian || !f.HasPixels() || f.Text(dicom.SpecificCharacterSet) != "ISO_IR 192" {
			t.Fatalf("transfer syntax %q, pixels %v", f.TransferSyntax, f.HasPixels())
		}
		same(t, d, f.Dataset)
	})
}

func same(t *rapid.T, want, got *dicom.Dataset) {
	for _, e := range want.Elements() {
		switch v := e.Value.(type) {
		case []*dicom.Dataset:
			if len(v) != len(got.Items(e.Tag)) {
				t.Fatalf("%v: %d items, want %d", e.Tag, len(got.Items(e.Tag)), len(v))
			}
			for n, it := range v {
				same(t, it, got.Items(e.Tag)[n])
			}
		case []byte:
			if e.Tag != dicom.PixelData && !bytes.HasPrefix(got.Bytes(e.Tag), v) {
				t.Fatalf("%v: % x, want % x", e.Tag, got.Bytes(e.Tag), v)
			}
		default:
			if !reflect.DeepEqual(want.Floats(e.Tag), got.Floats(e.Tag)) || !reflect.DeepEqual(want.Texts(e.Tag), got.Texts(e.Tag)) {
				t.Fatalf("%v: %q %v, want %q %v", e.Tag, got.Texts(e.Tag), got.Floats(e.Tag), want.Texts(e.Tag), want.Floats(e.Tag))
			}
		}
	}
}

func TestWriteLongTextsAndRefuses(t *testing.T) {
	d := &dicom.Dataset{}
	if err := dicom.Write(&bytes.Buffer{}, d); err == nil {
		t.Error("a data set without instance is written")
	}
	d.Set(dicom.SOPClassUID, dicom.SegmentationStorage)
	d.Set(dicom.SOPInstanceUID, dicom.NewUID())
	long := strings.Repeat("x", 70000)
	it := &dicom.Dataset{}
	it.Set(dicom.SeriesDescription, long)
	d.SetItems(dicom.ReferencedSeriesSequence, it)
	var b bytes.Buffer
	if err := dicom.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	f, err := dicom.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dicom.Limits{})
	if err != nil || f.TransferSyntax != dicom.ImplicitVRLittleEndian || f.Item(dicom.ReferencedSeriesSequence).Text(dicom.SeriesDescription) != long {
		t.Errorf("a long text came back in %s as %d bytes, %v", f.TransferSyntax, len(f.Item(dicom.ReferencedSeriesSequence).Text(dicom.SeriesDescription)), err)
	}
	d.SetBytes(dicom.PixelData, "OB", []byte{1, 2})
	if err := dicom.Write(&bytes.Buffer{}, d); err == nil || !strings.Contains(err.Error(), "65534") {
		t.Errorf("error %v for a text that is too long beside pixels", err)
	}
}
