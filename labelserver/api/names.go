package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// BaseName is the last element of a file name as a client sent it. Slicer sends full local paths, on Windows with backslashes.
// The result holds no separator; it is "" for a name that ends in one and for "." and "..".
func BaseName(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	if name == "." || name == ".." {
		return ""
	}
	return name
}

// DefaultExt is the extension of an upload that came without a file name.
const DefaultExt = ".nii.gz"

// Ext is the extension of a file name in the protocol's sense: all dot suffixes of the base name joined, so that x.nii.gz gives
// ".nii.gz" and a.b.nii.gz gives ".b.nii.gz". Leading dots belong to the stem, a trailing dot means no extension (Python's
// pathlib).
func Ext(name string) string {
	name = strings.TrimLeft(BaseName(name), ".")
	if strings.HasSuffix(name, ".") {
		return ""
	}
	if i := strings.IndexByte(name, '.'); i >= 0 {
		return name[i:]
	}
	return ""
}

// Stem is the base name without Ext.
func Stem(name string) string {
	base := BaseName(name)
	return strings.TrimSuffix(base, Ext(base))
}

// CheckResultExt checks the result_extension a client asked for and returns it with its dot. The client writes the answer under
// a name with this extension, so only letters, digits and dots may come back.
func CheckResultExt(ext string) (string, error) {
	ext = "." + strings.TrimPrefix(ext, ".")
	for suffix := range strings.SplitSeq(ext[1:], ".") {
		if suffix == "" || len(suffix) > 16 || strings.Trim(suffix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return "", fmt.Errorf("result_extension %q, want dots, letters and digits such as .nrrd", ext)
		}
	}
	return ext, nil
}

// RandomFileName is the name under which a client shall store an answer: ASCII, new each time, with the given extension, by
// which clients choose the reader.
func RandomFileName(ext string) string {
	return "tmp" + randomHex(4) + ext
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails: crypto/rand ends the process when the system has no randomness
	return hex.EncodeToString(b)
}

// ContentDisposition is the header of a download. The name is always quoted, since the Python client looks for
// `filename="(.+)"` only; a name beyond ASCII comes a second time as filename* (RFC 6266), which every client prefers.
func ContentDisposition(name string) string {
	plain := []byte{}
	ascii := true
	for _, r := range name {
		switch {
		case r >= 0x7f:
			ascii = false
			plain = append(plain, '_')
		case r < 0x20 || r == '"' || r == '\\':
			plain = append(plain, '_')
		default:
			plain = append(plain, byte(r))
		}
	}
	header := `attachment; filename="` + string(plain) + `"`
	if !ascii {
		header += "; filename*=utf-8''" + url.PathEscape(name)
	}
	return header
}
