package dicomweb

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// decodeReport reads a data set, which some archives wrap into a list.
func decodeReport(text []byte) (Dataset, error) {
	var d Dataset
	if len(text) == 0 {
		return d, nil
	}
	var list []Dataset
	if err := json.Unmarshal(text, &list); err == nil {
		if len(list) > 0 {
			d = list[0]
		}
		return d, nil
	}
	err := json.Unmarshal(text, &d)
	return d, err
}

// maxMeta bounds what is read of a file to find its instance UID. The meta information is a few hundred bytes.
const maxMeta = 64 << 10

// InstanceUID reads the UID of an instance from the file meta information at the start of a DICOM file (PS3.10, 7.1).
func InstanceUID(r io.Reader) (string, error) {
	r = io.LimitReader(r, maxMeta)
	preamble := make([]byte, 132)
	if _, err := io.ReadFull(r, preamble); err != nil || string(preamble[128:]) != "DICM" {
		return "", errors.New("not a DICOM file: no DICM at byte 128")
	}
	header := make([]byte, 12)
	for {
		// Explicit little endian whatever follows: group, element, VR and a length of two bytes, or of four after two reserved ones.
		if _, err := io.ReadFull(r, header[:8]); err != nil {
			return "", fmt.Errorf("file meta information ends early: %w", err)
		}
		group, element := binary.LittleEndian.Uint16(header), binary.LittleEndian.Uint16(header[2:])
		length := uint32(binary.LittleEndian.Uint16(header[6:]))
		if vr := string(header[4:6]); vr == "OB" || vr == "OW" || vr == "SQ" || vr == "UN" || vr == "UT" {
			if _, err := io.ReadFull(r, header[8:12]); err != nil {
				return "", fmt.Errorf("file meta information ends early: %w", err)
			}
			length = binary.LittleEndian.Uint32(header[8:])
		}
		if group != 2 || length > maxMeta {
			return "", errors.New("file meta information has no media storage SOP instance UID")
		}
		value := make([]byte, length)
		if _, err := io.ReadFull(r, value); err != nil {
			return "", fmt.Errorf("file meta information ends early: %w", err)
		}
		if element == 3 {
			uid := strings.TrimRight(string(value), "\x00 ")
			return uid, CheckUID(uid)
		}
	}
}
