package lower

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// Forms are ways to compute gradients of weights that were found to be the fastest, by the convolution's geometry on a typical image. They
// decide the order in which numbers are summed: with the same forms, the same network gives the same bits, on every start.
type Forms map[string]Form

// Form says which operand is the filter, "dy" or "x", and into bands of how many bytes it is cut.
type Form struct {
	Filter string `json:"filter"`
	Band   int64  `json:"band"`
}

const (
	filterDY = "dy"
	filterX  = "x"
)

// typicalSide is the image that forms are chosen for; graphs serve all sizes.
const typicalSide = 256

// typicalSizes gives the symbols of a graph's inputs the sizes they have for a typical image.
func typicalSizes(g *onnx.Graph) map[string]int64 {
	unit := map[string]int64{"D": 1, "H": 1, "W": 1, "N": 1, "S": 1}
	multiple := int64(1)
	for _, in := range g.Inputs {
		for _, d := range in.Shape {
			if k, ok := onnx.SizeOf(d, unit); ok && !d.Known() {
				multiple = max(multiple, k)
			}
		}
	}
	side := max(typicalSide/multiple, 1)
	return map[string]int64{"D": side, "H": side, "W": side, "N": 1, "S": 1}
}

// formKey names the geometry of a weight's gradient on a typical image, whose size it tells g; ok is false when it is not known.
func (s *scope) formKey(p weightPlan, g *gradientCase) (key string, ok bool) {
	shape := s.shape(p.x)
	var ok2 bool
	if g.h, ok = onnx.SizeOf(shape[2], s.typical); ok {
		g.w, ok2 = onnx.SizeOf(shape[3], s.typical)
	}
	return fmt.Sprintf("%v stride %v dilation %v pads %v of %dx%d", p.sizes, p.win.stride, p.win.dilation, p.win.pads, g.h, g.w), ok && ok2
}

// machine is what forms depend on besides the convolution.
type machine struct {
	CPU     string `json:"cpu"`
	Runtime string `json:"onnx_runtime"`
	Threads int    `json:"threads"`
	Block   int64  `json:"block"`
}

func thisMachine(lib *ort.Library, threads int, t Target) machine {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return machine{CPU: cpuName(), Runtime: lib.Version().String(), Threads: threads, Block: t.Block}
}

// cpuName is the model of the CPU, or its architecture where the system does not tell.
func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// stored is the file that forms are kept in.
type stored struct {
	Machine machine `json:"machine"`
	Forms   Forms   `json:"forms"`
}

// file is where the forms of a machine are kept: in the user's cache, one file for each CPU, library and number of threads.
func (m machine) file() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", m))
	return filepath.Join(dir, "scrawl", "forms", hex.EncodeToString(sum[:8])+".json"), nil
}

// load reads the forms of a machine; none have been kept is no error.
func (m machine) load() (Forms, error) {
	name, err := m.file()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return Forms{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("measured forms: %w", err)
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("measured forms in %s: %w; delete the file", name, err)
	}
	if s.Machine != m || s.Forms == nil {
		return Forms{}, nil
	}
	return s.Forms, nil
}

func (m machine) save(f Forms) (string, error) {
	name, err := m.file()
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(stored{m, f}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	if err := replaceFile(name, append(data, '\n')); err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	return name, nil
}

// replaceFile puts data in the place of a file in one step, also where several processes do so at once.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// add keeps one more form. Others may have kept some in the meantime; a file that cannot be read is replaced.
func (m machine) add(key string, f Form) error {
	forms, err := m.load()
	if err != nil {
		forms = Forms{}
	}
	forms[key] = f
	_, err = m.save(forms)
	return err
}

// measured is this machine's target with the forms that have been kept for it. A file that cannot be read is as good as none.
func measured(lib *ort.Library, o ort.Options) Target {
	t := Probe(lib)
	if t.Block == 0 {
		return t
	}
	if f, err := thisMachine(lib, o.Threads, t).load(); err == nil {
		t.Forms = f
	}
	return t
}
