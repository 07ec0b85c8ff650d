// Package versions keeps the weights that networks have had: those that training has made, that somebody has uploaded, and that
// annotators have taught. Every version is a whole .onnx file with a description beside it, and never changes; which one is served
// is one more small file. Going back is therefore always possible, and takes no time.
//
//	<dir>/<network>/<number>/network.onnx
//	<dir>/<network>/<number>/version.json
//	<dir>/<network>/current.json            {"number": 3}; number 0, and no such file, is the app's own network
//	<dir>/<network>/.lock                   held with flock(2) while something is written
//
// A version is written into a folder of another name, synced and then renamed, so that after a crash it is there whole or
// not at all. Several processes may work on one folder: the server, and the command line beside it.
package versions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"scrawl/apps/atomicfile"
	"scrawl/labelserver/api"
)

// Origin says how a version came to be.
type Origin string

// The origins.
const (
	Builtin  Origin = "app"      // version 0: the network of the app
	Trained  Origin = "training" // on final labels
	Uploaded Origin = "upload"   // by a client
	Promoted Origin = "promoted" // what an annotator has taught
)

// Datum is one image that a version was made from.
type Datum struct {
	Image string `json:"image"`
	// Label is the checksum of the label's file, "SHA256:…".
	Label string `json:"label"`
	// Held tells that the image was set aside to choose by, and not learned from.
	Held bool `json:"held,omitempty"`
}

// Version describes one set of weights of a network. Number, Checksum and Created are set by Add.
type Version struct {
	Number   int    `json:"number"`
	Checksum string `json:"checksum"` // of network.onnx, "SHA256:…"
	// Parent is the checksum of the weights that these were made from, "" when unknown.
	Parent  string    `json:"parent,omitempty"`
	Origin  Origin    `json:"origin"`
	Created time.Time `json:"created"`
	Data    []Datum   `json:"data,omitempty"`
	// Metrics are figures by name, such as val_mean_dice before and after.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Details are the settings of training, or whose weights were promoted.
	Details *api.Object `json:"details,omitempty"`
	// Withdrawn is when the version was taken out of use for good; zero while it may be served.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
}

// ErrNotFound is a version that is not there. ErrDamaged is one whose file is not what it was.
var (
	ErrNotFound = errors.New("no such version")
	ErrDamaged  = errors.New("the version's file is damaged")
	// ErrName is a network's name that cannot name a folder.
	ErrName = errors.New("not the name of a network")
)

// Store keeps versions below a folder. It is safe for concurrent use, also by several processes.
type Store struct{ dir string }

// NewStore keeps versions below dir, which is made when something is written.
func NewStore(dir string) *Store { return &Store{dir: dir} }

const (
	networkFile = "network.onnx"
	versionFile = "version.json"
	currentFile = "current.json"
)

func (s *Store) folder(network string) (string, error) {
	if network == "" || network[0] == '.' || len(network) > 200 || strings.ContainsAny(network, `/\`) || strings.ContainsFunc(network, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", fmt.Errorf("%.80q: %w", network, ErrName)
	}
	return filepath.Join(s.dir, network), nil
}

// List lists a network's versions in order of their numbers, without the app's own.
func (s *Store) List(network string) ([]Version, error) {
	dir, err := s.folder(network)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("versions of %s: %w", network, err)
	}
	var all []Version
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil || number < 1 {
			continue
		}
		v, err := s.Get(network, number)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Version) int { return a.Number - b.Number })
	return all, nil
}

// Get describes a version. Number 0 is the app's own, of which nothing else is known here.
func (s *Store) Get(network string, number int) (Version, error) {
	dir, err := s.folder(network)
	if err != nil || number == 0 {
		return Version{Origin: Builtin}, err
	}
	data, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(number), versionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Version{}, fmt.Errorf("version %d of %s: %w", number, network, ErrNotFound)
	}
	if err != nil {
		return Version{}, fmt.Errorf("version %d of %s: %w", number, network, err)
	}
	var v Version
	if err := json.Unmarshal(data, &v); err != nil {
		return Version{}, fmt.Errorf("version %d of %s: %w: %w", number, network, ErrDamaged, err)
	}
	v.Number = number
	return v, nil
}

// Current is the number of the version that is to be served.
func (s *Store) Current(network string) (int, error) {
	dir, err := s.folder(network)
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(filepath.Join(dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("current version of %s: %w", network, err)
	}
	var c struct{ Number int }
	err = json.Unmarshal(data, &c)
	if err == nil && c.Number < 0 {
		err = fmt.Errorf("it has the number %d", c.Number)
	}
	if err != nil {
		return 0, fmt.Errorf("current version of %s: %w: %w", network, ErrDamaged, err)
	}
	return c.Number, nil
}

// Read returns the .onnx file of a version other than 0, once its checksum has been found right.
func (s *Store) Read(network string, number int) ([]byte, Version, error) {
	v, err := s.Get(network, number)
	if err != nil {
		return nil, v, err
	}
	data, err := os.ReadFile(s.Path(network, number))
	if err != nil {
		return nil, v, fmt.Errorf("version %d of %s: %w: %w", number, network, ErrDamaged, err)
	}
	if Checksum(data) != v.Checksum {
		return nil, v, fmt.Errorf("version %d of %s: %w: its checksum is %s, it was %s", number, network, ErrDamaged, Checksum(data), v.Checksum)
	}
	return data, v, nil
}

// Path is where the .onnx file of a version other than 0 lies.
func (s *Store) Path(network string, number int) string {
	return filepath.Join(s.dir, network, strconv.Itoa(number), networkFile)
}

// Checksum is "SHA256:" and the hash of a file's content in hexadecimal.
func Checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return "SHA256:" + hex.EncodeToString(sum[:])
}

// Add keeps a network as a new version and returns its description. It is not served before Select. The same file again is the
// version that it already is.
func (s *Store) Add(network string, onnx []byte, v Version) (Version, error) {
	dir, unlock, err := s.lock(network)
	if err != nil {
		return Version{}, err
	}
	defer unlock()
	all, err := s.List(network)
	if err != nil {
		return Version{}, err
	}
	v.Number, v.Checksum, v.Created = 1, Checksum(onnx), time.Now().UTC().Truncate(time.Second)
	for _, old := range all {
		if old.Checksum == v.Checksum && old.Withdrawn.IsZero() {
			return old, nil
		}
		v.Number = max(v.Number, old.Number+1)
	}
	fresh, err := os.MkdirTemp(dir, ".new-*")
	if err != nil {
		return Version{}, fmt.Errorf("new version of %s: %w", network, err)
	}
	err = writeVersion(fresh, onnx, v)
	if err == nil {
		err = os.Rename(fresh, filepath.Join(dir, strconv.Itoa(v.Number)))
	}
	if err != nil {
		return Version{}, fmt.Errorf("new version of %s: %w", network, errors.Join(err, os.RemoveAll(fresh)))
	}
	return v, nil
}

func writeVersion(dir string, onnx []byte, v Version) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, networkFile), func(w io.Writer) error { _, err := w.Write(onnx); return err }); err != nil {
		return err
	}
	return describe(dir, v)
}

func describe(dir string, v Version) error {
	return atomicfile.Write(filepath.Join(dir, versionFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}

// Select makes a version the one to be served. Number 0 goes back to the app's own network.
func (s *Store) Select(network string, number int) error {
	dir, unlock, err := s.lock(network)
	if err != nil {
		return err
	}
	defer unlock()
	return s.selectLocked(dir, network, number)
}

func (s *Store) selectLocked(dir, network string, number int) error {
	v, err := s.Get(network, number)
	if err != nil {
		return err
	}
	if !v.Withdrawn.IsZero() {
		return fmt.Errorf("version %d of %s was withdrawn: %w", number, network, ErrNotFound)
	}
	return atomicfile.Write(filepath.Join(dir, currentFile), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(map[string]int{"number": number})
	})
}

// Previous is the version that a network goes back to from another: the newest one before it that may be served, or 0.
func (s *Store) Previous(network string, number int) (int, error) {
	all, err := s.List(network)
	if err != nil {
		return 0, err
	}
	for _, v := range slices.Backward(all) {
		if v.Number < number && v.Withdrawn.IsZero() {
			return v.Number, nil
		}
	}
	return 0, nil
}

// Withdraw takes a version out of use for good, and goes back to the one before it if it is the current one, whose number it returns
// then. Its files stay, marked.
func (s *Store) Withdraw(network string, number int) (current int, err error) {
	dir, unlock, err := s.lock(network)
	if err != nil {
		return 0, err
	}
	defer unlock()
	v, err := s.Get(network, number)
	if err != nil {
		return 0, err
	}
	if number == 0 {
		return 0, fmt.Errorf("the app's own network of %s cannot be withdrawn: %w", network, ErrNotFound)
	}
	if current, err = s.Current(network); err != nil {
		return 0, err
	}
	if current == number {
		if current, err = s.Previous(network, number); err != nil {
			return 0, err
		}
		if err := s.selectLocked(dir, network, current); err != nil {
			return 0, err
		}
	}
	v.Withdrawn = time.Now().UTC().Truncate(time.Second)
	return current, describe(filepath.Join(dir, strconv.Itoa(number)), v)
}

// lock makes a network's folder and keeps other writers out of it.
func (s *Store) lock(network string) (dir string, unlock func(), err error) {
	if dir, err = s.folder(network); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("versions of %s: %w", network, err)
	}
	l := flock.New(filepath.Join(dir, ".lock"))
	if err := l.Lock(); err != nil {
		return "", nil, fmt.Errorf("versions of %s: %w", network, err)
	}
	return dir, func() { _ = l.Unlock() }, nil // closing the file frees the lock in any case
}
