package annotation

import (
	"bufio"
	"bytes"
	"encoding/gob"
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

	"github.com/klauspost/compress/gzip"

	"scrawl/apps/atomicfile"
	"scrawl/apps/interact"
)

// journal keeps lineages on disk, a folder each:
//
//	lineage.json      whose it is
//	log.jsonl         one line per entry, appended and synced
//	state-N.gob.gz    the image's state after entry N
//	learned-N.gob.gz  the weights and examples after entry N, when it learned something
//
// Files other than the log are written beside their final name, synced and renamed, before the log names them; so a crash
// leaves at most a file that no entry speaks of.
type journal struct {
	dir    string
	budget int64 // bytes of learned-N files kept per lineage; the newest always stays
}

const (
	identityFile = "lineage.json"
	logFile      = "log.jsonl"
)

func (j journal) open(id identity) (*lineage, error) { return j.read(id, true) }

// read reads a lineage. mend says that this process owns it, and may take off what a crash has left at the end of its log.
func (j journal) read(id identity, mend bool) (*lineage, error) {
	l := &lineage{id: id, dir: filepath.Join(j.dir, id.folder()), states: map[string]imageState{}}
	data, err := os.ReadFile(filepath.Join(l.dir, logFile))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the lineage's log: %w", err)
	}
	// A line cut short by a crash was never answered for: take it off, or the next one would be joined to it.
	if whole := bytes.LastIndexByte(data, '\n') + 1; whole < len(data) {
		if mend {
			if err := os.Truncate(filepath.Join(l.dir, logFile), int64(whole)); err != nil {
				return nil, fmt.Errorf("mend the lineage's log: %w", err)
			}
		}
		data = data[:whole]
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("line %d of the lineage's log %s: %w", i+1, l.dir, err)
		}
		l.log = append(l.log, e)
	}
	if mend {
		l.learned, err = j.learned(l, l.head().Learned)
	}
	return l, err
}

// commit makes an entry durable. state is written under the entry's own number unless it repeats an earlier one, learned when
// changed.
func (j journal) commit(l *lineage, e entry, state imageState, learned *interact.Learned) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("make the lineage's folder: %w", err)
	}
	if len(l.log) == 0 {
		if err := atomicfile.Write(filepath.Join(l.dir, identityFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(l.id) }); err != nil {
			return err
		}
	}
	if e.StateOf == e.Seq {
		if err := writeGob(l.file("state", e.Seq), state.encode); err != nil {
			return err
		}
	}
	if learned != nil {
		if err := writeGob(l.file("learned", e.Learned), func(enc *gob.Encoder) error { return encodeLearned(enc, *learned) }); err != nil {
			return err
		}
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the log entry: %w", err)
	}
	if err := appendLine(filepath.Join(l.dir, logFile), line); err != nil {
		return err
	}
	l.log = append(l.log, e)
	j.thin(l)
	return nil
}

func (l *lineage) file(kind string, seq int) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s-%d.gob.gz", kind, seq))
}

// state reads the state of an entry.
func (j journal) state(l *lineage, e entry) (imageState, error) {
	var s imageState
	if e.StateOf == 0 {
		return s, nil
	}
	err := readGob(l.file("state", e.StateOf), s.decode)
	return s, err
}

// errThinned says that a snapshot was given up for space.
var errThinned = errors.New("the weights of that state are no longer kept")

// learned reads a snapshot; number 0 has learned nothing.
func (j journal) learned(l *lineage, seq int) (interact.Learned, error) {
	var learned interact.Learned
	if seq == 0 {
		return learned, nil
	}
	err := readGob(l.file("learned", seq), func(dec *gob.Decoder) (err error) {
		learned, err = decodeLearned(dec)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return learned, errThinned
	}
	return learned, err
}

// thin removes the oldest snapshots beyond the budget. The newest is never removed. Failing to remove one is harmless.
func (j journal) thin(l *lineage) {
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return
	}
	type snapshot struct {
		seq  int
		size int64
	}
	var all []snapshot
	for _, f := range files {
		number, ok := strings.CutPrefix(f.Name(), "learned-")
		seq, err := strconv.Atoi(strings.TrimSuffix(number, ".gob.gz"))
		info, infoErr := f.Info()
		if ok && err == nil && infoErr == nil {
			all = append(all, snapshot{seq, info.Size()})
		}
	}
	slices.SortFunc(all, func(a, b snapshot) int { return b.seq - a.seq })
	total, head := int64(0), l.head().Learned
	for _, s := range all {
		total += s.size
		if total > j.budget && s.seq != head {
			_ = os.Remove(l.file("learned", s.seq))
		}
	}
}

// forget erases an image's states from a lineage. Weights learned from it stay: they cannot be told apart; for a lineage of that image
// alone everything goes.
func (j journal) forget(l *lineage, image string, e entry) error {
	if l.id.Image != "" {
		return j.erase(l)
	}
	if err := j.commit(l, e, imageState{}, nil); err != nil {
		return err
	}
	for _, old := range l.log {
		if old.Image == image && old.StateOf == old.Seq {
			if err := os.Remove(l.file("state", old.Seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	delete(l.states, image)
	return nil
}

// erase removes a lineage from disk and memory: nothing was ever learned.
func (j journal) erase(l *lineage) error {
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("erase what was learned: %w", err)
	}
	l.log, l.learned = nil, interact.Learned{}
	clear(l.states)
	return nil
}

// identities lists the lineages on disk. Folders that are none are passed over.
func (j journal) identities() ([]identity, error) {
	folders, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []identity
	for _, f := range folders {
		data, err := os.ReadFile(filepath.Join(j.dir, f.Name(), identityFile))
		if err != nil {
			continue
		}
		var id identity
		if json.Unmarshal(data, &id) == nil && id.folder() == f.Name() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func writeGob(name string, encode func(*gob.Encoder) error) error {
	return atomicfile.Write(name, func(w io.Writer) error {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := encode(gob.NewEncoder(z)); err != nil {
			return err
		}
		return z.Close()
	})
}

func readGob(name string, decode func(*gob.Decoder) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	if err := decode(gob.NewDecoder(z)); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return nil
}

func appendLine(name string, line []byte) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return nil
}
