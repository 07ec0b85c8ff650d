package dicomweb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
)

// The client and Orthanc: what was stored comes back byte for byte, compressed or not, through every way.
func TestOrthanc(t *testing.T) {
	siemens := dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", "ct_abdomen_siemens_j2k", "series"))
	liver := dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", "seg_ct3slice", "series"))
	seg := dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", "seg_ct3slice", "seg"))
	o := dicomwebtest.NewOrthanc(t)
	const study, series = "2.25.1001", "2.25.1002"
	for i := range siemens {
		siemens[i] = dicomwebtest.FillUIDs(t, siemens[i], study, series)
	}
	c, err := dicomweb.New(dicomweb.Options{URL: o.URL(), Username: o.Username, Password: o.Password, PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	found, err := c.SearchSeries(t.Context(), nil)
	if err != nil || len(found) != 0 {
		t.Fatalf("an empty Orthanc has %d series, %v", len(found), err)
	}
	var parts []dicomweb.Instance
	for _, file := range slices.Concat(siemens, liver, seg) {
		parts = append(parts, dicomweb.Instance{Size: int64(len(file)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil }})
	}
	report, err := c.Store(t.Context(), parts...)
	if err != nil || report.Err() != nil || len(report.Stored) != len(parts) {
		t.Fatalf("storing %d instances: %+v, %v", len(parts), report, err)
	}

	if found, err = c.SearchSeries(t.Context(), nil); err != nil || len(found) != 3 {
		t.Fatalf("%d series, %v", len(found), err)
	}
	found, err = c.SearchSeries(t.Context(), url.Values{"Modality": {"CT"}, "SeriesInstanceUID": {series}})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d series of that UID, %v", len(found), err)
	}
	if n, ok := found[0].Int(dicomweb.TagSeriesInstances); !ok || n != len(siemens) || found[0].Text(dicomweb.TagStudyInstanceUID) != study {
		t.Errorf("the series is described as %v", found[0])
	}
	listed, err := c.SearchInstances(t.Context(), study, series)
	if err != nil || len(listed) != len(siemens) {
		t.Errorf("%d instances listed, %v", len(listed), err)
	}
	metadata, err := c.SeriesMetadata(t.Context(), study, series)
	if err != nil || len(metadata) != len(siemens) || metadata[0].Text("00280010") != "512" {
		t.Errorf("metadata of %d instances, %v", len(metadata), err)
	}

	same := func(what string, got []byte, uid string) {
		t.Helper()
		for _, file := range siemens {
			if of, err := dicomweb.InstanceUID(bytes.NewReader(file)); err == nil && of == uid {
				if !bytes.Equal(got, file) {
					t.Errorf("%s: instance %s came back as other %d bytes", what, uid, len(got))
				}
				return
			}
		}
		t.Errorf("%s: instance %q was never stored", what, uid)
	}
	n := 0
	take := func(what string) func(io.Reader) error {
		return func(r io.Reader) error {
			n++
			got, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			uid, err := dicomweb.InstanceUID(bytes.NewReader(got))
			same(what, got, uid)
			return err
		}
	}
	if err := c.RetrieveSeries(t.Context(), study, series, take("series")); err != nil || n != len(siemens) {
		t.Errorf("%d instances of the series came, %v", n, err)
	}
	if err := c.RetrieveInstance(t.Context(), study, series, listed[0].Text(dicomweb.TagSOPInstanceUID), take("instance")); err != nil {
		t.Error(err)
	}

	// What Orthanc refuses, it tells for each instance.
	junk := []byte("no DICOM at all")
	report, err = c.Store(t.Context(), parts[0], dicomweb.Instance{Size: int64(len(junk)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(junk)), nil }})
	if err == nil {
		err = report.Err()
	}
	if err == nil {
		t.Error("junk is stored")
	}
	if err := c.RetrieveSeries(t.Context(), study, "2.25.9", take("nothing")); !errors.Is(err, dicomweb.ErrNotFound) {
		t.Errorf("a series that is not there: %v", err)
	}
	wrong, err := dicomweb.New(dicomweb.Options{URL: o.URL(), Username: o.Username, Password: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.SearchSeries(t.Context(), nil); !errors.Is(err, dicomweb.ErrRefused) || strings.Contains(fmt.Sprint(err), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
	root, err := dicomweb.New(dicomweb.Options{URL: strings.TrimSuffix(o.URL(), "/dicom-web") + "/app", Username: o.Username, Password: o.Password})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.SearchSeries(t.Context(), nil); err == nil {
		t.Error("Orthanc's own pages are taken for DICOMweb")
	}
}
