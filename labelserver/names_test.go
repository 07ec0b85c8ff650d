package labelserver

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/obs"
)

// patient is a name that stands nowhere by chance. It is as long as the one that sliceFiles writes, whose place it takes.
const patient = "Zyrthq^Quuxl"

// namedSeries are the files of a series of that patient.
func namedSeries(t *testing.T, v *volume.Volume, series string) map[string][]byte {
	t.Helper()
	files := sliceFiles(t, v, series)
	for name, b := range files {
		files[name] = bytes.Replace(b, []byte("Test^Patient"), []byte(patient), 1)
		if !bytes.Contains(files[name], []byte(patient)) {
			t.Fatal("the series has no name of a patient")
		}
	}
	return files
}

// tells reports whether a file or answer holds the patient's name, also one packed with gzip or zip.
func tells(t *testing.T, text []byte) bool {
	t.Helper()
	for _, part := range strings.Split(patient, "^") { // JSON and pages may write the two apart
		if bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(part))) {
			return true
		}
	}
	switch {
	case bytes.HasPrefix(text, []byte("\x1f\x8b")):
		r, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return false
		}
		inner, err := io.ReadAll(r)
		return err == nil && tells(t, inner)
	case bytes.HasPrefix(text, []byte("PK")):
		z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return false
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			inner, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			if tells(t, inner) {
				return true
			}
		}
	}
	return false
}

// serveLogged serves with a log file of everything, of which the server shows the end, and returns its name.
func serveLogged(t *testing.T, settings map[string]any) (address, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "scrawl.log")
	file, err := obs.OpenLogFile(log, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return serveParts(t, settings, Parts{Log: zerolog.New(file).Level(zerolog.TraceLevel), LogFile: file}), log
}

// keepsNamesOut holds that a log is there and has no name of the patient.
func keepsNamesOut(t *testing.T, log string) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil || len(text) == 0 || tells(t, text) {
		t.Errorf("the log tells the patient's name, or nothing (%v):\n%.3000s", err, text)
	}
}

// accountsFile makes accounts with the roles given; their password is their name and more.
func accountsFile(t *testing.T, roles map[string][]string) string {
	t.Helper()
	var a auth.Accounts
	for name, r := range roles {
		hash, err := auth.HashPassword(name + " and horse")
		if err != nil {
			t.Fatal(err)
		}
		a.Users = append(a.Users, auth.Account{Name: name, Password: hash, Roles: r})
	}
	return encode(t, filepath.Join(t.TempDir(), "accounts.yaml"), a.Encode)
}

// visitor asks a server as one user, or as nobody.
type visitor struct {
	t              *testing.T
	address, token string
}

func visit(t *testing.T, address, name string) visitor {
	t.Helper()
	if name == "" {
		return visitor{t, address, ""}
	}
	form := url.Values{"username": {name}, "password": {name + " and horse"}, "grant_type": {"password"}}.Encode()
	status, text := fetch(t, http.MethodPost, address+"/auth/token", "application/x-www-form-urlencoded", []byte(form))
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &got); err != nil || status != http.StatusOK {
		t.Fatalf("log-in of %s: %d %s", name, status, text)
	}
	return visitor{t, address, got.Token}
}

// ask sends a form, or an empty object where there are no files, and returns the answer.
func (v visitor) ask(method, path string, files map[string][]byte) (status int, header http.Header, text []byte) {
	v.t.Helper()
	req := formRequest(v.t, method, v.address+path, map[string]string{"params": `{"label_info":` + labelInfo + `,"selected_label_name":"liver","client_id":"c"}`}, files)
	if files == nil {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		req.Header.Set("Content-Type", "application/json")
	}
	if v.token != "" {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	text, err = io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		v.t.Fatal(err)
	}
	return res.StatusCode, res.Header, text
}

// keepsNames asks and fails the test if the answer tells the patient's name.
func (v visitor) keepsNames(method, path string, files map[string][]byte) (status int, text []byte) {
	v.t.Helper()
	status, header, text := v.ask(method, path, files)
	if tells(v.t, text) || tells(v.t, fmt.Append(nil, header)) {
		v.t.Errorf("%s %s (%d, %s) tells the patient's name", method, path, status, header.Get("Content-Type"))
	}
	return status, text
}

// TestPatientNames holds that patients' names stay in DICOM files: no page, listing, image, refusal, log or file of the server's own has
// them, and what is DICOM (a segmentation is of its patient, and an archive's answers are the archive's) goes only to those whose role lets
// them see images.
func TestPatientNames(t *testing.T) {
	place := t.TempDir()
	studies, state := filepath.Join(place, "studies"), filepath.Join(place, "state")
	image, _ := phantom.Abdomen([3]int{24, 20, 6}, [3]float64{8, 8, 15}, 1)
	const series = "1.2.826.90"
	files := namedSeries(t, image, series)
	whole := files["IM0000"]
	cut := whole[:bytes.Index(whole, []byte(patient))+len(patient)+9] // ends within the element after the name
	crooked := bytes.Replace(whole, []byte(`1\0\0\0\1\0`), []byte(`0\1\0\0\0\1`), 1)
	own := maps.Clone(files)
	own["cut.dcm"] = cut
	for name, b := range own {
		folder := filepath.Join(studies, "ct")
		if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, name), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	roles := map[string][]string{"anna": {"user", "annotator", "reviewer", "admin"}, "rita": {"reviewer"}}
	settings := map[string]any{"app": writeApp(t, testYAML), "auth.enable": true, "auth.accounts": accountsFile(t, roles)}
	address, log := serveLogged(t, with(settings, "studies", studies, "state.dir", state))
	anna := visit(t, address, "anna")

	// Work that touches all of the files, also in ways that fail.
	var label bytes.Buffer
	scribbles := layers(image.Geometry, line([3]int{6, 8, 3}, 0, 6), line([3]int{20, 17, 3}, 0, 3))
	if err := format.EncodeLabels("x.nii.gz", &label, scribbles, format.Options{}); err != nil {
		t.Fatal(err)
	}
	drawn := map[string][]byte{"label/label.nii.gz": label.Bytes()}
	uploads := map[string][]byte{}
	for name, b := range files {
		uploads["files/"+name] = b
	}
	status, text := anna.keepsNames(http.MethodPut, "/session/", uploads)
	var made struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal(text, &made); err != nil || status != http.StatusOK {
		t.Fatalf("session: %d %s", status, text)
	}
	for _, s := range []struct {
		method, path string
		files        map[string][]byte
		status       int
	}{
		{http.MethodPost, "/infer/scribbles?image=" + series, drawn, 200},
		{http.MethodPost, "/infer/scribbles?session_id=" + made.ID, drawn, 200},
		{http.MethodPost, "/infer/scribbles", map[string][]byte{"file/cut.dcm": cut}, 400},
		{http.MethodPut, "/datastore/label?image=" + series, map[string][]byte{"label/x.dcm": whole}, 400},
		{http.MethodPut, "/datastore/label?image=" + series, map[string][]byte{"label/x.dcm": cut}, 400},
		{http.MethodPut, "/datastore/label?image=" + series, drawn, 200},
		{http.MethodPut, "/session/", map[string][]byte{"files/a": whole, "files/b": crooked}, 200},
		{http.MethodPost, "/activelearning/first", nil, 200},
	} {
		if status, text := anna.keepsNames(s.method, s.path, s.files); status != s.status {
			t.Errorf("%s %s: %d %.300s, want %d", s.method, s.path, status, text, s.status)
		}
	}

	// What is DICOM has the name, as it must, and only for those who may see it.
	segmentation := "/datastore/label?label=" + series + "&output=dicom_seg"
	ask := map[string]string{
		segmentation: http.MethodGet, "/datastore/label?label=" + series + "&output=rtstruct": http.MethodGet,
		"/infer/scribbles?output=dicom_seg&image=" + series: http.MethodPost,
	}
	var seg []byte
	for path, method := range ask {
		body := drawn
		if method == http.MethodGet {
			body = nil
		}
		status, header, text := anna.ask(method, path, body)
		if status != http.StatusOK || header.Get("Content-Type") != "application/dicom" || !tells(t, text) {
			t.Errorf("%s %s: %d %s, want a DICOM file of the patient", method, path, status, header.Get("Content-Type"))
		}
		if path == segmentation {
			seg = text
		}
	}
	// A DICOM segmentation as a label is kept without the name.
	anna.keepsNames(http.MethodPut, "/datastore/label?image="+series, map[string][]byte{"label/seg.dcm": seg})

	paths := slices.Sorted(maps.Keys(ask))
	paths = append(paths, "/page/annotate.js", "/page/operator.js", "/?image="+series, "/datastore/?output=all", "/datastore/?output=train", "/datastore/dataset",
		"/datastore/image?image="+series, "/datastore/image/info?image="+series, "/datastore/label?label="+series, "/datastore/label/info?label="+series,
		"/scrawl/volume?image="+series, "/scrawl/volume?session_id="+made.ID, "/scrawl/label?image="+series, "/session/"+made.ID, "/session/"+made.ID+"?image=true", "/logs/", "/logs/?lines=1000",
		"/scrawl/labels?model=scribbles&client_id=c&image="+series, "/scrawl/learned?model=scribbles&client_id=c&label=liver&image="+series,
		"/scrawl/state?model=scribbles&client_id=c&label=liver&image="+series, "/scrawl/uncertainty?model=scribbles&client_id=c&label=liver&image="+series)
	for _, o := range operations(t, address) {
		if o.method == http.MethodGet {
			paths = append(paths, strings.ReplaceAll(o.addressOf("", ""), "victim", series))
		}
	}
	visitors := []visitor{anna, visit(t, address, "rita"), visit(t, address, "")}
	for i, v := range visitors {
		for _, path := range paths {
			method := ask[path]
			if i == 0 && method != "" {
				continue // seen above
			}
			if method == "" {
				method = http.MethodGet
			}
			status, _ := v.keepsNames(method, path, nil)
			if refused := status == http.StatusForbidden || status == http.StatusUnauthorized; i > 0 && ask[path] != "" && !refused {
				t.Errorf("%s %s: %d for one without a role for images", method, path, status)
			}
		}
	}
	namesInFiles(t, place, filepath.Join(studies, "ct"), filepath.Join(state, "sessions"))
	keepsNamesOut(t, log)
	namesOfArchive(t, settings)
}

// with is settings with more of them.
func with(settings map[string]any, more ...string) map[string]any {
	all := maps.Clone(settings)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// namesInFiles holds that nothing the server wrote below a folder has the patient's name: index, audit trail, labels, what it learned.
// Left out are folders of the DICOM files themselves.
func namesInFiles(t *testing.T, place string, without ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if slices.Contains(without, path) {
				return fs.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		files++
		if tells(t, text) {
			t.Errorf("%s has the patient's name", path)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files were read: %v", files, err)
	}
}

// namesOfArchive is the same with the images in an archive, which lists names when it is asked, and whose answers are passed on.
func namesOfArchive(t *testing.T, settings map[string]any) {
	t.Helper()
	archive := dicomwebtest.NewArchive(t)
	const patientName = "00100010"
	name := dicomweb.Attribute{VR: "PN", Value: []json.RawMessage{json.RawMessage(`{"Alphabetic":"` + patient + `"}`)}}
	archive.Add(dicomwebtest.NewInstance("1.2.3", "1.2.826.91", "1.2.826.91.1", "CT", nil, dicomweb.Dataset{patientName: name}))
	address, log := serveLogged(t, with(settings, "studies", archive.URL(), "state.dir", t.TempDir()))
	proxied := []string{"/proxy/dicom/qido/studies", "/proxy/dicom/qido/series", "/proxy/dicom/wado/studies/1.2.3/series/1.2.826.91/metadata", "/proxy/dicom/wado/studies/1.2.3/series/1.2.826.91/instances/1.2.826.91.1"}
	anna := visit(t, address, "anna")
	if _, _, text := anna.ask(http.MethodGet, proxied[2], nil); !tells(t, text) {
		t.Errorf("the archive's answer passed on to a user is %.300s, without the name that it has", text)
	}
	for _, path := range []string{"/datastore/?output=all", "/datastore/image/info?image=1.2.826.91", "/scrawl/volume?image=1.2.826.91", "/datastore/image?image=1.2.826.91", "/info/", "/scrawl/status", "/logs/"} {
		anna.keepsNames(http.MethodGet, path, nil)
	}
	anna.keepsNames(http.MethodPost, "/activelearning/first", nil)
	for _, name := range []string{"rita", ""} {
		for _, path := range proxied {
			if status, text := visit(t, address, name).keepsNames(http.MethodGet, path, nil); status != http.StatusForbidden && status != http.StatusUnauthorized {
				t.Errorf("%s for %q: %d %.200s", path, name, status, text)
			}
		}
	}
	keepsNamesOut(t, log)
}
