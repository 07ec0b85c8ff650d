package localstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/localstore"
)

// folder makes a folder with files of the given paths, which hold their own names.
func folder(t *testing.T, paths ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range paths {
		write(t, filepath.Join(dir, path), path)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// content is what the store has: each image with its extension and its labels.
func content(t *testing.T, s datastore.Store) []string {
	t.Helper()
	images, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, image := range images {
		line := image.ID + image.Ext
		tags, err := s.Tags(t.Context(), image.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			label, err := s.Label(t.Context(), image.ID, tag)
			if err != nil {
				t.Fatal(err)
			}
			line += " " + tag + label.Ext
		}
		list = append(list, line)
	}
	return list
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// incumbentFolder is a folder as MONAI Label leaves it, with all files that one of the indexes in testdata names.
func incumbentFolder(t *testing.T, index string) string {
	t.Helper()
	text := readFile(t, "testdata", index)
	var doc struct {
		Objects map[string]struct {
			Image  struct{ Ext string }
			Labels map[string]struct{ Ext string }
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	paths := []string{".lock"}
	for id, o := range doc.Objects {
		paths = append(paths, id+o.Image.Ext)
		for tag, l := range o.Labels {
			paths = append(paths, filepath.Join("labels", tag, id+l.Ext))
		}
	}
	dir := folder(t, paths...)
	write(t, filepath.Join(dir, "datastore_v2.json"), text)
	return dir
}

func TestSwapWithTheIncumbent(t *testing.T) {
	for _, index := range []string{"uploads.json", "predictions.json"} {
		dir := incumbentFolder(t, index)
		before := readFile(t, dir, "datastore_v2.json")
		s := open(t, localstore.Options{Dir: dir})
		doc, err := s.Document(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.Encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(before)); err != nil {
			t.Fatal(err)
		}
		same(t, want.String(), string(got))
		same(t, before, readFile(t, dir, "datastore_v2.json")) // nothing to change: byte for byte
		// One member more, and all else stays as it was.
		if err := s.UpdateImageInfo(t.Context(), "case_0", api.NewObject("score", 0.5)); err != nil {
			t.Fatal(err)
		}
		added := "\"name\": \"case_0.nii.gz\""
		at := strings.Index(before, added) + len(added)
		same(t, before[:at]+",\n          \"score\": 0.5"+before[at:], readFile(t, dir, "datastore_v2.json"))
	}
}

func TestSwapKeepsForeignFiles(t *testing.T) {
	dir := incumbentFolder(t, "uploads.json")
	foreign := []string{"README.txt", "labels/final/case_0_clicks.json", "labels/final/orphan.nii.gz", "sub/case_9.nii.gz", "labels/loose.nii.gz", ".hidden.nii.gz"}
	for _, path := range foreign {
		write(t, filepath.Join(dir, path), path)
	}
	var log bytes.Buffer
	for range 2 {
		s, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns, Log: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		same(t, []string{"case_1.nii.gz", "case_0.nii.gz final.nii.gz", "up1.nii.gz final.nii.gz v1.nrrd bin.bin", "my.nii.gz", "dcm1.dcm"}, content(t, s))
		if err := s.UpdateImageInfo(t.Context(), "my", nil); err != nil {
			t.Fatal(err)
		}
		same(t, 1, strings.Count(log.String(), "left alone"))
		log.Reset()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range foreign {
		same(t, path, readFile(t, dir, path))
	}
}

func TestFolderWithoutIndex(t *testing.T) {
	dir := folder(t, "b.nii.gz", "a.nrrd", "x.seg.nrrd", "b.nii", "photo.png", "notes.txt",
		"labels/final/a.nii.gz", "labels/final/b.seg.nrrd", "labels/final/x.seg.nrrd", "labels/v 1/a.nrrd", "labels/v 1/a.seg.nrrd", "labels/original/nobody.nii.gz")
	now := time.Unix(1_800_000_000, 0)
	s := open(t, localstore.Options{Dir: dir, Now: func() time.Time { return now }})
	want := []string{"a.nrrd final.nii.gz v 1.nrrd", "b.nii final.seg.nrrd", "photo.png", "x.seg.nrrd final.nrrd"}
	same(t, want, content(t, s))
	item, err := s.Image(t.Context(), "photo")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := api.Encode(item.Info)
	same(t, `{"ts":1800000000,"name":"photo.png"}`, string(info))
	same(t, want, content(t, open(t, localstore.Options{Dir: dir}))) // and from the index
}

func TestVanishedFilesAreDropped(t *testing.T) {
	dir := incumbentFolder(t, "uploads.json")
	for _, path := range []string{"case_1.nii.gz", "labels/final/up1.nii.gz", "labels/bin/up1.bin"} {
		if err := os.Remove(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"case_0.nii.gz final.nii.gz", "up1.nii.gz v1.nrrd", "my.nii.gz", "dcm1.dcm"}
	same(t, want, content(t, open(t, localstore.Options{Dir: dir})))
	if strings.Contains(readFile(t, dir, "datastore_v2.json"), "case_1") {
		t.Error("a vanished image is still in the index")
	}
}

// A folder of images that cannot be found, such as a mount that is missing, is not an empty one.
func TestMissingImagesFolderCostsNothing(t *testing.T) {
	index := `{"name":"n","description":"d","images_dir":"images","labels_dir":"labels","objects":{"a":{"image":{"ext":".nii.gz","info":{"k":1}},"labels":{}}}}`
	dir := t.TempDir()
	write(t, filepath.Join(dir, "datastore_v2.json"), index)
	_, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want that the folder is not there", err)
	}
	same(t, index, readFile(t, dir, "datastore_v2.json"))
	write(t, filepath.Join(dir, "images", "a.nii.gz"), "x")
	same(t, []string{"a.nii.gz"}, content(t, open(t, localstore.Options{Dir: dir})))
}

func TestBrokenIndexIsNeverWrittenOver(t *testing.T) {
	for _, broken := range []string{"", "{", `{"name": "x", "objects": {"a": {"image"`, `{"objects":[]}`} {
		dir := folder(t, "a.nii.gz")
		write(t, filepath.Join(dir, "datastore_v2.json"), broken)
		_, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns})
		if err == nil || !strings.Contains(err.Error(), "datastore_v2.json is no index of a datastore and is left alone") {
			t.Errorf("%q: error is %v, want that the index is none", broken, err)
		}
		same(t, broken, readFile(t, dir, "datastore_v2.json"))
	}
}

func TestIndexBrokenWhileOpen(t *testing.T) {
	ctx := t.Context()
	dir := folder(t, "a.nii.gz", "b.nii.gz")
	var log bytes.Buffer
	s, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	good := readFile(t, dir, "datastore_v2.json")
	write(t, filepath.Join(dir, "datastore_v2.json"), good[:len(good)/2])
	same(t, []string{"a.nii.gz", "b.nii.gz"}, content(t, s))  // reading goes on
	same(t, 1, strings.Count(log.String(), "cannot be read")) // said once, not with every call
	for range 2 {
		if err := s.UpdateImageInfo(ctx, "a", api.NewObject("k", 1)); err == nil || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("a change over a broken index: %v, want a refusal", err)
		}
	}
	same(t, good[:len(good)/2], readFile(t, dir, "datastore_v2.json"))
	write(t, filepath.Join(dir, "datastore_v2.json"), good+"\n")
	if err := s.UpdateImageInfo(ctx, "a", api.NewObject("k", 1)); err != nil {
		t.Errorf("a change after the index was mended: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "datastore_v2.json")); err != nil {
		t.Fatal(err)
	}
	item, err := s.Image(ctx, "a")
	if err != nil || !item.Info.Has("k") {
		t.Errorf("after the index was removed: %v, %v, want what was known", item.Info, err)
	}
	if !strings.Contains(readFile(t, dir, "datastore_v2.json"), `"k": 1`) {
		t.Error("a removed index is not written again")
	}
}

func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	dir := folder(t, "a.nii.gz", "labels/final/a.nii.gz")
	before := tree(t, dir)
	s := open(t, localstore.Options{Dir: dir, ReadOnly: true, AutoReload: true})
	same(t, []string{"a.nii.gz final.nii.gz"}, content(t, s))
	for _, err := range []error{
		s.PutImage(ctx, "b", ".nii", strings.NewReader("x"), nil), s.PutLabel(ctx, "a", "v1", ".nii", strings.NewReader("x"), nil),
		s.DeleteImage(ctx, "a"), s.DeleteLabel(ctx, "a", "final"), s.UpdateImageInfo(ctx, "a", nil), s.UpdateLabelInfo(ctx, "a", "final", nil),
	} {
		if !errors.Is(err, datastore.ErrReadOnly) {
			t.Errorf("error is %v, want %v", err, datastore.ErrReadOnly)
		}
	}
	same(t, before, tree(t, dir))
	write(t, filepath.Join(dir, "b.nii.gz"), "new")
	eventually(t, func() bool { return len(content(t, s)) == 2 })
	if _, err := localstore.Open(localstore.Options{Dir: filepath.Join(dir, "none"), Patterns: patterns, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a read-only store in no folder: %v", err)
	}
}

// tree lists all files below a folder.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// eventually waits for what a notification brings about.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the store does not notice")
		}
	}
}

func TestFolderIsWatched(t *testing.T) {
	for name, rescan := range map[string]time.Duration{"by notification": time.Hour, "by looking again": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, "a.nii.gz")
			s := open(t, localstore.Options{Dir: dir, AutoReload: true, Rescan: rescan})
			is := func(want ...string) func() bool { return func() bool { return cmp.Equal(want, content(t, s)) } }
			write(t, filepath.Join(dir, "b.nii.gz"), "new")
			eventually(t, is("a.nii.gz", "b.nii.gz"))
			write(t, filepath.Join(dir, "labels", "final", "b.nii.gz"), "new")
			eventually(t, is("a.nii.gz", "b.nii.gz final.nii.gz"))
			write(t, filepath.Join(dir, "labels", "new tag", "a.nrrd"), "new")
			eventually(t, is("a.nii.gz new tag.nrrd", "b.nii.gz final.nii.gz"))
			write(t, filepath.Join(dir, "labels", "new tag", "b.nrrd"), "new")
			eventually(t, is("a.nii.gz new tag.nrrd", "b.nii.gz final.nii.gz new tag.nrrd"))
			if err := errors.Join(os.Remove(filepath.Join(dir, "b.nii.gz")), os.Remove(filepath.Join(dir, "labels", "new tag", "a.nrrd"))); err != nil {
				t.Fatal(err)
			}
			eventually(t, is("a.nii.gz"))
		})
	}
}

func TestLinksOutOfTheFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege on Windows")
	}
	ctx := t.Context()
	secret := folder(t, "secret.nii.gz", "labels/a.nii.gz")
	dir := folder(t, "a.nii.gz", "real/b.nii.gz")
	for name, target := range map[string]string{
		"out.nii.gz": filepath.Join(secret, "secret.nii.gz"), "dangling.nii.gz": "nowhere", "up.nii.gz": "../" + filepath.Base(secret) + "/secret.nii.gz",
		"in.nii.gz": "real/b.nii.gz", "labels": secret,
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns}); err == nil {
		t.Error("a folder of labels outside the store is taken")
	}
	if err := os.Remove(filepath.Join(dir, "labels")); err != nil {
		t.Fatal(err)
	}
	s := open(t, localstore.Options{Dir: dir})
	same(t, []string{"a.nii.gz", "in.nii.gz"}, content(t, s))
	if err := s.PutImage(ctx, "out", ".nii.gz", strings.NewReader("mine"), nil); err != nil {
		t.Fatal(err) // takes the link's place
	}
	if err := s.DeleteImage(ctx, "in"); err != nil {
		t.Fatal(err)
	}
	same(t, "secret.nii.gz", readFile(t, secret, "secret.nii.gz"))
	same(t, "real/b.nii.gz", readFile(t, dir, "real", "b.nii.gz"))
}

func TestOwnFilesCannotBeImages(t *testing.T) {
	ctx := t.Context()
	s := open(t, localstore.Options{Patterns: []string{"*.nii.gz", "*.json"}})
	for _, c := range [][2]string{{"datastore_v2", ".json"}, {"datastore_v2.json", ""}, {"labels", ""}} {
		if err := s.PutImage(ctx, c[0], c[1], strings.NewReader("x"), nil); !errors.Is(err, datastore.ErrConflict) {
			t.Errorf("image %q with %q: %v, want %v", c[0], c[1], err, datastore.ErrConflict)
		}
	}
	same(t, []string{}, content(t, s))
	if err := s.PutImage(ctx, "IM0001", "", strings.NewReader("dicom"), nil); err != nil {
		t.Errorf("an image without an extension: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s := open(t, localstore.Options{Dir: dir, MaxBytes: 10})
	if err := s.PutImage(ctx, "a", ".nii", strings.NewReader("0123456789"), nil); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	for _, err := range []error{
		s.PutImage(ctx, "a", ".nii", strings.NewReader("0123456789x"), nil),
		s.PutLabel(ctx, "a", "final", ".nii", strings.NewReader("0123456789x"), nil),
	} {
		if !errors.Is(err, datastore.ErrTooLarge) {
			t.Errorf("error is %v, want %v", err, datastore.ErrTooLarge)
		}
	}
	same(t, before, tree(t, dir))
}

func TestDeletedImageLeavesNoLabel(t *testing.T) {
	ctx := t.Context()
	dir := folder(t, "a.nii.gz", "b.nii.gz", "labels/final/a.nii.gz", "labels/final/b.nii.gz", "labels/v1/a.nrrd")
	s := open(t, localstore.Options{Dir: dir})
	write(t, filepath.Join(dir, "labels", "dropped", "a.seg.nrrd"), "not in the index yet")
	if err := s.DeleteImage(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for _, path := range tree(t, dir) {
		if strings.HasPrefix(filepath.Base(path), "a.") {
			t.Errorf("%s is left of a deleted image", path)
		}
	}
	same(t, []string{"b.nii.gz final.nii.gz"}, content(t, s))
}

// Two stores on one folder see each other's changes at once: each has its own lock on .lock, as two processes have.
func TestTwoStoresOnOneFolder(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	stores := []*localstore.Store{open(t, localstore.Options{Dir: dir}), open(t, localstore.Options{Dir: dir, AutoReload: true})}
	const rounds = 15
	var group sync.WaitGroup
	for n, s := range stores {
		group.Go(func() {
			for i := range rounds {
				id := fmt.Sprintf("%d-%d", n, i)
				err := errors.Join(
					s.PutImage(ctx, id, ".nii.gz", strings.NewReader(id), nil),
					s.PutLabel(ctx, id, "final", ".nii.gz", strings.NewReader(id), nil),
					s.UpdateImageInfo(ctx, id, api.NewObject("by", n)))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, s := range stores {
		stats, err := s.Stats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		same(t, datastore.Stats{Total: 2 * rounds, Completed: 2 * rounds, Tags: []datastore.TagCount{{Tag: "final", Count: 2 * rounds}}}, stats)
		items, err := s.Images(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items { // files are found again in any case, but an update that was lost is lost
			if by, ok := item.Info.Number("by"); !ok || fmt.Sprint(by) != item.ID[:1] {
				t.Errorf("image %s is by %v, want what its store wrote", item.ID, by)
			}
		}
	}
	if err := stores[0].DeleteImage(ctx, "1-3"); err != nil {
		t.Fatal(err)
	}
	if _, err := stores[1].Image(ctx, "1-3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image the other store deleted: %v", err)
	}
	same(t, content(t, stores[0]), content(t, stores[1]))
}

// The incumbent writes its index in place, and drops the labels of an image that it overwrites.
func TestIncumbentBesideUs(t *testing.T) {
	for name, first := range map[string]func(*localstore.Store) error{
		"read":   func(*localstore.Store) error { return nil },
		"change": func(s *localstore.Store) error { return s.UpdateImageInfo(t.Context(), "b", nil) },
	} {
		t.Run("first a "+name, func(t *testing.T) { testIncumbentBesideUs(t, first) })
	}
}

func testIncumbentBesideUs(t *testing.T, first func(*localstore.Store) error) {
	dir := folder(t, "a.nii.gz", "labels/final/a.nii.gz")
	s := open(t, localstore.Options{Dir: dir})
	write(t, filepath.Join(dir, "labels", "final", "b.nii.gz"), "label")
	write(t, filepath.Join(dir, "b.nii.gz"), "image")
	write(t, filepath.Join(dir, "datastore_v2.json"), `{"name":"renamed","description":"d","images_dir":".","labels_dir":"labels","objects":{`+
		`"b":{"image":{"ext":".nii.gz","info":{"user":"admin"}},"labels":{}},"a":{"image":{"ext":".nii.gz","info":{"k":1}},"labels":{}}}}`)
	if err := first(s); err != nil {
		t.Fatal(err)
	}
	same(t, []string{"b.nii.gz final.nii.gz", "a.nii.gz final.nii.gz"}, content(t, s))
	name, err := s.Name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "renamed", name)
}

func TestLockOfAnotherProcess(t *testing.T) {
	ctx := t.Context()
	dir := folder(t, "a.nii.gz")
	s := open(t, localstore.Options{Dir: dir, LockTimeout: 50 * time.Millisecond})
	other := flock.New(filepath.Join(dir, ".lock"))
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateImageInfo(ctx, "a", nil); err == nil || !strings.Contains(err.Error(), "another process holds") {
		t.Errorf("error is %v, want that another process holds the lock", err)
	}
	same(t, []string{"a.nii.gz"}, content(t, s)) // reading goes on
	cut, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := s.UpdateImageInfo(cut, "a", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the caller's deadline", err)
	}
	if err := errors.Join(os.Remove(other.Path()), other.Unlock()); err != nil { // as some versions of Python's filelock
		t.Fatal(err)
	}
	if err := s.UpdateImageInfo(ctx, "a", nil); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

func TestStaleTemporaryFiles(t *testing.T) {
	dir := folder(t, "a.nii.gz", ".scrawl-OLD.tmp", "labels/final/.scrawl-OLD.tmp", ".scrawl-NEW.tmp", ".scrawl/state", ".other.tmp")
	for _, path := range []string{".scrawl-OLD.tmp", "labels/final/.scrawl-OLD.tmp", ".other.tmp"} {
		if err := os.Chtimes(filepath.Join(dir, path), time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	same(t, []string{"a.nii.gz"}, content(t, open(t, localstore.Options{Dir: dir})))
	got := slices.DeleteFunc(tree(t, dir), func(path string) bool { return !strings.HasPrefix(filepath.Base(path), ".") || path == "." })
	same(t, []string{".lock", ".other.tmp", ".scrawl", ".scrawl-NEW.tmp"}, got)
}

// victimDir is the folder in which a copy of this test writes until it is killed.
const victimDir = "SCRAWL_TEST_VICTIM_DIR"

func crashText(n int) string { return strings.Repeat(fmt.Sprintf("%08d ", n), 20000) }

// TestCrash kills a process that writes, again and again, and looks whether every file is whole and the index can be read.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(victimDir); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	if testing.Short() {
		t.Skip("starts processes; leave out -short")
	}
	dir := t.TempDir()
	for round := range 12 {
		victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
		victim.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it has begun
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round*round) * time.Millisecond)
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = victim.Wait() // it was killed
		checkAfterCrash(t, dir)
	}
}

func writeUntilKilled(t *testing.T, dir string) {
	s := open(t, localstore.Options{Dir: dir})
	fmt.Print("\n")
	for n := 0; ; n++ {
		id := fmt.Sprintf("image %d", n%3)
		text := crashText(n)
		err := s.PutImage(t.Context(), id, []string{".nii", ".nrrd"}[n%2], strings.NewReader(text), api.NewObject("n", n))
		if err == nil {
			err = s.PutLabel(t.Context(), id, "final", []string{".nrrd", ".seg.nrrd"}[n%2], strings.NewReader(text), api.NewObject("n", n))
		}
		if err == nil && n%7 == 6 {
			err = s.DeleteImage(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func checkAfterCrash(t *testing.T, dir string) {
	t.Helper()
	s, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	images, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range images {
		if label, err := s.Label(t.Context(), item.ID, "final"); err == nil {
			checkWhole(t, label)
		}
		checkWhole(t, item)
	}
}

func checkWhole(t *testing.T, item datastore.Item) {
	t.Helper()
	text := readFile(t, item.Path)
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil || text != crashText(n) {
		t.Errorf("%s is not whole: %d bytes, %v", item.Path, len(text), err)
	}
}

func BenchmarkPutLabel(b *testing.B) {
	for _, images := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("of %d images", images), func(b *testing.B) {
			dir := b.TempDir()
			for i := range images {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("case_%d.nii.gz", i)), nil, 0o644); err != nil {
					b.Fatal(err)
				}
			}
			s, err := localstore.Open(localstore.Options{Dir: dir, Patterns: patterns})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }() // the folder goes, too
			for b.Loop() {
				if err := s.PutLabel(b.Context(), "case_1", "final", ".nii.gz", strings.NewReader("mask"), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
