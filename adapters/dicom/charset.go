package dicom

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// encodings are the character sets of PS3.3, C.12.1.1.2, without the ISO 2022 switching between several.
var encodings = map[string]encoding.Encoding{
	"100": charmap.ISO8859_1, "101": charmap.ISO8859_2, "109": charmap.ISO8859_3, "110": charmap.ISO8859_4, "126": charmap.ISO8859_7,
	"127": charmap.ISO8859_6, "138": charmap.ISO8859_8, "144": charmap.ISO8859_5, "148": charmap.ISO8859_9, "203": charmap.ISO8859_15,
	"166": charmap.Windows874, // holds TIS 620-2533
	"13":  japanese.ShiftJIS,
	"87":  japanese.ISO2022JP, "159": japanese.ISO2022JP, "149": korean.EUCKR, "58": simplifiedchinese.GB18030,
	"GB18030": simplifiedchinese.GB18030, "GBK": simplifiedchinese.GBK,
}

// charset turns text of a file into UTF-8. Where the file names no character set for its letters, or one that nobody has heard of,
// they are taken for UTF-8 if they can be, else for Latin-1: a name that cannot be read is no reason to lose an image.
type charset struct {
	encoding encoding.Encoding // nil for ASCII and UTF-8
}

// newCharset reads the values of Specific Character Set. Of several the last that is not plain ASCII decides, since the encodings
// used here read ASCII too, and escape sequences where they are used (ISO 2022 JP).
func newCharset(value string) charset {
	var c charset
	for name := range strings.SplitSeq(value, `\`) {
		name = strings.Trim(name, " \x00")
		name = strings.TrimPrefix(strings.TrimPrefix(name, "ISO_IR "), "ISO 2022 IR ")
		if e, ok := encodings[name]; ok {
			c.encoding = e
		}
	}
	return c
}

func (c charset) text(b []byte) string {
	ascii := true
	for _, x := range b {
		if x >= utf8.RuneSelf || x == 0x1b {
			ascii = false
			break
		}
	}
	if ascii {
		return string(b)
	}
	if c.encoding != nil {
		if out, err := c.encoding.NewDecoder().Bytes(b); err == nil {
			return string(out)
		}
	}
	if utf8.Valid(b) {
		return string(b)
	}
	out := make([]rune, len(b))
	for i, x := range b {
		out[i] = rune(x)
	}
	return string(out)
}
