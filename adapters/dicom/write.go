package dicom

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/google/uuid"
	library "github.com/suyashkumar/dicom"
)

var littleEndian = binary.LittleEndian

// NewUID is a new unique identifier under 2.25 (PS3.5, annex B.2).
func NewUID() string {
	id := uuid.New()
	return "2.25." + new(big.Int).SetBytes(id[:]).String()
}

// DerivedUID is an identifier under 2.25 that is made of a name, the same for the same name. It stands in where a file has none.
func DerivedUID(name string) string {
	sum := sha256.Sum256([]byte("scrawl " + name))
	return "2.25." + new(big.Int).SetBytes(sum[:16]).String()
}

// Names by which files tell what wrote them (PS3.7, D.3.3.2). The UID is one of NewUID's, made once.
const (
	implementationUID  = "2.25.241902379484925184632186914229812330417"
	implementationName = "SCRAWL_1"
)

// Write writes a data set as a file, with the file meta information that its SOP class and instance UID ask for: in explicit VR little
// endian, or, if a text is longer than that has room for, in implicit VR. Native pixels are the bytes of PixelData, as OB or OW. Text is
// written in UTF-8, and says so.
func Write(w io.Writer, d *Dataset) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("writing DICOM: %v", r)
		}
	}()
	if d.Text(SOPClassUID) == "" || d.Text(SOPInstanceUID) == "" {
		return fmt.Errorf("writing DICOM: the data set has no SOP class or no instance UID")
	}
	whole := &Dataset{elements: append([]Element(nil), d.elements...)}
	whole.SetBytes(fileMetaInformationVersion, "OB", []byte{0, 1})
	whole.Set(MediaStorageSOPClassUID, d.Text(SOPClassUID))
	whole.Set(MediaStorageSOPInstanceUID, d.Text(SOPInstanceUID))
	whole.Set(TransferSyntaxUID, ExplicitVRLittleEndian)
	if hasLongText(whole) && !whole.Has(PixelData) {
		whole.Set(TransferSyntaxUID, ImplicitVRLittleEndian)
	}
	whole.Set(ImplementationClassUID, implementationUID)
	whole.Set(ImplementationVersionName, implementationName)
	whole.Set(SpecificCharacterSet, "ISO_IR 192")
	elements, err := toLibrary(whole, whole.Text(TransferSyntaxUID) == ImplicitVRLittleEndian)
	if err != nil {
		return fmt.Errorf("writing DICOM: %w", err)
	}
	var b bytes.Buffer // the library does not hand on every error of its writer
	if err := library.Write(&b, library.Dataset{Elements: elements}, library.SkipVRVerification()); err != nil {
		return fmt.Errorf("writing DICOM: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// hasLongText tells whether a text is too long for the 16 bits of explicit VR.
func hasLongText(d *Dataset) bool {
	for _, e := range d.elements {
		switch v := e.Value.(type) {
		case []string:
			if !hasLongLength(e.VR) && textLength(v) > maxShortText {
				return true
			}
		case []*Dataset:
			for _, it := range v {
				if hasLongText(it) {
					return true
				}
			}
		}
	}
	return false
}

const maxShortText = 0xfffe

func textLength(values []string) int {
	n := len(values) - 1
	for _, v := range values {
		n += len(v)
	}
	return n
}

func toLibrary(d *Dataset, implicit bool) ([]*library.Element, error) {
	out := make([]*library.Element, 0, len(d.elements))
	for _, e := range d.elements {
		converted, err := elementToLibrary(e, implicit)
		if err != nil {
			return nil, fmt.Errorf("element %v: %w", e.Tag, err)
		}
		out = append(out, converted)
	}
	return out, nil
}

func elementToLibrary(e Element, implicit bool) (*library.Element, error) {
	data := e.Value
	switch v := e.Value.(type) {
	case []string:
		if length := textLength(v); !implicit && !hasLongLength(e.VR) && length > maxShortText {
			return nil, fmt.Errorf("text of %d bytes, its representation %s holds at most 65534", length, e.VR)
		}
		data = []string{strings.Join(v, `\`)} // the library would take quadratic time for the values of a long contour
	case []byte:
		if len(v)%2 == 1 {
			v = append(append(make([]byte, 0, len(v)+1), v...), 0)
		}
		data = v
		if e.Tag == PixelData {
			data = library.PixelDataInfo{IntentionallyUnprocessed: true, UnprocessedValueData: v}
		}
	case []*Dataset:
		items := make([][]*library.Element, 0, len(v))
		for _, it := range v {
			elements, err := toLibrary(it, implicit)
			if err != nil {
				return nil, err
			}
			items = append(items, elements)
		}
		data = items
	}
	value, err := library.NewValue(data)
	if err != nil {
		return nil, err
	}
	t := libraryTag(e.Tag)
	return &library.Element{Tag: t, RawValueRepresentation: e.VR, Value: value}, nil
}
