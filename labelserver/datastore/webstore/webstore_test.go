package webstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/storetest"
)

func TestStore(t *testing.T) {
	storetest.RunLabels(t, func(t *testing.T, ids ...string) datastore.Store {
		archive := dicomwebtest.NewArchive(t)
		for _, id := range ids {
			addSeries(archive, id, "CT", 1)
		}
		client, err := dicomweb.New(dicomweb.Options{URL: archive.URL(), Backoff: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Options{Client: client, Imaging: &fakeImaging{}, Dir: t.TempDir(), Search: []url.Values{{}}, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func idsOf(items []datastore.Item) []string {
	var ids []string
	for _, item := range items {
		ids = append(ids, item.ID)
	}
	return ids
}

func TestImages(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	images, err := b.Images(ctx)
	b.must(err)
	if diff := cmp.Diff([]string{ctOne, ctTwo, mrOne}, idsOf(images)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if n := b.archive.Count("GET", "series/"+ctOne); n != 0 {
		t.Errorf("listing fetches series: %d", n)
	}
	info := images[0].Info
	if diff := cmp.Diff([]string{"SeriesInstanceUID", "StudyDate", "StudyTime", "Modality", "RetrieveURL", "PatientID", "StudyInstanceUID", "ts", "name"}, info.Names()); diff != "" {
		t.Errorf("members of an info (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"SeriesInstanceUID": ctOne, "StudyDate": "20240102", "StudyTime": "101112", "Modality": "CT", "PatientID": "P1", "StudyInstanceUID": study,
		"RetrieveURL": b.archive.URL() + "/studies/1.2/series/1.2.3", "name": ctOne + ".nii.gz"} {
		if got, _ := info.Text(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	want := []float32{10, 10, 10, 10, 11, 11, 11, 11, 12, 12, 12, 12}
	for range 2 {
		if got := b.voxels(ctOne); !slices.Equal(got, want) {
			t.Errorf("voxels are %v, want %v", got, want)
		}
	}
	if n := b.archive.Count("GET", "series/"+ctOne); n != 1 {
		t.Errorf("a series was fetched %d times", n)
	}
	item, err := b.Image(ctx, ctOne)
	b.must(err)
	if _, err := os.Stat(item.Path); err != nil || filepath.Base(item.Path) != ctOne+".nii.gz" || item.Ext != ".nii.gz" {
		t.Errorf("path %s, extension %s: %v", item.Path, item.Ext, err)
	}
	folder, names, err := item.Series(ctx)
	if err != nil || len(names) != 3 {
		t.Fatalf("files of the series: %v, %v", names, err)
	}
	if text, err := fs.ReadFile(folder, names[0]); err != nil || !bytes.Equal(text, b.archive.Instances(dicomweb.TagSOPInstanceUID, ctOne+".1")[0].File) {
		t.Errorf("%s is not the archive's instance: %v", names[0], err)
	}
	// A series that arrives later, in the list and, if no filter fits it, by its UID.
	addSeries(b.archive, "1.2.6", "CT", 1)
	addSeries(b.archive, "1.2.7", "US", 1)
	if total, _ := b.completed(); total != 4 {
		t.Errorf("%d images after one came", total)
	}
	for _, id := range []string{"1.2.6", "1.2.7"} {
		if got := b.voxels(id); len(got) != 4 {
			t.Errorf("series %s has %d voxels", id, len(got))
		}
	}
	b.fails(b.PutImage(ctx, "1.2.8", ".nii.gz", strings.NewReader("x"), nil), datastore.ErrReadOnly, "archive")
	b.fails(b.DeleteImage(ctx, ctOne), datastore.ErrReadOnly, "archive")
}

// A series is fetched once however many ask for it at the same time, and a caller that leaves does not end it for others.
func TestConcurrentFetch(t *testing.T) {
	b := newBench(t)
	b.archive.Fail(dicomwebtest.Fault{Suffix: "series/" + ctOne, Do: dicomwebtest.Late(100 * time.Millisecond)})
	gone, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	item, err := b.Image(gone, ctOne)
	b.must(err)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := item.Open(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that left: %v", err)
		}
	})
	for range 8 {
		group.Go(func() {
			if err := b.openErr(ctOne); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := b.archive.Count("GET", "series/"+ctOne); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestFetchThatFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault dicomwebtest.Fault
		want  error // nil: it works all the same
		says  string
	}{
		{"cut half-way once", dicomwebtest.Fault{Suffix: "series/" + ctOne, Do: dicomwebtest.CutAfter(70_000)}, nil, ""},
		{"cut half-way, and an instance too, once", dicomwebtest.Fault{Times: 2, Suffix: ".3", Do: dicomwebtest.CutAfter(70_000)}, nil, ""},
		{"silent half-way", dicomwebtest.Fault{Suffix: "series/" + ctOne, Do: dicomwebtest.Silence(70_000, time.Minute)}, nil, ""},
		{"busy for a while", dicomwebtest.Fault{Times: 3, Suffix: ctOne, Do: dicomwebtest.Status(503, "")}, nil, ""},
		{"no list of instances", dicomwebtest.Fault{Suffix: "/instances", Do: dicomwebtest.Status(400, "")}, nil, ""},
		{"credentials changed", dicomwebtest.Fault{Suffix: ctOne, Do: dicomwebtest.Status(401, "")}, datastore.ErrUnavailable, "credentials"},
		{"a web page", dicomwebtest.Fault{Suffix: ctOne, Do: dicomwebtest.Status(200, "<html>", "Content-Type: text/html")}, datastore.ErrUnavailable, "text/html"},
		{"instances that are no DICOM", dicomwebtest.Fault{Suffix: ctOne, Do: dicomwebtest.Status(200, "junk", "Content-Type: application/dicom")}, datastore.ErrUnavailable, "DICM"},
		{"gone in between", dicomwebtest.Fault{Suffix: "/instances", Do: dicomwebtest.Status(204, "")}, fs.ErrNotExist, ctOne},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Refresh = time.Hour })
			b.web = append(b.web, func(o *dicomweb.Options) { o.ReadTimeout = 100 * time.Millisecond })
			b.reopen()
			if strings.HasPrefix(c.name, "cut half-way, and") {
				b.archive.Fail(dicomwebtest.Fault{Suffix: "series/" + ctOne, Do: dicomwebtest.CutAfter(70_000)})
			}
			b.archive.Fail(c.fault)
			err := b.openErr(ctOne)
			if c.want != nil {
				b.fails(err, c.want, c.says)
			} else {
				b.must(err)
			}
			left, globErr := filepath.Glob(filepath.Join(b.dir, "cache", tempDirPrefix+"*"))
			if globErr != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, globErr)
			}
			b.archive.Mend()
			if c.want != nil {
				if _, ok := b.cache.entry(ctOne); ok {
					t.Error("half a series is in the cache")
				}
			}
			if got := b.voxels(ctOne); len(got) != 12 {
				t.Errorf("afterwards there are %d voxels, want 12", len(got))
			}
		})
	}
}

func TestArchiveDown(t *testing.T) {
	b := newBench(t)
	_ = b.voxels(ctOne)
	b.archive.Stop()
	if total, _ := b.completed(); total != 3 {
		t.Errorf("%d images in the last list", total)
	}
	if got := b.voxels(ctOne); len(got) != 12 {
		t.Errorf("a fetched series has %d voxels", len(got))
	}
	b.fails(b.openErr(ctTwo), datastore.ErrUnavailable, "refused")
	_, err := b.Image(t.Context(), "1.2.3.4.5")
	b.fails(err, datastore.ErrUnavailable)
	b.must(b.Close())
	b.fails(b.tryOpen(), datastore.ErrUnavailable, b.archive.URL())
}

// While the archive is silent, status is told from the last list, and the archive is not asked again and again.
func TestArchiveSilent(t *testing.T) {
	var passed atomic.Int64
	start := time.Now()
	b := newBench(t, func(o *Options) {
		o.Now, o.Refresh = func() time.Time { return start.Add(time.Duration(passed.Load())) }, time.Minute
	})
	b.archive.Fail(dicomwebtest.Fault{Do: dicomwebtest.Late(time.Hour)})
	passed.Store(int64(2 * time.Minute))
	asked := len(b.archive.Requests())
	for range 20 {
		if total, _ := b.completed(); total != 3 {
			t.Errorf("%d images", total)
		}
	}
	if n := len(b.archive.Requests()) - asked; n != 1 {
		t.Errorf("the archive was asked %d times", n)
	}
}

func TestSeriesThatChange(t *testing.T) {
	b := newBench(t)
	_ = b.voxels(ctOne)
	b.archive.Add(dicomwebtest.NewInstance(study, ctOne, ctOne+".4", "CT", bytes.Repeat([]byte{42}, 100), nil))
	if got := b.voxels(ctOne); len(got) != 16 || got[15] != 42 {
		t.Errorf("voxels after an instance came: %v", got)
	}
	b.archive.RemoveSeries(ctOne)
	item, err := b.Image(t.Context(), ctTwo) // the list is renewed
	b.must(err)
	b.archive.RemoveSeries(ctTwo)
	_, err = item.Open()
	b.fails(err, fs.ErrNotExist, ctTwo)
	_, err = b.Image(t.Context(), ctOne)
	b.fails(err, fs.ErrNotExist)
	if total, _ := b.completed(); total != 1 {
		t.Errorf("%d images are left", total)
	}
	// A series that was deleted leaves the cache as soon as somebody asks for it.
	b.change = append(b.change, func(o *Options) { o.Refresh = time.Hour })
	b.reopen()
	_ = b.voxels(mrOne)
	b.cache.validated[mrOne] = time.Time{}
	b.archive.RemoveSeries(mrOne)
	b.fails(b.openErr(mrOne), fs.ErrNotExist, mrOne)
	if _, err := os.Stat(b.cache.path(mrOne)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the series is still in the cache: %v", err)
	}
	if total, _ := b.completed(); total != 0 {
		t.Error("the series is still listed")
	}
}

func TestCache(t *testing.T) {
	now := time.Now()
	b := newBench(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.CacheBytes, o.CacheExpiry = 180_000, time.Hour
	})
	in := func() []string {
		var in []string
		for _, id := range []string{ctOne, ctTwo, mrOne} {
			if _, ok := b.cache.entry(id); ok {
				in = append(in, id)
			}
		}
		return in
	}
	_ = b.voxels(ctTwo) // 100 kB
	now = now.Add(time.Minute)
	_ = b.voxels(mrOne) // 50 kB
	now = now.Add(time.Minute)
	_ = b.voxels(ctTwo)
	now = now.Add(time.Minute)
	held, err := b.Image(t.Context(), mrOne)
	b.must(err)
	f, err := held.Open()
	b.must(err)
	now = now.Add(time.Minute)
	_ = b.voxels(ctTwo)
	_ = b.voxels(ctOne) // 150 kB: everything else has to go
	if diff := cmp.Diff([]string{ctOne}, in()); diff != "" {
		t.Errorf("in the cache (-want +got):\n%s", diff)
	}
	if _, err := io.ReadAll(f); err != nil || f.Close() != nil {
		t.Errorf("a file being read went away: %v", err)
	}
	now = now.Add(59 * time.Minute)
	b.must(b.cache.sweep(""))
	if len(in()) != 1 {
		t.Error("a series left before its time")
	}
	now = now.Add(2 * time.Minute)
	b.must(b.cache.sweep(""))
	if len(in()) != 0 {
		t.Error("a series has not expired")
	}
	// What a crash left half done is not taken for whole.
	_ = b.voxels(ctOne)
	b.must(os.Truncate(b.cache.path(ctOne, instancesDir, ctOne+".1.dcm"), 10))
	b.must(os.MkdirAll(filepath.Join(b.dir, "cache", tempDirPrefix+"x", instancesDir), 0o700))
	b.reopen()
	if got := b.voxels(ctOne); len(got) != 12 {
		t.Errorf("%d voxels", len(got))
	}
	if _, err := os.Stat(filepath.Join(b.dir, "cache", tempDirPrefix+"x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a process left behind stays: %v", err)
	}
	b.change = append(b.change, func(o *Options) { o.CacheBytes = 1000 })
	b.reopen()
	_ = b.voxels(ctTwo)
	_ = b.voxels(ctOne) // larger than the cache, and there as long as it is the last
	if diff := cmp.Diff([]string{ctOne}, in()); diff != "" {
		t.Errorf("in the cache (-want +got):\n%s", diff)
	}
	b.must(b.cache.sweep(""))
	b.change = append(b.change, func(o *Options) { o.MaxSeries = 1000 })
	b.reopen()
	b.fails(b.openErr(ctOne), datastore.ErrTooLarge, "1000 bytes")
	if err := b.tryOpen(); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server on the same cache: %v", err)
	}
}

func TestInfosSurvive(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	served := api.NewObject("strategy", api.NewObject("first", api.NewObject("ts", 1, "client_id", "me")), "Modality", "XX")
	b.must(b.UpdateImageInfo(ctx, ctOne, served))
	b.must(b.PutLabel(ctx, ctOne, "original", ".nii.gz", bytes.NewReader(mask(t, 3, 1)), api.NewObject("params", "p")))
	b.archive.RemoveSeries(ctOne)
	if _, err := b.Image(ctx, ctOne); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a series that was deleted: %v", err)
	}
	addSeries(b.archive, ctOne, "CT", 3)
	b.reopen()
	item, err := b.Image(ctx, ctOne)
	b.must(err)
	if got, _ := item.Info.Object("strategy"); !got.Has("first") {
		t.Errorf("info is %v", item.Info.Names())
	}
	if modality, _ := item.Info.Text("Modality"); modality != "CT" {
		t.Errorf("the archive's modality became %s", modality)
	}
	if got := b.labels(ctOne, "original"); got[0] != 1 {
		t.Errorf("label is %v", got)
	}
	doc, err := b.Document(ctx)
	b.must(err)
	objects, _ := doc.Object("objects")
	if diff := cmp.Diff([]string{ctOne, ctTwo, mrOne}, objects.Names()); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}
