package dicomweb

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Tags in the form of the DICOM JSON model (PS3.18, F.2): group and element as eight hexadecimal digits.
const (
	TagSOPClassUID              = "00080016"
	TagSOPInstanceUID           = "00080018"
	TagStudyDate                = "00080020"
	TagContentDate              = "00080023"
	TagStudyTime                = "00080030"
	TagContentTime              = "00080033"
	TagModality                 = "00080060"
	TagReferencedSeries         = "00081115"
	TagReferencedSOPClassUID    = "00081150"
	TagReferencedSOPInstanceUID = "00081155"
	TagRetrieveURL              = "00081190"
	TagFailureReason            = "00081197"
	TagFailedSOPs               = "00081198"
	TagReferencedSOPs           = "00081199"
	TagWarningReason            = "00081196"
	TagPatientID                = "00100020"
	TagStudyInstanceUID         = "0020000D"
	TagSeriesInstanceUID        = "0020000E"
	TagSeriesInstances          = "00201209"
	TagSegments                 = "00620002"
	TagSegmentNumber            = "00620004"
	TagSegmentLabel             = "00620005"
)

// Dataset is a data set in the DICOM JSON model, by tag. Members it does not know are kept as they came.
type Dataset map[string]Attribute

// Attribute is one element of a data set. Values stay as the archive wrote them until they are asked for: a number may come as a
// string and the other way round.
type Attribute struct {
	VR          string            `json:"vr"`
	Value       []json.RawMessage `json:"Value,omitempty"`
	BulkDataURI string            `json:"BulkDataURI,omitempty"`
}

// Text is the first value as text: a person's name in its alphabetic form, a number in digits. It is "" for a value that is missing or
// empty.
func (d Dataset) Text(tag string) string {
	if values := d[tag].Value; len(values) > 0 {
		return text(values[0])
	}
	return ""
}

func text(raw json.RawMessage) string {
	var v any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return ""
	}
	switch v := v.(type) {
	case string:
		return strings.Trim(v, " \x00")
	case json.Number:
		return v.String()
	case map[string]any:
		name, _ := v["Alphabetic"].(string)
		return strings.Trim(name, " \x00")
	}
	return ""
}

// Int is the first value as a whole number.
func (d Dataset) Int(tag string) (int, bool) {
	n, err := strconv.Atoi(d.Text(tag))
	return n, err == nil
}

// Items are the items of a sequence; what is no data set among them is left out.
func (d Dataset) Items(tag string) []Dataset {
	var items []Dataset
	for _, raw := range d[tag].Value {
		var item Dataset
		if json.Unmarshal(raw, &item) == nil && item != nil {
			items = append(items, item)
		}
	}
	return items
}
