package dicomweb_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
)

// viewer serves what a client forwards, under /proxy/, and reports its errors with status 599.
func viewer(t *testing.T, c *dicomweb.Client) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Forward(w, r, strings.TrimPrefix(r.URL.EscapedPath(), "/proxy/")); err != nil {
			w.WriteHeader(599)
			_, _ = io.WriteString(w, err.Error())
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// seen is an answer as the viewer gets it.
type seen struct {
	status int
	length int64
	header http.Header
	text   string
}

func request(t *testing.T, method, address string, body io.Reader, headers ...string) (seen, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableCompression: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	text, err := io.ReadAll(res.Body)
	return seen{res.StatusCode, res.ContentLength, res.Header, string(text)}, err
}

func TestForward(t *testing.T) {
	a := archiveOf(t)
	a.Username, a.Password = "scrawl", "s3cret"
	s := viewer(t, client(t, a, func(o *dicomweb.Options) { o.Username, o.Password = "scrawl", "s3cret" }))
	res, err := request(t, "GET", s.URL+"/proxy/series?Modality=CT&includefield=00081030,00080060&x=%2e%2e%2F", nil,
		"Accept: application/dicom+json", "Cookie: session=1", "Authorization: Bearer viewer", "X-Forwarded-For: 10.0.0.1", "Origin: http://ohif", "Upgrade: websocket", "Connection: Upgrade")
	if err != nil || res.status != 200 || !strings.Contains(res.text, series) || res.header.Get("Content-Type") != "application/dicom+json" {
		t.Errorf("%d %s %.200s %v", res.status, res.header, res.text, err)
	}
	asked := a.Requests()[0]
	if asked.URL.RawQuery != "Modality=CT&includefield=00081030,00080060&x=%2e%2e%2F" || asked.Header.Get("Accept") != "application/dicom+json" {
		t.Errorf("the archive was asked for %s with %v", asked.URL, asked.Header)
	}
	for name := range asked.Header {
		if !slices.Contains([]string{"Accept", "Accept-Encoding", "Authorization"}, name) {
			t.Errorf("header %s reached the archive", name)
		}
	}
	if user, _, _ := asked.BasicAuth(); user != "scrawl" {
		t.Errorf("the archive got %q", asked.Header.Get("Authorization"))
	}
	// The archive's cookies and servers' names stay behind.
	a.Fail(dicomwebtest.Fault{Times: 1, Do: dicomwebtest.Status(206, "abc", "Set-Cookie: x=1", "Server: secret", "Location: http://inside", "Content-Range: bytes 0-2/10", "Access-Control-Allow-Origin: *", "Content-Type: image/jpeg")})
	res, err = request(t, "GET", s.URL+"/proxy/studies/1/series/2/instances/3/frames/1,2/rendered", nil, "Range: bytes=0-2")
	if err != nil || res.status != 206 || res.text != "abc" || res.header.Get("Content-Range") == "" || res.length != 3 {
		t.Errorf("%d %s %q %v", res.status, res.header, res.text, err)
	}
	for _, name := range []string{"Set-Cookie", "Server", "Location", "Access-Control-Allow-Origin"} {
		if res.header.Get(name) != "" {
			t.Errorf("header %s reached the viewer", name)
		}
	}
	// Statuses are the archive's, but for those that speak of credentials or lead elsewhere.
	for status, want := range map[int]int{404: 404, 304: 304, 500: 500, 503: 503, 401: 599, 403: 599, 407: 599, 302: 599} {
		a.Fail(dicomwebtest.Fault{Times: 1, Do: dicomwebtest.Status(status, "", "WWW-Authenticate: Basic")})
		res, _ = request(t, "GET", s.URL+"/proxy/studies", nil)
		if res.status != want || strings.Contains(res.text, "s3cret") || res.header.Get("WWW-Authenticate") != "" {
			t.Errorf("status %d became %d, %v: %s", status, res.status, res.header, res.text)
		}
	}
	// Storing streams through.
	stored := dicomwebtest.NewInstance(study, "1.9", "1.9.1", "SEG", payload(1), nil)
	body := "--b\r\nContent-Type: application/dicom\r\n\r\n" + string(stored.File) + "\r\n--b--\r\n"
	res, err = request(t, "POST", s.URL+"/proxy/studies", strings.NewReader(body), `Content-Type: multipart/related; type="application/dicom"; boundary=b`)
	if err != nil || res.status != 200 || len(a.Instances(dicomweb.TagSOPInstanceUID, "1.9.1")) != 1 {
		t.Errorf("%d %s %v", res.status, res.text, err)
	}
}

func TestForwardOfWhatBreaks(t *testing.T) {
	a := archiveOf(t)
	s := viewer(t, client(t, a, func(o *dicomweb.Options) { o.Timeout, o.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond }))
	series := s.URL + "/proxy/studies/" + study + "/series/" + series
	a.Fail(dicomwebtest.Fault{Times: 1, Do: dicomwebtest.CutAfter(150_000)}, dicomwebtest.Fault{Times: 1, Do: dicomwebtest.Silence(150_000, time.Minute)})
	for range 2 {
		if res, err := request(t, "GET", series, nil); err == nil {
			t.Errorf("an answer of %d bytes that broke off came as a whole one, status %d", len(res.text), res.status)
		}
	}
	a.Fail(dicomwebtest.Fault{Times: 1, Do: dicomwebtest.Late(time.Minute)})
	if res, _ := request(t, "GET", series, nil); res.status != 599 || !strings.Contains(res.text, "not available") {
		t.Errorf("a late answer became %d %s", res.status, res.text)
	}
	a.Stop()
	if res, _ := request(t, "GET", series, nil); res.status != 599 || !strings.Contains(res.text, "refused") {
		t.Errorf("an archive that is down became %d %s", res.status, res.text)
	}
}

func TestForwardRefusesOtherPaths(t *testing.T) {
	a := archiveOf(t)
	c := client(t, a)
	for _, path := range []string{
		"studies", "series", "instances", "studies/1.2/series", "studies/1.2/instances", "studies/1.2/series/3/instances", "studies/1.2", "studies/1.2/metadata",
		"studies/1.2/series/3/metadata", "studies/1.2/series/3/rendered", "studies/1.2/series/3/instances/4/thumbnail", "studies/1.2/series/3/instances/4/frames/1",
		"studies/1.2/series/3/instances/4/frames/1,2/rendered", "studies/1.2/series/3/instances/4/bulk/00091001/1", "studies/1.2/bulkdata/x-1.bin",
	} {
		if w := forward(c, "GET", path); w.err != nil {
			t.Errorf("GET %s: %v", path, w.err)
		}
	}
	asked := len(a.Requests())
	for _, path := range []string{
		"", "/", "studies/", "/studies", "..", "../instances", "studies/../../instances", "studies/1.2/..", "studies/1.2/../../../system", "studies/..%2f..", "studies/%2e%2e/x",
		"studies/1.2%2Fseries", "studies%2F1.2", "studies/1.2/series/%2e%2e", `studies\1.2`, "http://elsewhere.example/studies", "//elsewhere.example/studies", "studies/1.2/reject",
		"studies/1.2/series/3/instances/4/file", "studies/1.2/bulkdata/../../x", "studies/1.2/bulkdata/.x", "studies/1.2@elsewhere", "studies/1.2?x", "studies/" + strings.Repeat("1", 65),
		"patients", "tools/execute-script", "system", "studies/1.2/export", "studies/1.2 /series", "studies/1.2\r\nHost: x", "studies/1.2/series/3/instances/4/frames/", "servers",
		"studies/1.2/series/3/instances/4/frames/" + strings.Repeat("1,", 9000) + "1",
	} {
		if w := forward(c, "GET", path); !errors.Is(w.err, dicomweb.ErrPath) {
			t.Errorf("GET %.80q: %v", path, w.err)
		}
	}
	for _, request := range []string{"POST series", "POST studies/1.2/series", "DELETE studies/1.2", "PUT studies", "HEAD studies", "POST studies/1.2/reject", "POST ", "CONNECT studies"} {
		method, path, _ := strings.Cut(request, " ")
		if w := forward(c, method, path); !errors.Is(w.err, dicomweb.ErrPath) {
			t.Errorf("%s: %v", request, w.err)
		}
	}
	if n := len(a.Requests()); n != asked {
		t.Errorf("%d requests reached the archive", n-asked)
	}
	r := httptest.NewRequest("GET", "/?"+strings.Repeat("x", 20000), nil)
	if err := c.Forward(httptest.NewRecorder(), r, "studies"); !errors.Is(err, dicomweb.ErrPath) {
		t.Errorf("a query of 20000 bytes: %v", err)
	}
}

type forwarded struct {
	*httptest.ResponseRecorder
	err error
}

func forward(c *dicomweb.Client, method, path string) forwarded {
	w := httptest.NewRecorder()
	return forwarded{w, c.Forward(w, httptest.NewRequest(method, "/", nil), path)}
}
