package webstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

const (
	study  = "1.2"
	ctOne  = "1.2.3" // a series of three instances
	ctTwo  = "1.2.4"
	mrOne  = "1.2.5"
	foreig = "1.2.9" // a segmentation somebody else made
)

// fakeImaging reads the instances of dicomwebtest: a slice of 2×2 voxels each.
type fakeImaging struct {
	made   atomic.Int64 // segmentations so far
	broken error        // what Encode fails with
}

func geometry(slices int) volume.Geometry {
	return volume.Geometry{Size: [3]int{2, 2, slices}, Spacing: [3]float64{1, 1, 2}, Direction: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
}

func (f *fakeImaging) Volume(_ context.Context, series fs.FS) (*volume.Volume, error) {
	files, err := fs.Glob(series, "*")
	if err != nil {
		return nil, err
	}
	v := &volume.Volume{Geometry: geometry(len(files))}
	for _, name := range files {
		file, err := fs.ReadFile(series, name)
		if err != nil {
			return nil, err
		}
		_, payload, err := dicomwebtest.ParseInstance(file)
		if err != nil || len(payload) < 4 || !strings.HasSuffix(name, ".dcm") {
			return nil, fmt.Errorf("%w: instance %s: %w", volume.ErrFormat, name, err)
		}
		for _, b := range payload[:4] {
			v.Voxels = append(v.Voxels, float32(b))
		}
	}
	return v, nil
}

func (f *fakeImaging) Encode(ctx context.Context, w io.Writer, series fs.FS, m *volume.LabelMap, segments []dicomseg.Segment) (Encoded, error) {
	if f.broken != nil {
		return Encoded{}, f.broken
	}
	v, err := f.Volume(ctx, series)
	if err != nil || v.SameGrid(m.Geometry) != nil {
		return Encoded{}, errors.Join(err, v.SameGrid(m.Geometry))
	}
	files, err := fs.Glob(series, "*")
	if err != nil {
		return Encoded{}, err
	}
	first, err := fs.ReadFile(series, files[0])
	if err != nil {
		return Encoded{}, err
	}
	source, _, err := dicomwebtest.ParseInstance(first)
	if err != nil {
		return Encoded{}, err
	}
	n := f.made.Add(1)
	e := Encoded{Series: fmt.Sprintf("2.25.%d", n), Instance: fmt.Sprintf("2.25.%d.1", n), Made: fmt.Sprintf("2030010112%04d", n)}
	_, err = w.Write(seg(source.Attributes.Text(dicomweb.TagSeriesInstanceUID), e, m.Labels, segments...).File)
	return e, err
}

// seg is a segmentation as fakeImaging makes it.
func seg(of string, e Encoded, labels []uint16, segments ...dicomseg.Segment) dicomwebtest.Instance {
	var items []dicomweb.Dataset
	for _, s := range segments {
		items = append(items, dicomweb.Dataset{dicomweb.TagSegmentNumber: dicomwebtest.String("US", fmt.Sprint(s.Label)), dicomweb.TagSegmentLabel: dicomwebtest.String("LO", s.Name)})
	}
	var payload []byte
	for _, l := range labels {
		payload = append(payload, byte(l))
	}
	return dicomwebtest.NewInstance(study, e.Series, e.Instance, "SEG", payload, dicomweb.Dataset{
		dicomweb.TagReferencedSeries: dicomwebtest.Sequence(dicomweb.Dataset{dicomweb.TagSeriesInstanceUID: dicomwebtest.String("UI", of)}),
		dicomweb.TagSegments:         dicomwebtest.Sequence(items...),
		dicomweb.TagContentDate:      dicomwebtest.String("DA", e.Made[:8]), dicomweb.TagContentTime: dicomwebtest.String("TM", e.Made[8:]),
	})
}

func (f *fakeImaging) Grid(ctx context.Context, series fs.FS) (volume.Geometry, error) {
	v, err := f.Volume(ctx, series)
	if err != nil {
		return volume.Geometry{}, err
	}
	return v.Geometry, nil
}

func (f *fakeImaging) Decode(ctx context.Context, segmentation io.ReaderAt, size int64, series fs.FS) (*volume.LabelMap, error) {
	v, err := f.Volume(ctx, series)
	if err != nil {
		return nil, err
	}
	file, err := io.ReadAll(io.NewSectionReader(segmentation, 0, size))
	if err != nil {
		return nil, err
	}
	_, payload, err := dicomwebtest.ParseInstance(file)
	if err != nil || len(payload) != v.Geometry.Voxels() {
		return nil, fmt.Errorf("segmentation of %d voxels: %w: %w", len(payload), volume.ErrFormat, err)
	}
	m := volume.NewLabelMap(v.Geometry)
	for i, b := range payload {
		m.Labels[i] = uint16(b)
	}
	return m, nil
}

// bench is a store over an archive with two CT series and one MR.
type bench struct {
	*Store
	t       *testing.T
	archive *dicomwebtest.Archive
	imaging *fakeImaging
	dir     string
	change  []func(*Options)
	web     []func(*dicomweb.Options)
}

func addSeries(a *dicomwebtest.Archive, uid, modality string, instances int) {
	for i := range instances {
		a.Add(dicomwebtest.NewInstance(study, uid, fmt.Sprintf("%s.%d", uid, i+1), modality, bytes.Repeat([]byte{byte(10 + i)}, 50_000), dicomweb.Dataset{
			dicomweb.TagStudyDate: dicomwebtest.String("DA", "20240102"), dicomweb.TagStudyTime: dicomwebtest.String("TM", "101112"), dicomweb.TagPatientID: dicomwebtest.String("LO", "P1"),
		}))
	}
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, archive: dicomwebtest.NewArchive(t), imaging: &fakeImaging{}, dir: t.TempDir(), change: change}
	addSeries(b.archive, ctOne, "CT", 3)
	addSeries(b.archive, ctTwo, "CT", 2)
	addSeries(b.archive, mrOne, "MR", 1)
	b.open()
	return b
}

// open opens the store, again if need be.
func (b *bench) open() {
	b.t.Helper()
	if err := b.tryOpen(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tryOpen() error {
	b.t.Helper()
	w := dicomweb.Options{URL: b.archive.URL(), Backoff: time.Millisecond, Timeout: 2 * time.Second, ReadTimeout: 2 * time.Second, Username: b.archive.Username, Password: b.archive.Password}
	for _, f := range b.web {
		f(&w)
	}
	client, err := dicomweb.New(w)
	if err != nil {
		b.t.Fatal(err)
	}
	o := Options{Client: client, Imaging: b.imaging, Dir: b.dir, Search: []url.Values{{"Modality": {"CT"}}, {"Modality": {"MR"}}}, Refresh: time.Nanosecond,
		Redeliver: time.Millisecond, Log: zerolog.New(zerolog.NewTestWriter(b.t))}
	for _, f := range b.change {
		f(&o)
	}
	store, err := Open(b.t.Context(), o)
	if err != nil {
		return err
	}
	b.Store = store
	b.t.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	})
	return nil
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) fails(err, want error, says ...string) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("error is %v, want one that wraps %v", err, want)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			b.t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func (b *bench) read(item datastore.Item, err error) []byte {
	b.t.Helper()
	b.must(err)
	f, err := item.Open()
	b.must(err)
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(f)
	b.must(err)
	return text
}

func (b *bench) openErr(id string) error {
	b.t.Helper()
	item, err := b.Image(b.t.Context(), id)
	b.must(err)
	f, err := item.Open()
	if err == nil {
		_ = f.Close() // only read
	}
	return err
}

// voxels reads an image.
func (b *bench) voxels(id string) []float32 {
	b.t.Helper()
	v, err := format.Decode("x.nii.gz", bytes.NewReader(b.read(b.Image(b.t.Context(), id))), volume.DefaultLimits())
	b.must(err)
	return v.Voxels
}

// labels reads a label.
func (b *bench) labels(id, tag string) []uint16 {
	b.t.Helper()
	item, err := b.Label(b.t.Context(), id, tag)
	m, err := format.DecodeLabels("x"+item.Ext, bytes.NewReader(b.read(item, err)), volume.DefaultLimits())
	b.must(err)
	return m.Labels
}

// mask is a label file on the grid of a series of n instances.
func mask(t *testing.T, n int, labels ...uint16) []byte {
	t.Helper()
	m := volume.NewLabelMap(geometry(n))
	copy(m.Labels, labels)
	var b bytes.Buffer
	if err := format.EncodeLabels("x.nii.gz", &b, m, format.Options{Compress: true}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (b *bench) submit(id string, n int, labels ...uint16) error {
	b.t.Helper()
	info, err := api.DecodeObject([]byte(`{"label_info":[{"name":"spleen","idx":1,"color":[255,0,0]},{"name":"liver","idx":2}],"client_id":"me"}`))
	b.must(err)
	return b.PutLabel(b.t.Context(), id, "final", ".nii.gz", bytes.NewReader(mask(b.t, n, labels...)), info)
}

func (b *bench) state(id string) string {
	b.t.Helper()
	item, err := b.Label(b.t.Context(), id, "final")
	b.must(err)
	state, reason := stateOf(item.Info)
	if reason != "" {
		state += ": " + reason
	}
	return state
}

func (b *bench) completed() (total, completed int) {
	b.t.Helper()
	stats, err := b.Stats(b.t.Context())
	b.must(err)
	return stats.Total, stats.Completed
}

// eventually waits for what happens in the background.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("%s: not within 5 s", what)
}

// segs are the segmentations of a series in the archive.
func (b *bench) segs() []dicomwebtest.Instance {
	return slices.DeleteFunc(b.archive.Instances(dicomweb.TagModality, "SEG"), func(i dicomwebtest.Instance) bool {
		return i.Attributes.Text(dicomweb.TagSeriesInstanceUID) == foreig
	})
}
