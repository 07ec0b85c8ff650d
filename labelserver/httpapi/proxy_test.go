package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore"
)

const archivePassword = "s3cret-of-the-archive"

// proxyBench is a server before an archive with credentials.
func proxyBench(t *testing.T, change ...func(*Options)) (*bench, *dicomwebtest.Archive, *bytes.Buffer) {
	t.Helper()
	archive := dicomwebtest.NewArchive(t)
	archive.Username, archive.Password = "scrawl", archivePassword
	archive.Add(dicomwebtest.NewInstance("1.2", "1.2.3", "1.2.3.1", "CT", bytes.Repeat([]byte{7}, 300_000), nil))
	archive.Add(dicomwebtest.NewInstance("1.2", "1.2.4", "1.2.4.1", "MR", nil, nil))
	client, err := dicomweb.New(dicomweb.Options{URL: archive.URL(), Username: "scrawl", Password: archivePassword, Timeout: 5 * time.Second, ReadTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b := newBench(t, append([]func(*Options){func(o *Options) {
		o.Archive, o.Log = client, zerolog.New(zerolog.SyncWriter(&log))
	}}, change...)...)
	return b, archive, &log
}

func TestProxy(t *testing.T) {
	b, archive, log := proxyBench(t)
	// Queries pass, which the incumbent loses.
	r := b.get("/proxy/dicom/qido/series?Modality=CT", "Accept", "application/dicom+json", "Origin", "http://127.0.0.1:3000")
	if r.status != 200 || !strings.Contains(r.body, "1.2.3") || strings.Contains(r.body, "1.2.4") || r.header.Get("Content-Type") != "application/dicom+json" {
		t.Errorf("QIDO: %d %s", r.status, r.body)
	}
	for _, path := range []string{"/proxy/dicom/qido/studies/1.2/series/1.2.3/metadata", "/proxy/dicom/wado/studies/1.2/series/1.2.3/metadata", "/proxy/dicom/studies/1.2/series/1.2.3/metadata"} {
		if r := b.get(path); r.status != 200 || !strings.Contains(r.body, "1.2.3.1") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r = b.get("/proxy/dicom/wado/studies/1.2/series/1.2.3/instances/1.2.3.1"); r.status != 200 || len(r.body) < 300_000 || !strings.HasPrefix(r.header.Get("Content-Type"), "multipart/related") {
		t.Errorf("WADO: %d, %d bytes of %s", r.status, len(r.body), r.header.Get("Content-Type"))
	}
	// Storing works at the address of either service: OHIF stores at the one at which it retrieves.
	for i, service := range []string{"stow", "wado"} {
		file := dicomwebtest.NewInstance("1.2", "1.2.9", fmt.Sprintf("1.2.9.%d", i), "SEG", []byte("x"), nil).File
		body := "--b\r\nContent-Type: application/dicom\r\n\r\n" + string(file) + "\r\n--b--\r\n"
		if r := b.do(http.MethodPost, "/proxy/dicom/"+service+"/studies", `multipart/related; type="application/dicom"; boundary=b`, []byte(body)); r.status != 200 {
			t.Errorf("STOW at %s: %d %s", service, r.status, r.body)
		}
	}
	if n := len(archive.Instances(dicomweb.TagSeriesInstanceUID, "1.2.9")); n != 2 {
		t.Errorf("%d instances were stored", n)
	}
	// Nothing that is not DICOMweb passes, in whatever spelling.
	asked := len(archive.Requests())
	for _, path := range []string{"", "patients", "qido/../../system", "qido/..%2f..%2fsystem", "wado/%2e%2e/%2e%2e/system", "wado/studies/1.2%2Fseries", `wado/studies\1.2`, "wado/http://elsewhere.example/",
		"wado//elsewhere.example/studies", "qido/wado/studies", "wado/studies/1.2/../../../system", "instances/../tools/execute-script", "wado/studies/1.2/series/1/file"} {
		b.want(b.get("/proxy/dicom/"+path), 404, "")
	}
	b.want(b.do(http.MethodPost, "/proxy/dicom/qido/tools/execute-script", "text/plain", []byte("os.exit()")), 404, "")
	b.want(b.do(http.MethodDelete, "/proxy/dicom/wado/studies/1.2", "", nil), 405, "")
	b.want(b.do(http.MethodPut, "/proxy/dicom/wado/studies/1.2", "", nil), 405, "")
	if n := len(archive.Requests()); n != asked {
		t.Errorf("%d requests reached the archive", n-asked)
	}
	// The archive's troubles, in words, and its refusal of our credentials is no question to the viewer's user.
	archive.Password = "changed"
	r = b.get("/proxy/dicom/qido/studies")
	if r.status != 502 || r.header.Get("WWW-Authenticate") != "" || !strings.Contains(r.body, "credentials") {
		t.Errorf("credentials refused: %d %v %s", r.status, r.header, r.body)
	}
	archive.Stop()
	if r = b.get("/proxy/dicom/qido/studies"); r.status != 503 || !strings.Contains(r.body, "not available") {
		t.Errorf("archive down: %d %s", r.status, r.body)
	}
	if strings.Contains(log.String()+r.body, archivePassword) || strings.Contains(log.String(), "c2NyYXdsOn") {
		t.Error("the archive's password shows in the log or in an answer")
	}
}

func TestProxyLimits(t *testing.T) {
	b, archive, _ := proxyBench(t, func(o *Options) {
		c := config.Default()
		c.Server.MaxUpload, c.Server.APIPrefix = 1<<20, "/monai"
		o.Config = c
	})
	archive.Fail(dicomwebtest.Fault{Method: "POST", Do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body) // all of it, before an answer
	}})
	r := b.do(http.MethodPost, "/monai/proxy/dicom/stow/studies", `multipart/related; boundary=b`, make([]byte, 2<<20))
	if r.status != 413 {
		t.Errorf("an upload beyond the limit: %d %s", r.status, r.body)
	}
	if r = b.get("/monai/proxy/dicom/qido/series"); r.status != 200 {
		t.Errorf("below a prefix: %d %s", r.status, r.body)
	}
	// Many requests at once wait for each other and all are answered.
	archive.Fail(dicomwebtest.Fault{Suffix: "/studies", Do: dicomwebtest.Late(5 * time.Millisecond)})
	var group sync.WaitGroup
	for range 2 * maxForwarded {
		group.Go(func() {
			if r := b.get("/monai/proxy/dicom/qido/series"); r.status != 200 {
				t.Errorf("one of many: %d %s", r.status, r.body)
			}
		})
	}
	group.Wait()
}

func TestProxyWithoutAnArchive(t *testing.T) {
	b := newBench(t)
	b.want(b.get("/proxy/dicom/qido/series"), 404, `{"detail":"the studies are in a folder and not in a DICOMweb archive, so there is nothing to pass on"}`)
}

// undeliverable is a store whose archive takes no label.
type undeliverable struct {
	*fakeStore
	err error
}

func (u undeliverable) SaveLabel(ctx context.Context, id, tag, ext, path string, info *api.Object) error {
	info = info.Clone()
	info.Set("archive", api.NewObject("state", "pending"))
	if err := u.fakeStore.SaveLabel(ctx, id, tag, ext, path, info); err != nil {
		return err
	}
	return u.err
}

// A label that waits for the archive is an answer that says so; one that it does not take is an error, and a submission all the same.
func TestLabelsThatAreNotDelivered(t *testing.T) {
	b, _, _ := proxyBench(t, func(o *Options) {
		store, _ := o.Store.(*fakeStore)
		o.Store = undeliverable{fakeStore: store}
	})
	contentType, body := form(part{"label", "x.nii.gz", "mask"})
	b.want(b.do(http.MethodPut, "/datastore/label?image=case_1", contentType, body), 200, `{"image":"case_1","label":"case_1","archive":{"state":"pending"}}`)
	b, _, _ = proxyBench(t, func(o *Options) {
		store, _ := o.Store.(*fakeStore)
		o.Store = undeliverable{store, fmt.Errorf("kept here: %w", datastore.ErrUndelivered)}
	})
	contentType, body = form(part{"label", "x.nii.gz", "mask"})
	b.want(b.do(http.MethodPut, "/datastore/label?image=case_1", contentType, body), 502, `{"detail":"kept here: label was not delivered"}`)
	if len(b.service.submitted) != 1 {
		t.Error("the submission is lost")
	}
}
