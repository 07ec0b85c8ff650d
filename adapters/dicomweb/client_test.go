package dicomweb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
)

const (
	study  = "1.2.3"
	series = "1.2.3.4"
)

// archiveOf holds series 1.2.3.4 of three CT instances.
func archiveOf(t *testing.T) *dicomwebtest.Archive {
	t.Helper()
	a := dicomwebtest.NewArchive(t)
	for i := range 3 {
		a.Add(dicomwebtest.NewInstance(study, series, fmt.Sprintf("%s.%d", series, i), "CT", payload(i), nil))
	}
	return a
}

func payload(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 100_000) }

func client(t *testing.T, a *dicomwebtest.Archive, change ...func(*dicomweb.Options)) *dicomweb.Client {
	t.Helper()
	o := dicomweb.Options{URL: a.URL(), Backoff: time.Millisecond, Timeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	for _, f := range change {
		f(&o)
	}
	c, err := dicomweb.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func get(t *testing.T, c *dicomweb.Client) (payloads []byte, err error) {
	t.Helper()
	err = c.RetrieveSeries(t.Context(), study, series, func(r io.Reader) error {
		file, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		_, p, err := dicomwebtest.ParseInstance(file)
		payloads = append(payloads, p...)
		return err
	})
	return payloads, err
}

func uidsOf(found []dicomweb.Dataset) []string {
	var uids []string
	for _, d := range found {
		uids = append(uids, d.Text(dicomweb.TagSeriesInstanceUID))
	}
	return uids
}

func TestSearchTakesAllPages(t *testing.T) {
	for name, change := range map[string]func(*dicomwebtest.Archive){
		"pages as asked for":                 func(*dicomwebtest.Archive) {},
		"an archive that knows no paging":    func(a *dicomwebtest.Archive) { a.NoPaging = true },
		"pages smaller than what was wanted": func(a *dicomwebtest.Archive) { a.MaxPage = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			a := dicomwebtest.NewArchive(t)
			var want []string
			for i := range 11 {
				modality := "CT"
				if i == 4 {
					modality = "MR"
				}
				uid := fmt.Sprintf("1.2.%d", i+1)
				a.Add(dicomwebtest.NewInstance("1.2", uid, uid+".1", modality, nil, nil))
				if modality == "CT" {
					want = append(want, uid)
				}
			}
			change(a)
			c := client(t, a, func(o *dicomweb.Options) { o.PageSize = 3 })
			found, err := c.SearchSeries(t.Context(), url.Values{"Modality": {"CT"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := uidsOf(found); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}
			if found, err = c.SearchSeries(t.Context(), url.Values{"Modality": {"XX"}}); err != nil || len(found) != 0 {
				t.Errorf("a search that finds nothing gives %v, %v", found, err)
			}
		})
	}
}

func TestRetrieve(t *testing.T) {
	a := archiveOf(t)
	c := client(t, a)
	got, err := get(t, c)
	if err != nil || !bytes.Equal(got, slices.Concat(payload(0), payload(1), payload(2))) {
		t.Errorf("%d bytes of payload came, %v", len(got), err)
	}
	var uid string
	err = c.RetrieveInstance(t.Context(), study, series, series+".1", func(r io.Reader) error {
		uid, err = dicomweb.InstanceUID(r)
		return err
	})
	if err != nil || uid != series+".1" {
		t.Errorf("instance %q came, %v", uid, err)
	}
	found, err := c.SeriesMetadata(t.Context(), study, series)
	if err != nil || len(found) != 3 {
		t.Errorf("metadata of %d instances, %v", len(found), err)
	}
	if found, err = c.SearchInstances(t.Context(), study, series); err != nil || len(found) != 3 {
		t.Errorf("search finds %d instances, %v", len(found), err)
	}
	stop := errors.New("enough")
	if err := c.RetrieveSeries(t.Context(), study, series, func(io.Reader) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the receiver's error became %v", err)
	}
	for _, bad := range []string{"", "..", "1/2", "1.2?x=y", "1..2", "%2e", strings.Repeat("1", 65)} {
		if err := c.RetrieveInstance(t.Context(), study, bad, "1", nil); err == nil {
			t.Errorf("UID %q is taken", bad)
		}
	}
	if n := a.Count("", "instances/1"); n != 0 {
		t.Errorf("%d requests for bad UIDs were sent", n)
	}
}

// Archives that know less than the newest edition of the standard, or write it differently.
func TestOldArchives(t *testing.T) {
	t.Run("no transfer-syntax in Accept", func(t *testing.T) {
		a := archiveOf(t)
		a.Fail(dicomwebtest.Fault{Method: "GET", Suffix: series, Do: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.Header.Get("Accept"), "transfer-syntax") {
				http.Error(w, "cannot parse", http.StatusBadRequest)
				return
			}
			next.ServeHTTP(w, r)
		}})
		if got, err := get(t, client(t, a)); err != nil || len(got) != 300_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("type without quotes", func(t *testing.T) {
		a := archiveOf(t)
		a.Fail(dicomwebtest.Fault{Method: "GET", Suffix: series, Do: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(unquoted{w}, r)
		}})
		if got, err := get(t, client(t, a)); err != nil || len(got) != 300_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("an instance without an envelope", func(t *testing.T) {
		a := archiveOf(t)
		file := a.Instances(dicomweb.TagSOPInstanceUID, series+".2")[0].File
		a.Fail(dicomwebtest.Fault{Method: "GET", Suffix: ".2", Do: dicomwebtest.Status(200, string(file), "Content-Type: application/dicom")})
		var got []byte
		err := client(t, a).RetrieveInstance(t.Context(), study, series, series+".2", func(r io.Reader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

type unquoted struct{ http.ResponseWriter }

func (u unquoted) Write(p []byte) (int, error) {
	u.Header().Set("Content-Type", strings.ReplaceAll(u.Header().Get("Content-Type"), `"`, ""))
	return u.ResponseWriter.Write(p)
}

func TestFailures(t *testing.T) {
	const html = "<html>Welcome to the intranet</html>"
	search := func(ctx context.Context, c *dicomweb.Client) error {
		_, err := c.SearchSeries(ctx, nil)
		return err
	}
	retrieve := func(ctx context.Context, c *dicomweb.Client) error {
		return c.RetrieveSeries(ctx, study, series, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	}
	instance := func(ctx context.Context, c *dicomweb.Client) error {
		return c.RetrieveInstance(ctx, study, series, series+".0", func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	}
	store := func(ctx context.Context, c *dicomweb.Client) error {
		_, err := c.Store(ctx, asInstance(dicomwebtest.NewInstance(study, "1.9", "1.9.1", "SEG", payload(9), nil)))
		return err
	}
	quick := func(o *dicomweb.Options) { o.Timeout, o.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond }
	for _, c := range []struct {
		name   string
		do     func(context.Context, *dicomweb.Client) error
		fault  func(http.ResponseWriter, *http.Request, http.Handler)
		times  int // how often it goes wrong, 0 for always
		change func(*dicomweb.Options)
		class  error // nil: it works in the end
		tries  int
		says   string
	}{
		{"busy once", search, dicomwebtest.Status(503, ""), 1, nil, nil, 2, ""},
		{"told when to come again", search, dicomwebtest.Status(429, "", "Retry-After: 0"), 2, nil, nil, 3, ""},
		{"busy for good", search, dicomwebtest.Status(503, "maintenance till six"), 0, nil, dicomweb.ErrUnavailable, 4, "maintenance till six"},
		{"an error of its own", search, dicomwebtest.Status(500, ""), 0, nil, dicomweb.ErrUnavailable, 1, "status 500"},
		{"not repeated when so configured", search, dicomwebtest.Status(503, ""), 0, func(o *dicomweb.Options) { o.Retries = -1 }, dicomweb.ErrUnavailable, 1, "503"},
		{"credentials missing", search, dicomwebtest.Status(401, ""), 0, nil, dicomweb.ErrRefused, 1, "none are configured"},
		{"credentials refused", search, dicomwebtest.Status(403, ""), 0, nil, dicomweb.ErrRefused, 1, "credentials"},
		{"gone", retrieve, dicomwebtest.Status(404, ""), 0, nil, dicomweb.ErrNotFound, 1, series},
		{"a redirect", search, dicomwebtest.Status(302, "", "Location: http://elsewhere.example/series"), 0, nil, dicomweb.ErrProtocol, 1, "elsewhere.example"},
		{"a web page instead of results", search, dicomwebtest.Status(200, html, "Content-Type: text/html"), 0, nil, dicomweb.ErrProtocol, 1, "text/html"},
		{"a web page instead of instances", retrieve, dicomwebtest.Status(200, html, "Content-Type: text/html"), 0, nil, dicomweb.ErrProtocol, 1, "text/html"},
		{"results of another type", search, dicomwebtest.As("application/dicom+xml"), 0, nil, dicomweb.ErrProtocol, 1, "dicom+xml"},
		{"no JSON", search, dicomwebtest.Status(200, "[{]", "Content-Type: application/dicom+json"), 0, nil, dicomweb.ErrProtocol, 1, "JSON"},
		{"no list", search, dicomwebtest.Status(200, "{}", "Content-Type: application/dicom+json"), 0, nil, dicomweb.ErrProtocol, 1, "["},
		{"results that end early once", search, dicomwebtest.CutAfter(40), 1, nil, nil, 2, ""},
		{"results that always end early", search, dicomwebtest.CutAfter(40), 0, nil, dicomweb.ErrUnavailable, 4, "broke off"},
		{"connection dropped once", search, dicomwebtest.Drop, 1, nil, nil, 2, ""},
		{"results too large", search, dicomwebtest.Status(200, "["+strings.Repeat(" ", 2000)+"]", "Content-Type: application/json"), 0, func(o *dicomweb.Options) { o.MaxJSON = 1000 }, dicomweb.ErrTooLarge, 1, "1000 bytes"},
		{"instance too large", retrieve, nil, 0, func(o *dicomweb.Options) { o.MaxInstance = 1000 }, dicomweb.ErrTooLarge, 1, "1000 bytes"},
		{"series cut before the first instance", retrieve, dicomwebtest.CutAfter(10), 1, nil, nil, 2, ""},
		{"series cut half-way", retrieve, dicomwebtest.CutAfter(150_000), 0, nil, dicomweb.ErrUnavailable, 1, "instance 2"},
		{"instance cut half-way once", instance, dicomwebtest.CutAfter(50_000), 1, nil, nil, 2, ""},
		{"instance always cut half-way", instance, dicomwebtest.CutAfter(50_000), 0, nil, dicomweb.ErrUnavailable, 4, "broke off"},
		{"silent before the header", search, dicomwebtest.Late(time.Minute), 1, quick, nil, 2, ""},
		{"silent half-way", instance, dicomwebtest.Silence(50_000, time.Minute), 1, quick, nil, 2, ""},
		{"always silent half-way", instance, dicomwebtest.Silence(50_000, time.Minute), 0, quick, dicomweb.ErrUnavailable, 4, "nothing came for too long"},
		{"storing when busy", store, dicomwebtest.Status(503, ""), 1, nil, nil, 2, ""},
		{"storing over a dropped connection", store, dicomwebtest.Drop, 1, nil, nil, 2, ""},
		{"storing what is refused", store, dicomwebtest.Status(400, "bad file"), 0, nil, dicomweb.ErrProtocol, 1, "bad file"},
		{"storing refused without a report", store, dicomwebtest.Status(409, ""), 0, nil, dicomweb.ErrProtocol, 1, "409"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := archiveOf(t)
			if c.fault != nil {
				a.Fail(dicomwebtest.Fault{Times: c.times, Do: c.fault})
			}
			change := c.change
			if change == nil {
				change = func(*dicomweb.Options) {}
			}
			err := c.do(t.Context(), client(t, a, change))
			if !errors.Is(err, c.class) || (err == nil) != (c.class == nil) {
				t.Errorf("error is %v, want one of class %v", err, c.class)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if n := len(a.Requests()); n != c.tries {
				t.Errorf("%d requests, want %d", n, c.tries)
			}
		})
	}
}

func TestArchiveDown(t *testing.T) {
	a := archiveOf(t)
	c := client(t, a)
	a.Stop()
	_, err := c.SearchSeries(t.Context(), nil)
	if !errors.Is(err, dicomweb.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.SearchSeries(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want that nobody waits", err)
	}
}

func asInstance(i dicomwebtest.Instance) dicomweb.Instance {
	return dicomweb.Instance{Size: int64(len(i.File)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(i.File)), nil }}
}

func TestStore(t *testing.T) {
	a := archiveOf(t)
	a.Refuse = func(i dicomwebtest.Instance) int {
		switch i.Attributes.Text(dicomweb.TagModality) {
		case "XX":
			return 0x0122
		case "YY":
			return 0x0111
		}
		return 0
	}
	c := client(t, a)
	good := dicomwebtest.NewInstance(study, "1.9", "1.9.1", "SEG", payload(1), nil)
	bad := dicomwebtest.NewInstance(study, "1.9", "1.9.2", "XX", payload(2), nil)
	there := dicomwebtest.NewInstance(study, "1.9", "1.9.3", "YY", nil, nil)

	report, err := c.Store(t.Context(), asInstance(good), asInstance(bad))
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Stored) != 1 || report.Stored[0].SOPInstanceUID != "1.9.1" || report.Stored[0].RetrieveURL == "" {
		t.Errorf("stored are %+v", report.Stored)
	}
	if err := report.Err(); err == nil || !strings.Contains(err.Error(), "1.9.2") || !strings.Contains(err.Error(), "not supported") || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("error is %v", err)
	}
	if got := a.Instances(dicomweb.TagSOPInstanceUID, "1.9.1"); len(got) != 1 || !bytes.Equal(got[0].File, good.File) {
		t.Error("the instance is not in the archive as it was sent")
	}
	if report, err = c.Store(t.Context(), asInstance(bad)); err != nil || len(report.Failed) != 1 || report.Failed[0].Reason != 0x0122 {
		t.Errorf("none taken: %+v, %v", report, err)
	}
	// Refused as a duplicate: an error of the first try, no error of one that follows a try whose answer got lost.
	if report, err = c.Store(t.Context(), asInstance(there)); err != nil || report.Err() == nil {
		t.Errorf("duplicate: %+v, %v", report, err)
	}
	a.Fail(dicomwebtest.Fault{Method: "POST", Times: 1, Do: dicomwebtest.Drop})
	if report, err = c.Store(t.Context(), asInstance(there)); err != nil || report.Err() != nil || len(report.Stored) != 1 {
		t.Errorf("duplicate after a lost answer: %+v, %v", report, err)
	}
}

func TestCredentials(t *testing.T) {
	const password = "s3cret"
	basic := func(o *dicomweb.Options) { o.Username, o.Password = "scrawl", password }
	a := archiveOf(t)
	a.Username, a.Password = "scrawl", password
	if _, err := client(t, a, basic).SearchSeries(t.Context(), nil); err != nil {
		t.Error(err)
	}
	a.Password = "changed"
	if _, err := client(t, a, basic).SearchSeries(t.Context(), nil); !errors.Is(err, dicomweb.ErrRefused) || strings.Contains(fmt.Sprintf("%v %+v", err, err), password) {
		t.Errorf("error is %v", err)
	}
	a.Username, a.Token = "", "t0ken"
	bearer := func(o *dicomweb.Options) { o.Token = func(context.Context) (string, error) { return "t0ken", nil } }
	if _, err := client(t, a, bearer).SearchSeries(t.Context(), nil); err != nil {
		t.Error(err)
	}
	broken := func(o *dicomweb.Options) {
		o.Token = func(context.Context) (string, error) { return "", errors.New("no such file") }
	}
	if _, err := client(t, a, broken).SearchSeries(t.Context(), nil); !errors.Is(err, dicomweb.ErrRefused) {
		t.Errorf("error is %v", err)
	}
	for _, bad := range []dicomweb.Options{
		{URL: "http://u:" + password + "@host/dicom-web"}, {URL: "ftp://host"}, {URL: "/srv/images"}, {URL: "http://host/?x=" + "1"}, {URL: "http://ho st/" + password},
		{URL: a.URL(), Username: "u"}, {URL: a.URL(), WADOPrefix: "../x"}, {URL: a.URL(), QIDOPrefix: "a?b"},
	} {
		if _, err := dicomweb.New(bad); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("options for %s give %v", bad.URL, err)
		}
	}
}

func TestPrefixes(t *testing.T) {
	a := dicomwebtest.NewArchive(t)
	a.Fail(dicomwebtest.Fault{Do: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, prefix := range []string{"/q", "/w/x", "/s"} {
			r.URL.Path = strings.Replace(r.URL.Path, "/dicom-web"+prefix+"/", "/dicom-web/", 1)
		}
		next.ServeHTTP(w, r)
	}})
	a.Add(dicomwebtest.NewInstance(study, series, series+".1", "CT", nil, nil))
	c := client(t, a, func(o *dicomweb.Options) { o.URL += "/"; o.QIDOPrefix, o.WADOPrefix, o.STOWPrefix = "q", "/w/x/", "s" })
	if _, err := c.SearchSeries(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := get(t, c); err != nil {
		t.Error(err)
	}
	if _, err := c.Store(t.Context(), asInstance(dicomwebtest.NewInstance(study, "1.9", "1.9.1", "SEG", nil, nil))); err != nil {
		t.Error(err)
	}
	var paths []string
	for _, r := range a.Requests() {
		paths = append(paths, strings.TrimPrefix(r.URL.Path, "/dicom-web"))
	}
	want := []string{"/q/series", "/w/x/studies/1.2.3/series/1.2.3.4", "/s/studies"}
	if !slices.Equal(paths, want) {
		t.Errorf("asked for %v, want %v", paths, want)
	}
}
