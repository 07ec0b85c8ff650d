// Package session keeps images that clients upload for a while (PUT /session/): Slicer does so for a volume of the user's own
// that is not in the datastore. A session is a folder named by its id with the file meta.info beside the image, as MONAI Label
// lays it out; it ends when it has not been used for its expiry.
//
// Ids are random UUIDs and file names are base names inside an os.Root, so that nothing a client sends can reach outside.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"scrawl/labelserver/api"
)

// Count is the number of sessions.
func (s *Store) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// SweepInterval is how often Run removes expired sessions.
const SweepInterval = 5 * time.Minute

const metaName = "meta.info"

// Errors a caller can do something about.
var (
	// ErrNotFound says that there is no such session, or no longer.
	ErrNotFound = errors.New("session not found")
	// ErrOneFile says that the image of a session is a file, not a folder.
	ErrOneFile = errors.New("session is of one file")
	// ErrFull says that the limits on all sessions together leave no room.
	ErrFull = errors.New("no room for another session")
	// ErrArchive says that an archive to unpack is none, or unpacks beyond its limits.
	ErrArchive = errors.New("cannot unpack the archive")
)

// Options says where sessions are and how many may be.
type Options struct {
	// Dir is the folder of sessions; it is made if missing.
	Dir string
	// Expiry is the longest a session may stay unused. A client may ask for less.
	Expiry time.Duration
	// MaxCount is the largest number of sessions, MaxBytes what they may take together.
	MaxCount int
	MaxBytes int64
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Info describes a session as clients see it.
type Info struct {
	// Name is the id.
	Name string
	// Path is the session's folder, Image the file in it or, for several files, the folder of them. Both are absolute.
	Path, Image string
	Created     time.Time
	LastAccess  time.Time
	Expiry      time.Duration

	image string // relative to the folder
	bytes int64
}

// Object is the info's wire form.
func (i *Info) Object() *api.Object {
	return api.NewObject("name", i.Name, "path", i.Path, "image", i.Image, "meta", &api.Object{},
		"create_ts", i.Created.Unix(), "last_access_ts", i.LastAccess.Unix(), "expiry", int64(i.Expiry/time.Second))
}

func (i *Info) expired(now time.Time) bool { return now.Sub(i.LastAccess) > i.Expiry }

// Upload is a file for a new session.
type Upload struct {
	// Name is the client's name for it. Only the base name counts.
	Name string
	// Path is where the bytes are.
	Path string
}

// Store holds the sessions of one folder. It is safe for concurrent use; one server per folder.
type Store struct {
	o    Options
	dir  string
	root *os.Root

	mu       sync.Mutex
	sessions map[string]*Info
	bytes    int64
}

// Open reads the sessions that are in the folder and removes the expired ones.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Expiry < time.Second || o.MaxCount < 1 || o.MaxBytes < 1 {
		return nil, fmt.Errorf("sessions: expiry %v, %d sessions, %d bytes, want all positive and at least one second", o.Expiry, o.MaxCount, o.MaxBytes)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	s := &Store{o: o, dir: dir, root: root, sessions: make(map[string]*Info)}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("sessions in %s: %w", dir, err), root.Close())
	}
	s.Sweep()
	return s, nil
}

// Close lets go of the folder. Sessions stay on disk.
func (s *Store) Close() error { return s.root.Close() }

// load takes over the sessions on disk. What does not read as one is left alone.
func (s *Store) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !ValidID(e.Name()) {
			continue
		}
		info, err := s.read(e.Name())
		if err != nil {
			continue
		}
		s.sessions[info.Name] = info
		s.bytes += info.bytes
	}
	return nil
}

// meta is the file meta.info: the incumbent's keys, with the image as a path.
type meta struct {
	Image      string `json:"image"`
	Created    int64  `json:"create_ts"`
	LastAccess int64  `json:"last_access_ts"`
	Expiry     int64  `json:"expiry"`
}

func (s *Store) read(id string) (*Info, error) {
	text, err := s.root.ReadFile(filepath.Join(id, metaName))
	if err != nil {
		return nil, err
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	image := api.BaseName(m.Image)
	if image == "" || m.Expiry < 1 || m.Expiry > int64(s.o.Expiry/time.Second) {
		return nil, fmt.Errorf("session %s: %s has no image or an expiry of %d s", id, metaName, m.Expiry)
	}
	info := s.info(id, image)
	info.Created, info.LastAccess = time.Unix(m.Created, 0), time.Unix(m.LastAccess, 0)
	info.Expiry = time.Duration(m.Expiry) * time.Second
	info.bytes = s.size(filepath.Join(id, image))
	return info, nil
}

func (s *Store) info(id, image string) *Info {
	path := filepath.Join(s.dir, id)
	return &Info{Name: id, Path: path, Image: filepath.Join(path, image), image: image}
}

func (s *Store) size(path string) int64 {
	var total int64
	_ = filepath.WalkDir(filepath.Join(s.dir, path), func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil // a file that just went away does not count
	})
	return total
}

// ValidID reports whether a text is a session's id in its one canonical form.
func ValidID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// Create makes a session of uploaded files, at least one. One file is the session's image; several become a folder. With unpack
// a single zip, tar or tar.gz archive is unpacked into a folder instead. An expiry of 0 or beyond the store's means the
// store's.
func (s *Store) Create(files []Upload, expiry time.Duration, unpack bool) (*Info, error) {
	if len(files) == 0 {
		return nil, errors.New("a session needs at least one file")
	}
	s.Sweep()
	if expiry < time.Second || expiry > s.o.Expiry {
		expiry = s.o.Expiry
	}
	room, err := s.room()
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	if err := s.root.Mkdir(id, 0o700); err != nil {
		return nil, fmt.Errorf("making session %s: %w", id, err)
	}
	info, err := s.fill(id, files, unpack, room)
	if err == nil {
		info.Created = s.o.Now()
		info.LastAccess, info.Expiry = info.Created, expiry
		err = s.writeMeta(info)
	}
	if err == nil {
		err = s.enter(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making session %s: %w", id, err), s.root.RemoveAll(id))
	}
	return info.copy(), nil
}

func (i *Info) copy() *Info {
	c := *i
	return &c
}

// room is how many bytes a new session may take.
func (s *Store) room() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.o.MaxCount {
		return 0, fmt.Errorf("%w: there are %d, the most allowed", ErrFull, len(s.sessions))
	}
	return s.o.MaxBytes - s.bytes, nil
}

// enter counts a finished session in, unless others took the room meanwhile.
func (s *Store) enter(info *Info) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.o.MaxCount || s.bytes+info.bytes > s.o.MaxBytes {
		return ErrFull
	}
	s.sessions[info.Name] = info
	s.bytes += info.bytes
	return nil
}

func (s *Store) fill(id string, files []Upload, unpack bool, room int64) (*Info, error) {
	if len(files) == 1 && !unpack {
		name := imageName(files[0].Name)
		n, err := s.copyIn(filepath.Join(id, name), files[0].Path, room)
		if err != nil {
			return nil, err
		}
		info := s.info(id, name)
		info.bytes = n
		return info, nil
	}
	folder := api.RandomFileName("")
	if err := s.root.Mkdir(filepath.Join(id, folder), 0o700); err != nil {
		return nil, err
	}
	info := s.info(id, folder)
	for i, file := range files {
		var n int64
		var err error
		if unpack {
			n, err = s.unpack(filepath.Join(id, folder), file.Path, room-info.bytes)
		} else {
			n, err = s.copyIn(filepath.Join(id, folder, fmt.Sprintf("%04d_%s", i, imageName(file.Name))), file.Path, room-info.bytes)
		}
		if err != nil {
			return nil, err
		}
		info.bytes += n
	}
	return info, nil
}

// imageName is the name under which an upload is stored. It keeps the client's, from which the format is read.
func imageName(name string) string {
	name = api.BaseName(name)
	if name == "" || name == metaName || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == ':' }) {
		return api.RandomFileName(storableExt(name))
	}
	return name
}

func storableExt(name string) string {
	if name == "" {
		return api.DefaultExt
	}
	if ext, err := api.CheckResultExt(api.Ext(name)); err == nil {
		return ext
	}
	return ""
}

func (s *Store) copyIn(name, from string, room int64) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // only read
	return s.write(name, in, room)
}

// write stores at most room bytes in a new file.
func (s *Store) write(name string, r io.Reader, room int64) (int64, error) {
	out, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(r, room+1))
	if err := errors.Join(err, out.Close()); err != nil {
		return 0, err
	}
	if n > room {
		return 0, fmt.Errorf("%w: sessions may take %d bytes together", ErrFull, s.o.MaxBytes)
	}
	return n, nil
}

func (s *Store) writeMeta(info *Info) error {
	text, err := api.Encode(info.Object())
	if err != nil {
		return err
	}
	name := filepath.Join(info.Name, metaName)
	if err := s.root.WriteFile(name+".new", text, 0o600); err != nil {
		return err
	}
	return s.root.Rename(name+".new", name)
}

// Get returns a session; touch counts as a use, from which the expiry runs anew.
func (s *Store) Get(id string, touch bool) (*Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if touch {
		info.LastAccess = s.o.Now()
		if err := s.writeMeta(info); err != nil {
			return nil, fmt.Errorf("session %s: %w", id, err)
		}
	}
	return info.copy(), nil
}

func (s *Store) find(id string) (*Info, error) {
	info, ok := s.sessions[id]
	if !ok || info.expired(s.o.Now()) {
		return nil, fmt.Errorf("session %q: %w", id, ErrNotFound)
	}
	return info, nil
}

// OpenImage opens the image of a session of one file. For a session of several it returns the folder, which reads as an error.
func (s *Store) OpenImage(id string) (*os.File, *Info, error) {
	info, err := s.Get(id, false)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.root.Open(filepath.Join(id, info.image))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("session %q has lost its image: %w", id, ErrNotFound)
	}
	return f, info, err
}

// Folder gives the files of a session of several, whose image they are together. A session of one is ErrOneFile. The folder is not
// for longer than the session.
func (s *Store) Folder(id string) (fs.FS, error) {
	info, err := s.Get(id, false)
	if err != nil {
		return nil, err
	}
	name := filepath.ToSlash(filepath.Join(id, info.image))
	stat, err := s.root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("session %q has lost its image: %w", id, ErrNotFound)
	}
	if !stat.IsDir() {
		return nil, fmt.Errorf("session %q: %w", id, ErrOneFile)
	}
	return fs.Sub(s.root.FS(), name)
}

// Delete removes a session with its files and returns what it was.
func (s *Store) Delete(id string) (*Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if err := s.remove(info); err != nil {
		return nil, fmt.Errorf("deleting session %s: %w", id, err)
	}
	return info, nil
}

func (s *Store) remove(info *Info) error {
	if err := s.root.RemoveAll(info.Name); err != nil {
		return err
	}
	delete(s.sessions, info.Name)
	s.bytes -= info.bytes
	return nil
}

// Sweep removes the expired sessions and returns their ids. What cannot be removed is tried again the next time.
func (s *Store) Sweep() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []string
	for id, info := range s.sessions {
		if info.expired(s.o.Now()) && s.remove(info) == nil {
			gone = append(gone, id)
		}
	}
	return gone
}

// Run sweeps every SweepInterval until ctx ends, and tells expired which sessions went.
func (s *Store) Run(ctx context.Context, expired func(ids []string)) {
	tick := time.NewTicker(SweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if gone := s.Sweep(); len(gone) > 0 {
				expired(gone)
			}
		}
	}
}
