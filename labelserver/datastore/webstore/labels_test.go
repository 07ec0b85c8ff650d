package webstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

func TestSubmit(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.must(b.submit(ctOne, 3, 0, 1, 2, 2))
	if total, completed := b.completed(); total != 3 || completed != 1 {
		t.Errorf("%d of %d images are completed at once, want 1 of 3", completed, total)
	}
	segs := b.segs()
	if len(segs) != 1 {
		t.Fatalf("the archive has %d segmentations", len(segs))
	}
	names := segmentationsOf(study, "", []dicomweb.Dataset{segs[0].Attributes})[0].segments
	if diff := cmp.Diff([]named{{Number: 1, Name: "spleen"}, {Number: 2, Name: "liver"}}, names); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	item, err := b.Label(ctx, ctOne, "final")
	b.must(err)
	if got, want := fmt.Sprint(item.Info.Names()), "[label_info client_id Modality PatientID StudyInstanceUID archive ts name SeriesInstanceUID]"; got != want {
		t.Errorf("members of the label's info are %s, want %s", got, want)
	}
	if uid, _ := item.Info.Text("SeriesInstanceUID"); uid != "2.25.1" || b.state(ctOne) != stateStored {
		t.Errorf("label is in series %s, %s", uid, b.state(ctOne))
	}
	if got := b.labels(ctOne, "final"); !slices.Equal(got[:4], []uint16{0, 1, 2, 2}) {
		t.Errorf("label is %v", got)
	}
	pairs, err := b.Labelled(ctx)
	b.must(err)
	unlabelled, err := b.Unlabelled(ctx)
	b.must(err)
	if len(pairs) != 1 || pairs[0].Image.ID != ctOne || len(unlabelled) != 2 {
		t.Errorf("%d pairs, unlabelled %v", len(pairs), idsOf(unlabelled))
	}
	// A second label replaces the first as what counts; the archive keeps both. After a restart, without what was kept of it, the newer
	// one is found in the archive.
	b.must(b.submit(ctOne, 3, 2, 2))
	if n := len(b.segs()); n != 2 {
		t.Errorf("the archive has %d segmentations", n)
	}
	b.dir = t.TempDir()
	b.reopen()
	if got := b.labels(ctOne, "final"); !slices.Equal(got[:4], []uint16{2, 2, 0, 0}) {
		t.Errorf("label found in the archive is %v", got)
	}
	if _, completed := b.completed(); completed != 1 {
		t.Errorf("%d images are completed after a restart", completed)
	}
}

func TestLabelsOfTheArchive(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	made := seg(ctTwo, Encoded{Series: foreig, Instance: foreig + ".1", Made: "20240103101112"}, []uint16{0, 3, 0, 0, 3, 0, 0, 0}, dicomseg.Segment{Label: 3, Name: "tumour"})
	b.archive.Add(made)
	b.archive.Add(dicomwebtest.NewInstance(study, "1.2.10", "1.2.10.1", "SEG", nil, nil)) // of nothing
	if _, completed := b.completed(); completed != 1 {
		t.Errorf("%d images are completed", completed)
	}
	item, err := b.Label(ctx, ctTwo, "final")
	b.must(err)
	if text, err := api.Encode(item.Info); err != nil || !strings.HasPrefix(string(text), `{"label_info":[{"name":"tumour","idx":3}],"SeriesInstanceUID":"1.2.9","Modality":"SEG","StudyInstanceUID":"1.2","ts":1704`) {
		t.Errorf("info is %s, %v", text, err)
	}
	if n := b.archive.Count("GET", "series/"+ctTwo); n != 0 {
		t.Error("telling of a label fetches its series")
	}
	for range 2 {
		if got := b.labels(ctTwo, "final"); !slices.Equal(got, []uint16{0, 3, 0, 0, 3, 0, 0, 0}) {
			t.Errorf("label is %v", got)
		}
	}
	if n := b.archive.Count("GET", foreig+".1"); n != 1 {
		t.Errorf("the segmentation was fetched %d times", n)
	}
	if n := b.archive.Count("GET", foreig+"/metadata"); n != 1 {
		t.Errorf("its attributes were read %d times", n)
	}
	b.reopen()
	if _, completed := b.completed(); completed != 1 || b.archive.Count("GET", foreig+"/metadata") != 1 {
		t.Error("its attributes are read again after a restart")
	}
	// An info that is changed is kept here.
	b.must(b.UpdateLabelInfo(ctx, ctTwo, "final", api.NewObject("checked", true)))
	item, err = b.Label(ctx, ctTwo, "final")
	b.must(err)
	if !item.Info.Has("checked") || !item.Info.Has("label_info") || !slices.Equal(b.labels(ctTwo, "final"), []uint16{0, 3, 0, 0, 3, 0, 0, 0}) {
		t.Errorf("info is %v", item.Info.Names())
	}
	// A newer one of somebody else's counts, as does then a newer one of ours.
	newer := seg(ctTwo, Encoded{Series: "1.2.11", Instance: "1.2.11.1", Made: "20290103101112"}, []uint16{4, 0, 0, 0, 0, 0, 0, 0}, dicomseg.Segment{Label: 4, Name: "cyst"})
	b.archive.Add(newer)
	if got := b.labels(ctTwo, "final"); got[0] != 4 {
		t.Errorf("label is %v, want the newer one", got)
	}
	b.must(b.submit(ctTwo, 2, 1))
	if got := b.labels(ctTwo, "final"); got[0] != 1 {
		t.Errorf("label is %v, want the one submitted", got)
	}
	// What is deleted does not come back.
	b.must(b.DeleteLabel(ctx, ctTwo, "final"))
	_, err = b.Label(ctx, ctTwo, "final")
	b.fails(err, fs.ErrNotExist)
	b.fails(b.DeleteLabel(ctx, ctTwo, "final"), fs.ErrNotExist)
	b.reopen()
	if _, completed := b.completed(); completed != 0 {
		t.Error("a deleted label came back after a restart")
	}
	b.must(b.submit(ctTwo, 2, 2))
	if got := b.labels(ctTwo, "final"); got[0] != 2 {
		t.Errorf("label after the deleted one is %v", got)
	}
}

// A label is never lost, and the archive has it once, whatever the archive does.
func TestSubmitThatFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault dicomwebtest.Fault
		later bool   // it is sent in the background
		says  string // part of the error, "" for none
	}{
		{"busy once", dicomwebtest.Fault{Method: "POST", Times: 1, Do: dicomwebtest.Status(503, "")}, false, ""},
		{"answer lost once", dicomwebtest.Fault{Method: "POST", Times: 1, Do: stored(dicomwebtest.Drop)}, false, ""},
		{"busy for long", dicomwebtest.Fault{Method: "POST", Times: 9, Do: dicomwebtest.Status(503, "")}, true, ""},
		{"silent", dicomwebtest.Fault{Method: "POST", Times: 5, Do: stored(dicomwebtest.Late(time.Minute))}, true, ""},
		{"series cannot be fetched for long", dicomwebtest.Fault{Method: "GET", Suffix: "/instances", Times: 9, Do: dicomwebtest.Status(503, "")}, true, ""},
		{"full", dicomwebtest.Fault{Method: "POST", Times: 5, Do: dicomwebtest.Status(500, "disk full")}, true, ""},
		{"credentials refused", dicomwebtest.Fault{Method: "POST", Do: dicomwebtest.Status(401, "")}, false, "credentials"},
		{"may not store", dicomwebtest.Fault{Method: "POST", Do: dicomwebtest.Status(403, "")}, false, "credentials"},
		{"wrong address", dicomwebtest.Fault{Method: "POST", Do: dicomwebtest.Status(405, "")}, false, "405"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Refresh = time.Hour })
			b.web = append(b.web, func(o *dicomweb.Options) { o.Timeout = 50 * time.Millisecond })
			b.reopen()
			b.archive.Fail(c.fault)
			err := b.submit(ctOne, 3, 1, 1)
			if c.says != "" {
				b.fails(err, datastore.ErrUndelivered, c.says, "stored on this server")
				if state := b.state(ctOne); !strings.HasPrefix(state, stateRefused) || !strings.Contains(state, c.says) {
					t.Errorf("state is %q", state)
				}
			} else {
				b.must(err)
			}
			if got := b.labels(ctOne, "final"); got[0] != 1 {
				t.Errorf("label is %v", got)
			}
			if _, completed := b.completed(); completed != 1 {
				t.Error("the image is not completed")
			}
			if c.says != "" { // until somebody mends it and starts the server again
				b.archive.Mend()
				b.reopen()
			}
			b.eventually("the label is in the archive", func() bool { return b.state(ctOne) == stateStored })
			if n := len(b.segs()); n != 1 {
				t.Errorf("the archive has %d segmentations", n)
			}
			if b.imaging.made.Load() != 1 {
				t.Errorf("%d segmentations were made of one label", b.imaging.made.Load())
			}
			left, err := os.ReadDir(b.dir + "/outbox")
			if err != nil || len(left) != 0 {
				t.Errorf("left in the outbox: %v, %v", left, err)
			}
		})
	}
}

// stored lets the archive store what it is sent before it goes wrong.
func stored(fault func(http.ResponseWriter, *http.Request, http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(discard{http.Header{}}, r)
		fault(w, r, next)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// The archive dies, the label is submitted, the server is stopped, and both come back.
func TestSubmitWhileDown(t *testing.T) {
	b := newBench(t)
	_ = b.voxels(ctOne)
	b.archive.Fail(dicomwebtest.Fault{Do: dicomwebtest.Drop})
	b.must(b.submit(ctOne, 3, 1))
	b.must(b.submit(ctOne, 3, 2)) // the newer one is what counts
	if state := b.state(ctOne); !strings.HasPrefix(state, statePending+": ") {
		t.Errorf("state is %q", state)
	}
	if got := b.labels(ctOne, "final"); got[0] != 2 {
		t.Errorf("label is %v", got)
	}
	b.must(b.Close())
	b.archive.Mend()
	b.open()
	b.eventually("the label is in the archive", func() bool { return b.state(ctOne) == stateStored })
	segs := b.segs()
	if len(segs) != 1 {
		t.Fatalf("the archive has %d segmentations", len(segs))
	}
	if _, payload, err := dicomwebtest.ParseInstance(segs[0].File); err != nil || payload[0] != 2 {
		t.Errorf("the archive has the label %v, %v", payload, err)
	}
	// A label that is deleted is not sent any more.
	b.archive.Fail(dicomwebtest.Fault{Method: "POST", Do: dicomwebtest.Drop})
	b.must(b.submit(ctTwo, 2, 1))
	b.must(b.DeleteLabel(t.Context(), ctTwo, "final"))
	b.archive.Mend()
	b.reopen()
	if n := len(b.segs()); n != 1 {
		t.Errorf("the archive has %d segmentations", n)
	}
}

// A label that waits is sent as soon as the archive answers again, not after the pause.
func TestArchiveComesBack(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Redeliver = time.Hour })
	_ = b.voxels(ctOne)
	b.archive.Fail(dicomwebtest.Fault{Do: dicomwebtest.Drop})
	b.must(b.submit(ctOne, 3, 1))
	_, _ = b.completed()
	b.archive.Mend()
	b.eventually("the label is in the archive", func() bool {
		_, completed := b.completed()
		return completed == 1 && b.state(ctOne) == stateStored
	})
}

func TestLabelsThatCannotBeSent(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	put := func(id, ext string, content []byte) error {
		return b.PutLabel(ctx, id, "final", ext, bytes.NewReader(content), nil)
	}
	// What the archive names as not taken.
	b.archive.Refuse = func(dicomwebtest.Instance) int { return 0x0122 }
	b.fails(b.submit(ctOne, 3, 1), datastore.ErrUndelivered, "not supported", "0x0122")
	b.archive.Refuse = nil
	// What no segmentation can be made of is kept all the same.
	b.imaging.broken = errors.New("source has no frame of reference")
	b.fails(b.submit(ctOne, 3, 2), datastore.ErrUndelivered, "frame of reference")
	if got := b.labels(ctOne, "final"); got[0] != 2 {
		t.Errorf("label is %v", got)
	}
	b.imaging.broken = nil
	// What is no label of this image.
	b.fails(put(ctOne, ".nii.gz", []byte("junk")), datastore.ErrInvalid, "label of image")
	b.fails(put(ctOne, ".nii.gz", mask(t, 2, 1)), datastore.ErrInvalid, "grid")
	b.fails(put(ctOne, ".bin", make([]byte, 11)), datastore.ErrInvalid, "11 bytes")
	if got := b.labels(ctOne, "final"); got[0] != 2 {
		t.Errorf("label is %v after others that were none", got)
	}
	// An empty one is a label, but none to send.
	b.must(put(ctOne, ".nii.gz", mask(t, 3)))
	if state := b.state(ctOne); !strings.HasPrefix(state, stateEmpty) {
		t.Errorf("state is %q", state)
	}
	if n := len(b.segs()); n != 0 {
		t.Errorf("the archive has %d segmentations", n)
	}
	// A raw mask gets a grid.
	b.must(put(ctOne, ".bin", []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	item, err := b.Label(ctx, ctOne, "final")
	if err != nil || item.Ext != ".nii.gz" || b.labels(ctOne, "final")[1] != 1 || b.state(ctOne) != stateStored {
		t.Errorf("a raw mask became %s, %s, %v", item.Ext, b.state(ctOne), err)
	}
	b.change = append(b.change, func(o *Options) { o.MaxUpload = 100 })
	b.reopen()
	b.fails(put(ctOne, ".nii.gz", make([]byte, 101)), datastore.ErrTooLarge, "100 bytes")
	b.change = append(b.change, func(o *Options) { o.ReadOnly = true })
	b.reopen()
	for _, err := range []error{put(ctOne, ".nii.gz", nil), b.UpdateImageInfo(ctx, ctOne, nil), b.UpdateLabelInfo(ctx, ctOne, "final", nil), b.DeleteLabel(ctx, ctOne, "final"), b.PutLabel(ctx, ctOne, "v1", ".nii.gz", strings.NewReader(""), nil)} {
		b.fails(err, datastore.ErrReadOnly)
	}
}

func TestConcurrentSubmits(t *testing.T) {
	b := newBench(t)
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if err := b.submit([]string{ctOne, ctTwo}[i%2], 3-i%2, 1); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := len(b.segs()); n != 6 {
		t.Errorf("the archive has %d segmentations, want 6", n)
	}
	if _, completed := b.completed(); completed != 2 {
		t.Errorf("%d images are completed", completed)
	}
}

func TestPutLabelOfOneWhoLeaves(t *testing.T) {
	b := newBench(t)
	_ = b.voxels(ctOne)
	ctx, cancel := context.WithCancel(t.Context())
	b.archive.Fail(dicomwebtest.Fault{Method: "POST", Times: 1, Do: func(http.ResponseWriter, *http.Request, http.Handler) {
		cancel()
		panic(http.ErrAbortHandler)
	}})
	b.must(b.PutLabel(ctx, ctOne, "final", ".nii.gz", bytes.NewReader(mask(t, 3, 1)), nil))
	b.eventually("the label is in the archive", func() bool { return b.state(ctOne) == stateStored })
}

func TestSegmentNames(t *testing.T) {
	info := func(text string) *api.Object {
		o, err := api.DecodeObject([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for _, c := range []struct {
		name   string
		values []uint16
		info   string
		own    []dicomseg.Segment
		want   string
	}{
		{"numbers as they are", []uint16{1, 2}, `{"label_info":[{"name":"a","idx":1},{"name":"b","idx":2}]}`, nil, "1=a 2=b"},
		{"Slicer's, after a removed segment", []uint16{1, 2}, `{"label_info":[{"name":"a","idx":2},{"name":"b","idx":4}]}`, nil, "1=a 2=b"},
		{"Slicer's, one of them empty", []uint16{1}, `{"label_info":[{"name":"a","idx":2},{"name":"b","idx":4}]}`, nil, "1=a"},
		{"with gaps", []uint16{1, 3}, `{"label_info":[{"name":"a","idx":1},{"name":"c","idx":3}]}`, nil, "1=a 3=c"},
		{"one of several", []uint16{2}, `{"label_info":[{"name":"a","idx":1},{"name":"b","idx":2}]}`, nil, "2=b"},
		{"in another order", []uint16{5, 7}, `{"label_info":[{"name":"g","idx":7},{"name":"e","idx":5}]}`, nil, "5=e 7=g"},
		{"by id", []uint16{2}, `{"label_info":[{"name":"a","id":1},{"name":"b","id":2}]}`, nil, "2=b"},
		{"an id that is text", []uint16{1}, `{"label_info":[{"name":"spleen","idx":1,"id":"0+1"}]}`, nil, "1=spleen"},
		{"more values than names", []uint16{1, 2, 3}, `{"label_info":[{"name":"a","idx":1}]}`, nil, "1=a 2=liver 3=Segment 3"},
		{"none", []uint16{1, 2}, `{}`, nil, "1=spleen 2=liver"},
		{"the file's own", []uint16{1, 2}, `{}`, []dicomseg.Segment{{Label: 2, Name: "kidney"}}, "1=spleen 2=kidney"},
		{"junk", []uint16{1}, `{"label_info":[3,null,{},{"name":7,"idx":"x"}]}`, nil, "1=spleen"},
		{"empty", nil, `{"label_info":[{"name":"a","idx":1}]}`, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := volume.NewLabelMap(geometry(2))
			copy(m.Labels, c.values)
			var got []string
			for _, s := range segmentsOf(m, info(c.info), c.own, []string{"spleen", "liver"}) {
				got = append(got, fmt.Sprintf("%d=%s", s.Label, s.Name))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("segments are %v, want %s", got, c.want)
			}
		})
	}
	coded := segmentsOf(&volume.LabelMap{Labels: []uint16{4}}, info(`{"label_info":[{"name":"a","idx":4,"segmentAttribute":{
		"SegmentedPropertyTypeCodeSequence":{"CodeValue":"78961009","CodingSchemeDesignator":"SCT","CodeMeaning":"Spleen"}}}]}`), nil, nil)
	if want := (dicomseg.Code{Value: "78961009", Scheme: "SCT", Meaning: "Spleen"}); len(coded) != 1 || coded[0].Type != want {
		t.Errorf("a segment with a code goes to the archive as %+v", coded)
	}
}
