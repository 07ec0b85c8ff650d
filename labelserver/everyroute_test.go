package labelserver

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"scrawl/adapters/format"
	"scrawl/apps/phantom"
)

// operation is one of openapi.json's, which a test of httpapi holds complete: a new route is attacked here as soon as it is described.
type operation struct {
	method, path string
	parameters   []parameter
	bodies       []string // media types
}

type parameter struct {
	Name, In string
	Required bool
	Schema   struct {
		Type any
		Enum []any
	}
}

func operations(t *testing.T, address string) []operation {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters  []parameter
			RequestBody struct {
				Ref     string `json:"$ref"`
				Content map[string]any
			}
		}
		Components struct {
			RequestBodies map[string]struct{ Content map[string]any } `json:"requestBodies"`
		}
	}
	status, body := fetch(t, http.MethodGet, address+"/openapi.json", "", nil)
	if err := json.Unmarshal(body, &doc); err != nil || status != 200 {
		t.Fatalf("openapi.json: %d %v", status, err)
	}
	var list []operation
	for path, methods := range doc.Paths {
		for method, o := range methods {
			content := o.RequestBody.Content
			if name := strings.TrimPrefix(o.RequestBody.Ref, "#/components/requestBodies/"); name != "" {
				content = doc.Components.RequestBodies[name].Content
			}
			op := operation{method: strings.ToUpper(method), path: path, parameters: o.Parameters}
			for media := range content {
				op.bodies = append(op.bodies, media)
			}
			slices.Sort(op.bodies)
			list = append(list, op)
		}
	}
	if len(list) < 50 {
		t.Fatalf("openapi.json describes %d operations", len(list))
	}
	slices.SortFunc(list, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return list
}

// fetch asks and returns what comes back. It follows no redirect.
func fetch(t *testing.T, method, address, contentType string, body []byte) (status int, answer []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%s %q: %v", method, address, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %.200s: %v", method, address, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %.200s: %v", method, address, err)
	}
	return res.StatusCode, answer
}

// hostile are values for parameters, as they stand in an address.
var hostile = []string{
	"", ".", "..", "..%2f", "..%2F..%2F..%2F..%2Fetc%2Fpasswd", "%2e%2e%2fcanary", "%2Fetc%2Fpasswd", "..%5C..%5Ccanary", "C%3A%5CWindows%5Cwin.ini",
	"%5C%5Chost%5Cshare", "file%3A%2F%2F%2Fetc%2Fpasswd", "http%3A%2F%2F127.0.0.1%3A1%2F", "a%00b", "%00", "NUL", "con.nii.gz", "COM1", "lpt9.txt", ".hidden", ".lock",
	"datastore_v2", "datastore_v2.json", ".scrawl", "labels", "labels%2Ffinal%2Fcase_0", "%FF%FE", "%C0%AE%C0%AE%2F", "%0D%0AX-Evil%3A%201", "%1B%5B31m",
	"-1", "0", "99999999999999999999", "1e999", "NaN", "1.5", "yes", "perhaps", "null", "%7B%7D", "%5B%5D", "%3Cscript%3E", "%27%3B--", "%25s%25n", "%24%7Bx%7D", "*", "%E2%80%AE",
}

// attack is a request and what may come of it.
type attack struct {
	method, address, contentType string
	body                         []byte
	// refused says that nothing but a refusal will do.
	refused bool
}

// ordinary values of parameters that are not under attack.
func ordinary(name string) string {
	switch name {
	case "model":
		return "scribbles"
	case "image", "label", "id":
		return "victim"
	case "tag":
		return "final"
	case "strategy":
		return "first"
	case "method":
		return "dice"
	}
	return "x"
}

// addressOf fills in an operation's parameters: the one under attack with the hostile value, required ones with ordinary ones.
func (o operation) addressOf(target string, value string) string {
	path := o.path
	var query []string
	for _, p := range o.parameters {
		v := ordinary(p.Name)
		if p.Name == target {
			v = value
		}
		switch {
		case p.In == "path":
			path = strings.Replace(path, "{"+p.Name+"}", v, 1)
		case p.Name == target || p.Required:
			query = append(query, p.Name+"="+v)
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path
}

// startsWork tells operations whose ordinary parameters would set the machine to work for long.
func (o operation) startsWork() bool {
	return o.method == http.MethodPost && (strings.HasPrefix(o.path, "/train") || strings.HasPrefix(o.path, "/batch") || strings.HasPrefix(o.path, "/scoring"))
}

// upload is a body with every file that an upload may need, so that it is the parameter that is judged.
func (o operation) upload() (contentType string, body []byte) {
	if o.method != http.MethodPut || !slices.Contains(o.bodies, "multipart/form-data") {
		return "", nil
	}
	return multipartB, multi("--B", fmt.Sprintf(fileHead, "file", "a.nii.gz", "x"), "--B", fmt.Sprintf(fileHead, "label", "a.nii.gz", "x"),
		"--B", fmt.Sprintf(fileHead, "files", "a.nii.gz", "x"), "--B--", "")
}

func (o operation) parameterAttacks() []attack {
	var list []attack
	contentType, body := o.upload()
	for _, p := range o.parameters {
		values := append(slices.Clone(hostile), strings.Repeat("a", 5000))
		for _, v := range values {
			if o.startsWork() && p.In != "path" {
				continue
			}
			refused := false
			switch kind, _ := p.Schema.Type.(string); {
			case len(p.Schema.Enum) > 0:
				refused = v != ""
			case kind == "boolean":
				refused = !slices.Contains([]string{"", "0", "yes", "1"}, v)
			case kind == "integer":
				refused = !slices.Contains([]string{"", "-1", "0"}, v)
			}
			list = append(list, attack{o.method, o.addressOf(p.Name, v), contentType, body, refused && v != ""})
		}
		if p.In == "query" && p.Required {
			list = append(list, attack{o.method, strings.Split(o.addressOf("", ""), "?")[0], contentType, body, true})
			list = append(list, attack{o.method, o.addressOf("", "") + "&" + p.Name + "=..%2Fcanary", contentType, body, false})
		}
	}
	return list
}

func multi(parts ...string) []byte { return []byte(strings.Join(parts, "\r\n")) }

const (
	multipartB = "multipart/form-data; boundary=B"
	fileHead   = "Content-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n\r\n%s"
)

// bodyAttacks are bodies that do not hold together, and some that do and mean ill.
func (o operation) bodyAttacks(t *testing.T) []attack {
	t.Helper()
	if len(o.bodies) == 0 {
		return nil
	}
	address := o.addressOf("", "")
	if o.startsWork() {
		address = strings.NewReplacer("scribbles", "nobody", "dice", "nobody").Replace(address)
	}
	var list []attack
	add := func(refused bool, contentType string, body []byte) {
		list = append(list, attack{o.method, address, contentType, body, refused})
	}
	deep := strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)
	for _, media := range o.bodies {
		switch media {
		case "application/json":
			for _, text := range []string{`[1]`, `"x"`, `{`, `{"a":1}}`, "\xff\xfe", `{"a":NaN}`, deep} {
				add(true, media, []byte(text))
			}
		case "application/x-www-form-urlencoded":
			for _, text := range []string{"%zz=%", "a;b=c;d", strings.Repeat("a=b&", 1000)} {
				add(false, media, []byte(text))
			}
			for _, field := range []string{"params", "info"} {
				add(false, media, []byte(url.Values{field: {deep}}.Encode()))
				add(false, media, []byte(url.Values{field: {`{"image":"../../canary","label":"/etc/passwd","model_filename":"../x","session_id":"..","label_tag":"../../x","save_label":true,"result_extension":"/../x"}`}}.Encode()))
			}
		case "multipart/form-data":
			add(true, "multipart/form-data", []byte("x"))
			add(true, "multipart/form-data; boundary="+strings.Repeat("b", 200), []byte("x"))
			add(true, multipartB, []byte("no parts at all"))
			add(true, multipartB, multi("--B", "Content-Disposition: form-data; name=\"file\"; filename=\"x.nii.gz\"", "", "cut off"))
			for _, field := range []string{"file", "label", "files"} {
				for _, name := range []string{"../../canary.nii.gz", `..\\..\\canary.nii.gz`, "/etc/cron.d/x.nii.gz", "CON.nii.gz", "x.nii.gz\x00.png", strings.Repeat("n", 3000) + ".nii.gz", ".lock", "datastore_v2.json", "", "meta.info"} {
					add(false, multipartB, multi("--B", fmt.Sprintf(fileHead, field, name, "no image"), "--B", fmt.Sprintf(fileHead, field, "second.nii.gz", "no image either"), "--B--", ""))
				}
				add(false, multipartB, multi("--B", fmt.Sprintf(fileHead, field, "b.nii.gz", string(bomb(t))), "--B--", ""))
				add(false, multipartB, multi("--B", fmt.Sprintf(fileHead, field, "b.zip", string(zipBomb(t))), "--B--", ""))
			}
			for _, text := range []string{`{`, `[]`, deep, `{"image":"../../canary","label":"/etc/passwd"}`} {
				add(false, multipartB, multi("--B", `Content-Disposition: form-data; name="params"`, "", text, "--B", `Content-Disposition: form-data; name="params"`, "", `{}`, "--B--", ""))
			}
		}
	}
	if o.path == "/session/" {
		address = "/session/?uncompress=true"
		add(true, multipartB, multi("--B", fmt.Sprintf(fileHead, "files", "b.zip", string(zipBomb(t))), "--B--", ""))
		add(true, multipartB, multi("--B", fmt.Sprintf(fileHead, "files", "b.zip", "PK no archive"), "--B--", ""))
		add(false, multipartB, multi("--B", fmt.Sprintf(fileHead, "files", "b.zip", string(zipOf(t, "../../canary.txt", "/etc/x", `..\..\c`, "a/b/c.nii", "NUL"))), "--B--", ""))
	}
	return list
}

func zipOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range names {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte("x"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipBomb is an archive of some kilobytes that unpacks to 64 MiB, more than the sessions of the test may take.
func zipBomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("zeros.nii")
	for i := 0; i < 64 && err == nil; i++ {
		_, err = w.Write(make([]byte, 1<<20))
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// startBounded serves a folder with two images in a place where every stray file would be seen: beside studies and state lie canaries.
func startBounded(t *testing.T) (address, place string) {
	t.Helper()
	place = t.TempDir()
	studies := filepath.Join(place, "deep", "studies")
	if err := errors.Join(os.MkdirAll(studies, 0o700), os.Mkdir(filepath.Join(place, "tmp"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"canary", "canary.nii.gz", "deep/canary", "deep/canary.nii.gz"} {
		if err := os.WriteFile(filepath.Join(place, name), []byte(canary), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image, _ := phantom.Abdomen([3]int{24, 20, 6}, [3]float64{8, 8, 15}, 1)
	for _, id := range []string{"case_0", "victim"} {
		encode(t, filepath.Join(studies, id+".nii.gz"), func(w io.Writer) error {
			return format.Encode("x.nii.gz", w, image, format.Options{DType: "int16", Compress: true})
		})
	}
	t.Setenv("TMPDIR", filepath.Join(place, "tmp"))
	return serveConfig(t, map[string]any{
		"app": writeApp(t, testYAML), "studies": studies, "state.dir": filepath.Join(place, "state"), "server.max_upload": "4MiB",
		"sessions.max_bytes": "8MiB", "engine.infer_timeout": "20s", "log.level": "error",
	}), place
}

const canary = "a secret that no answer may hold"

// judge looks at an answer: no failure of the server's own, a sentence with every refusal, and nothing that lies outside.
func judge(t *testing.T, a attack, status int, answer []byte) {
	t.Helper()
	name := fmt.Sprintf("%s %.160s %s %.60q", a.method, a.address, a.contentType, a.body)
	if bytes.Contains(answer, []byte(canary)) || bytes.Contains(answer, []byte("root:x:0")) {
		t.Errorf("%s is answered with what lies outside the store", name)
	}
	if a.refused && status < 400 {
		t.Errorf("%s is taken: %d %.200s", name, status, answer)
	}
	if status < 400 || a.method == http.MethodHead {
		return
	}
	var said struct{ Detail any }
	if err := json.Unmarshal(answer, &said); err != nil || said.Detail == nil {
		t.Errorf("%s is refused without a word: %d %.200q", name, status, answer)
		return
	}
	known := bytes.Contains(answer, []byte("Neither Image nor File")) || bytes.Contains(answer, []byte("non-DICOM datastore")) // the protocol's own
	if status >= 500 && !known {
		t.Errorf("%s is a failure of the server's: %d %.300s", name, status, answer)
	}
	if text, ok := said.Detail.(string); ok && (len(text) < 5 || strings.Contains(text, "goroutine") || strings.Contains(text, "unexpectedly")) {
		t.Errorf("%s is refused with %q", name, text)
	}
}

// listing are all files below a folder with their sizes, but those below the folders that the server may write to.
func listing(t *testing.T, place string, own ...string) map[string]int64 {
	t.Helper()
	found := make(map[string]int64)
	err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(own, path) {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			found[path] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every parameter and every body of every route, attacked: each gets a right answer, nothing is read or written outside the store, and
// the server lives on.
func TestBadInputOnEveryRoute(t *testing.T) {
	address, place := startBounded(t)
	own := []string{filepath.Join(place, "deep", "studies"), filepath.Join(place, "state")}
	before := listing(t, place, own...)
	goroutines := runtime.NumGoroutine()
	answered := make(map[int]int)
	for _, o := range operations(t, address) {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			for _, a := range append(o.parameterAttacks(), o.bodyAttacks(t)...) {
				status, answer := fetch(t, a.method, address+a.address, a.contentType, a.body)
				judge(t, a, status, answer)
				answered[status]++
			}
		})
	}
	t.Logf("requests by status: %v", answered)
	if status, body := fetch(t, http.MethodGet, address+"/info/", "", nil); status != 200 {
		t.Errorf("after all that /info/ is answered %d %s", status, body)
	}
	after := listing(t, place, own...)
	for path, size := range after {
		if was, known := before[path]; !known || was != size {
			t.Errorf("%s was written outside the store", path)
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			t.Errorf("%s outside the store is gone", path)
		}
	}
	for path := range listing(t, own[0]) {
		if strings.ContainsAny(path, "\\\x00\r\n") {
			t.Errorf("the store holds %q", path)
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines+10 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("there were %d goroutines and are %d", goroutines, runtime.NumGoroutine())
}

// rawAnswer sends bytes and reads the status of what comes back.
func rawAnswer(t *testing.T, address, text string, more io.Reader) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if more != nil {
		_, _ = io.Copy(conn, more) // the server may have had enough
	}
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.80q: %v", text, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// An upload beyond the limit is refused with the reason, whether it says its length or not, and is not stored meanwhile.
func TestUploadsBeyondTheLimit(t *testing.T) {
	address, place := startBounded(t)
	const head = "PUT /datastore/?image=big HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=B\r\n"
	const part = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.nii.gz\"\r\n\r\n"
	for name, c := range map[string]struct {
		text string
		more io.Reader
	}{
		"10 GB announced":             {head + "Content-Length: 10737418240\r\nExpect: 100-continue\r\n\r\n", nil},
		"10 GB announced, 16 MB sent": {head + "Content-Length: 10737418240\r\n\r\n" + part, bytes.NewReader(make([]byte, 16<<20))},
		"16 MB in chunks":             {head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n", len(part)+16<<20) + part, bytes.NewReader(make([]byte, 16<<20))},
	} {
		status, body := rawAnswer(t, address, c.text, c.more)
		if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, "4194304") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		for path, size := range listing(t, place) {
			if size > 5<<20 {
				t.Errorf("%s: %s has %d bytes", name, path, size)
			}
		}
	}
	if status, _ := fetch(t, http.MethodHead, address+"/datastore/image?image=big", "", nil); status != 404 {
		t.Errorf("the image that was too large is answered %d", status)
	}
	left, err := os.ReadDir(filepath.Join(place, "tmp"))
	left = slices.DeleteFunc(left, func(f os.DirEntry) bool { return f.Name() == ".ses" }) // the runtime's own, once a process
	if err != nil || len(left) != 0 {
		t.Errorf("uploads left behind: %v, %v", left, err)
	}
	// A length that no body follows keeps nobody waiting where no body belongs.
	for _, request := range []string{"GET /info/", "DELETE /datastore/label?id=victim&tag=x", "HEAD /datastore/image?image=victim"} {
		if status, _ := rawAnswer(t, address, request+" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1020\r\n\r\n", nil); status != 200 {
			t.Errorf("%s with a stale length: %d", request, status)
		}
	}
	for _, request := range []string{"GET /info/ HTTP/1.1\r\nHost: a b\r\n\r\n", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /datastore/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n"} {
		if status, _ := rawAnswer(t, address, request, nil); status != 400 {
			t.Errorf("%q is answered %d", request, status)
		}
	}
}
