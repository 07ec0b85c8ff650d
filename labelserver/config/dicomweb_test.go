package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// MONAI Label's variables for an archive mean the same here.
func TestArchiveFromMONAILabelsVariables(t *testing.T) {
	c, err := Load("", []string{
		"MONAI_LABEL_STUDIES=http://127.0.0.1:8042/dicom-web", "MONAI_LABEL_DICOMWEB_USERNAME=scrawl", "MONAI_LABEL_DICOMWEB_PASSWORD=s3cret",
		"MONAI_LABEL_DICOMWEB_CACHE_PATH=/var/cache/scrawl", "MONAI_LABEL_QIDO_PREFIX=q", "MONAI_LABEL_WADO_PREFIX=w", "MONAI_LABEL_STOW_PREFIX=s",
		`MONAI_LABEL_DICOMWEB_SEARCH_FILTER={"Modality": "CT", "BodyPartExamined": "LIVER"}`, "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY=7200",
		"MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT=20", "MONAI_LABEL_DICOMWEB_READ_TIMEOUT=5",
	}, map[string]any{"state.dir": "/srv/state"})
	if err != nil {
		t.Fatal(err)
	}
	want := defaultDICOMweb()
	want.Username, want.Password, want.CacheDir = "scrawl", "s3cret", "/var/cache/scrawl"
	want.QIDOPrefix, want.WADOPrefix, want.STOWPrefix = "q", "w", "s"
	want.Refresh, want.Timeout, want.ReadTimeout = 2*time.Hour, 20*time.Second, 5*time.Second
	want.Search = []string{`{"Modality": "CT", "BodyPartExamined": "LIVER"}`}
	if diff := cmp.Diff(want, c.DICOMweb); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	filters, err := c.DICOMweb.Filters()
	if diff := cmp.Diff([]url.Values{{"Modality": {"CT"}, "BodyPartExamined": {"LIVER"}}}, filters); diff != "" || err != nil {
		t.Errorf("filters (-want +got), %v:\n%s", err, diff)
	}
	if !c.FromArchive() || c.CacheDir() != "/var/cache/scrawl" || c.StateDir() != "/srv/state" {
		t.Errorf("archive %v, cache %s, state %s", c.FromArchive(), c.CacheDir(), c.StateDir())
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, "s3cret") {
		t.Error("the password shows in a listing of the configuration")
	}
}

func TestFilters(t *testing.T) {
	for text, want := range map[string]url.Values{
		"Modality=CT": {"Modality": {"CT"}}, "00080060=CT&StudyDate=20240101-": {"00080060": {"CT"}, "StudyDate": {"20240101-"}}, `{"Modality":"MR"}`: {"Modality": {"MR"}}, "{}": {}, "": {},
	} {
		if got, err := parseFilter(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("filter %q is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"CT", "=CT", "Modality=", "Modality=CT&Modality=MR", "limit=3", "a=%zz", "{", `["CT"]`} {
		if got, err := parseFilter(text); err == nil {
			t.Errorf("filter %q is taken as %v", text, got)
		}
	}
}

// Every archive has a state folder of its own, somewhere in the user's.
func TestArchiveState(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/home/me/state")
	seen := map[string]string{}
	for _, archive := range []string{"http://pacs:8042/dicom-web", "http://pacs:8042/dicom/web", "http://../../etc", "https://pacs/a?b"} {
		c := Default()
		c.Studies = archive
		dir := c.StateDir()
		if filepath.Dir(dir) != filepath.FromSlash("/home/me/state/scrawl") || seen[dir] != "" {
			t.Errorf("state of %s is in %s, as is that of %q", archive, dir, seen[dir])
		}
		seen[dir] = archive
	}
	c := Default()
	c.Studies = "http://pacs:8042/dicom-web/"
	if seen[c.StateDir()] == "" {
		t.Error("a slash at the end makes another archive")
	}
}
