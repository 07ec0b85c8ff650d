package webstore

import (
	"bytes"
	"errors"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/labelinfo"
)

// The store over Orthanc: a series of JPEG 2000 slices becomes a volume, a label of it a segmentation there, and segmentations of
// others labels here.
func TestOrthanc(t *testing.T) {
	siemens := dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", "ct_abdomen_siemens_j2k", "series"))
	liver := dicomwebtest.Shared(t, "dicom", "seg_ct3slice")
	orthanc := dicomwebtest.NewOrthanc(t)
	const study, series = "2.25.2001", "2.25.2002"
	for i := range siemens {
		siemens[i] = dicomwebtest.FillUIDs(t, siemens[i], study, series)
	}
	orthanc.Put(t, siemens...)
	orthanc.Put(t, dicomwebtest.ReadFiles(t, liver+"/series")...)
	orthanc.Put(t, dicomwebtest.ReadFiles(t, liver+"/seg")...)
	client, err := dicomweb.New(dicomweb.Options{URL: orthanc.URL(), Username: orthanc.Username, Password: orthanc.Password})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir()}
	open := func() {
		b.Store, err = Open(t.Context(), Options{Client: client, Imaging: DICOM{}, Dir: b.dir, Search: []url.Values{{"Modality": {"CT"}}}, Refresh: 1, Log: zerolog.New(zerolog.NewTestWriter(t))})
		b.must(err)
	}
	open()
	defer func() { b.must(b.Close()) }()
	ctx := t.Context()
	if total, completed := b.completed(); total != 2 || completed != 1 {
		t.Errorf("%d of %d images are completed, want 1 of 2", completed, total)
	}
	v, err := format.Decode("x.nii.gz", bytes.NewReader(b.read(b.Image(ctx, series))), volume.DefaultLimits())
	b.must(err)
	if v.Size != [3]int{512, 512, 20} || v.Spacing[2] != 2 {
		t.Errorf("volume of %v voxels of %v mm", v.Size, v.Spacing)
	}
	m := volume.NewLabelMap(v.Geometry)
	for i := range 1000 {
		m.Labels[m.Index(200+i%40, 210+i/40, 7)] = uint16(1 + i%2)
	}
	var file bytes.Buffer
	b.must(format.EncodeLabels("x.nii.gz", &file, m, format.Options{Compress: true}))
	info, err := api.DecodeObject([]byte(`{"label_info":[{"name":"spleen","idx":1},{"name":"left kidney","idx":2,"color":[0,128,255]}]}`))
	b.must(err)
	b.must(b.PutLabel(ctx, series, datastore.TagFinal, ".nii.gz", bytes.NewReader(file.Bytes()), info))
	if _, completed := b.completed(); completed != 2 || b.state(series) != stateStored {
		t.Errorf("%d images are completed, the label is %s", completed, b.state(series))
	}
	label, err := b.Label(ctx, series, datastore.TagFinal)
	b.must(err)
	seg, _ := label.Info.Text("SeriesInstanceUID")
	if files := orthanc.Files(t, seg); len(files) != 1 {
		t.Errorf("the segmentation's series has %d instances", len(files))
	}

	// Without what is kept here, it is found in the archive, as is the liver that somebody else segmented with dcmqi.
	b.must(b.Close())
	b.dir = t.TempDir()
	open()
	if got := b.labels(series, datastore.TagFinal); !slices.Equal(got, m.Labels) {
		t.Error("the label that comes back from the archive is another")
	}
	label, err = b.Label(ctx, series, datastore.TagFinal)
	b.must(err)
	if text, err := api.Encode(label.Info); err != nil || !strings.Contains(string(text), `"label_info":[{"name":"spleen","idx":1},{"name":"left kidney","idx":2}]`) {
		t.Errorf("info of the label is %s, %v", text, err)
	}
	pairs, err := b.Labelled(ctx)
	b.must(err)
	for _, p := range pairs {
		if p.Image.ID != series {
			labels := b.labels(p.Image.ID, datastore.TagFinal)
			if got := labelinfo.Values(&volume.LabelMap{Labels: labels}); !slices.Equal(got, []uint16{1}) || len(labels) != 512*512*3 {
				t.Errorf("the foreign label has values %v on %d voxels", got, len(labels))
			}
		}
	}

	orthanc.Delete(t, series)
	_, err = b.Image(ctx, series)
	b.fails(err, fs.ErrNotExist)
	orthanc.Stop(t)
	if total, _ := b.completed(); total != 1 {
		t.Errorf("%d images while the archive is down", total)
	}
	_, err = b.Image(ctx, series)
	if !errors.Is(err, datastore.ErrUnavailable) {
		t.Errorf("error while the archive is down: %v", err)
	}
}
