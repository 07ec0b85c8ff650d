package dicom

import (
	"slices"

	"github.com/suyashkumar/dicom/pkg/tag"
)

func libraryTag(t Tag) tag.Tag { return tag.Tag{Group: t.group(), Element: t.element()} }

// vrOf is the standard's value representation of a tag, UN where it has none. Where it allows several it is the first.
func vrOf(t Tag) string {
	if info, err := tag.Find(libraryTag(t)); err == nil && len(info.VRs) > 0 && len(info.VRs[0]) == 2 {
		return info.VRs[0]
	}
	return "UN"
}

// textVRs are the representations stored as text; those of the second list in the file's character set.
var (
	plainVRs   = []string{"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
	charsetVRs = []string{"LO", "LT", "PN", "SH", "ST", "UC", "UT"}
)

func isText(vr string) bool { return slices.Contains(plainVRs, vr) || charsetText(vr) }

func charsetText(vr string) bool { return slices.Contains(charsetVRs, vr) }

// hasLongLength tells the representations whose explicit form has a length of 32 bits (PS3.5, section 7.1.2).
func hasLongLength(vr string) bool {
	switch vr {
	case "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV":
		return true
	}
	return false
}

// width is the size in bytes of one binary number, 0 for other representations.
func width(vr string) int {
	switch vr {
	case "US", "SS", "OW", "AT":
		return 2
	case "UL", "SL", "FL", "OF", "OL":
		return 4
	case "FD", "OD", "OV", "SV", "UV":
		return 8
	}
	return 0
}

// isKnownVR reports whether two letters are a value representation of today's standard.
func isKnownVR(vr string) bool {
	return isText(vr) || hasLongLength(vr) || width(vr) > 0
}

// isPassed tells the representations that the parser reads rightly. Others are left out of the canonical stream.
func isPassed(vr string) bool {
	switch vr {
	case "OD", "OF", "OL", "OV", "SV", "UV", "UN":
		return false
	}
	return isKnownVR(vr)
}
