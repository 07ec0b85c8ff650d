package obs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Event is one line of the audit trail: who did what to which image, when, and with what success. The kinds are in the words of
// DICOM's audit messages (PS3.15, annex A.5), which hospitals' systems collect. There is no name of a patient in it, only ids.
type Event struct {
	Time time.Time `json:"time"`
	// Event is the kind, such as "User Authentication" or "Patient Record".
	Event string `json:"event"`
	// Action is what was done, by method and route.
	Action string `json:"action"`
	// Outcome is "success", "refused" (the user may not) or "failure".
	Outcome string `json:"outcome"`
	Status  int    `json:"status"`
	User    string `json:"user,omitempty"`
	Address string `json:"address,omitempty"`
	Request string `json:"request,omitempty"`
	// Image, Label (its tag), Session and Model are what was acted on.
	Image   string `json:"image,omitempty"`
	Label   string `json:"label,omitempty"`
	Session string `json:"session,omitempty"`
	Model   string `json:"model,omitempty"`
	// Previous is the hash of the line before, so that a line cannot be changed or taken out unnoticed.
	Previous string `json:"previous"`
}

// Audit is an audit trail: a file of JSON lines that only grows. It is safe for concurrent use, by one process.
type Audit struct {
	mu   sync.Mutex
	file *os.File
	last string
}

// maxAuditLine bounds a line that is read back, in bytes.
const maxAuditLine = 1 << 20

// OpenAudit opens or makes an audit trail. It goes on behind the last whole line; a line that was cut off by a crash is ended.
func OpenAudit(path string) (*Audit, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("audit trail %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("audit trail %s: %w", path, err)
	}
	a := &Audit{file: f}
	if err := a.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("audit trail %s: %w", path, err), f.Close())
	}
	return a, nil
}

// resume finds the last line.
func (a *Audit) resume() error {
	info, err := a.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	tail := make([]byte, min(info.Size(), maxAuditLine))
	if _, err := a.file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && err != io.EOF {
		return err
	}
	if tail[len(tail)-1] != '\n' {
		if _, err := a.file.WriteString("\n"); err != nil {
			return err
		}
	}
	lines := bytes.Split(bytes.TrimRight(tail, "\n"), []byte("\n"))
	a.last = hashLine(lines[len(lines)-1])
	return nil
}

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// Record adds an event. Its time and link are set here.
func (a *Audit) Record(e Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return os.ErrClosed
	}
	e.Time, e.Previous = time.Now().UTC(), a.last
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := a.file.Write(append(line, '\n')); err != nil {
		return err
	}
	a.last = hashLine(line)
	return nil
}

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := errors.Join(a.file.Sync(), a.file.Close())
	a.file = nil
	return err
}

// VerifyAudit checks that every line of an audit trail follows from the one before and returns the number of events. The error names
// the first line that does not.
func VerifyAudit(r io.Reader) (events int, err error) {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, maxAuditLine)
	previous, began := "", false
	for n := 1; scan.Scan(); n++ {
		var e Event
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			return events, fmt.Errorf("line %d is no event: %w", n, err)
		}
		if began && e.Previous != previous {
			return events, fmt.Errorf("line %d does not follow from line %d: one of them was changed, or lines between them were taken out", n, n-1)
		}
		previous, began = hashLine(scan.Bytes()), true
		events++
	}
	return events, scan.Err()
}
