package ort

import (
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Version is a version of ONNX Runtime. The zero value means unknown.
type Version struct{ Major, Minor, Patch int }

// MinVersion is the oldest library that can be used: the binding asks for API 24, which came with 1.24.
var MinVersion = Version{1, 24, 0}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Patch < w.Patch
}

// ParseVersion reads "1.31.1"; a suffix after a dash or a plus sign is ignored.
func ParseVersion(s string) (Version, error) {
	core, _, _ := strings.Cut(s, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return Version{}, fmt.Errorf("version %q is not of the form 1.31.1", s)
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return Version{}, fmt.Errorf("version %q is not of the form 1.31.1", s)
		}
		n[i] = int(v)
	}
	return Version{n[0], n[1], n[2]}, nil
}

// TooOldError reports a library that the binding cannot use.
type TooOldError struct {
	Path    string
	Version Version
}

func (e *TooOldError) Error() string {
	return fmt.Sprintf("%s is version %s, but %s or newer is needed: install one with `%s`", e.Path, e.Version, MinVersion, InstallCommand)
}

// InstallCommand is what every message about a missing library tells the user to type.
const InstallCommand = "scrawl runtime install"

var versionInName = regexp.MustCompile(`(?:^|\D)(\d+\.\d+\.\d+)(?:\D|$)`)

// FileVersion finds the version of an ONNX Runtime library without loading it: in the symbol versions of an ELF file
// (VERS_1.31.1), else in the file's name. It fails where neither tells, as with onnxruntime.dll.
func FileVersion(path string) (Version, error) {
	if v, err := elfVersion(path); err == nil {
		return v, nil
	}
	if m := versionInName.FindStringSubmatch(filepath.Base(path)); m != nil {
		return ParseVersion(m[1])
	}
	return Version{}, fmt.Errorf("%s does not tell its version", path)
}

func elfVersion(path string) (Version, error) {
	f, err := elf.Open(path)
	if err != nil {
		return Version{}, err
	}
	defer func() { _ = f.Close() }()
	defined, err := f.DynamicVersions()
	if err != nil {
		return Version{}, err
	}
	for _, d := range defined {
		if s, ok := strings.CutPrefix(d.Name, "VERS_"); ok {
			return ParseVersion(s)
		}
	}
	return Version{}, errors.New("no symbol version of the form VERS_1.31.1")
}
