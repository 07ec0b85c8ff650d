package httpapi

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"scrawl/labelserver/auth"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

// realmFixture is an OpenID Connect realm with two users, as in the recordings: user and admin, both with password pw.
type realmFixture struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey
}

// Keys and hashes take their time; one of each is enough.
var (
	realmKey      = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	annasPassword = sync.OnceValues(func() (string, error) { return auth.HashPassword("correct horse") })
)

func newRealmFixture(t *testing.T) *realmFixture {
	t.Helper()
	key, err := realmKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &realmFixture{t: t, key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realms/monailabel/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":"%[1]s/realms/monailabel","token_endpoint":"%[1]s/token","jwks_uri":"%[1]s/keys"}`, f.URL)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Use: "sig", Algorithm: "RS256"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		name := r.PostFormValue("username")
		if r.PostFormValue("password") != "pw" || r.PostFormValue("client_id") != "monailabel-app" || r.PostFormValue("grant_type") != "password" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","refresh_token":"not to be passed on"}`, f.token(name))
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *realmFixture) token(name string) string {
	f.t.Helper()
	roles := []string{"monailabel-user"}
	if name == "admin" {
		roles = []string{"monailabel-admin", "monailabel-reviewer", "monailabel-annotator", "monailabel-user"}
	}
	text, err := json.Marshal(map[string]any{
		"iss": f.URL + "/realms/monailabel", "azp": "monailabel-app", "exp": time.Now().Add(time.Hour).Unix(), "preferred_username": name,
		"email": name + "@x", "name": name, "realm_access": map[string]any{"roles": roles},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: f.key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		f.t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		f.t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return compact
}

// withLogin makes a bench whose clients must log in: at the realm, or by API tokens that have one role each.
func withLogin(t *testing.T, change ...func(o *Options)) (b *bench, f *realmFixture, tokens map[string]string) {
	t.Helper()
	f = newRealmFixture(t)
	tokens = make(map[string]string)
	var accounts auth.Accounts
	for _, role := range auth.Roles() {
		token, hash := auth.NewAPIToken()
		tokens[role.String()] = token
		accounts.Tokens = append(accounts.Tokens, auth.APIToken{Name: "only-" + role.String(), SHA256: hash, Roles: []string{role.String()}})
	}
	password, err := annasPassword()
	if err != nil {
		t.Fatal(err)
	}
	accounts.Users = []auth.Account{{Name: "anna", FullName: "Anna", Password: password, Roles: []string{"user", "annotator"}}}
	path := filepath.Join(t.TempDir(), "accounts.yaml")
	var text bytes.Buffer
	if err := errors.Join(accounts.Encode(&text), os.WriteFile(path, text.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{
		Realm: &auth.RealmOptions{URI: f.URL + "/realms/monailabel", ClientID: "monailabel-app", Timeout: 5 * time.Second,
			Claims: auth.Claims{Username: "preferred_username", Email: "email", Name: "name", Roles: "realm_access#roles"}},
		Accounts: path, KeyFile: filepath.Join(t.TempDir(), "key"), TokenLifetime: time.Hour, Roles: auth.DefaultRoleNames(), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Auth.Enable = true
	c.Server.CORSOrigins = []string{"*"}
	b = newBench(t, append([]func(*Options){func(o *Options) { o.Config, o.Auth = c, a }}, change...)...)
	return b, f, tokens
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// Every route says who may use it.
func TestEveryRouteHasARole(t *testing.T) {
	b := newBench(t)
	for _, r := range b.server.routes {
		if _, ok := b.server.accessOf(r.method, r.path); !ok {
			t.Errorf("%s %s is not in accessTable: say who may use it", r.method, r.path)
		}
	}
}

// example fills a route's parameters with something.
func example(r route) string {
	path := pathParameter.ReplaceAllString(r.path, "x")
	return strings.Replace(path, "*", "x", 1)
}

// A route answers nothing but 401 without a token, 403 with a token of other roles, and something else with the right one.
func TestRolesByRoute(t *testing.T) {
	b, _, tokens := withLogin(t)
	for _, r := range b.server.routes {
		asked, _ := b.server.accessOf(r.method, r.path)
		path := example(r)
		if asked.open {
			if got := b.do(r.method, path, "", nil).status; got == 401 && path != "/auth/token" || got == 403 {
				t.Errorf("%s %s is open and answers %d", r.method, path, got)
			}
			continue
		}
		for _, header := range [][]string{nil, {"Authorization", "Basic abc"}, {"Authorization", "Bearer"}, bearer("abc"), bearer(tokens["user"] + "x"), {"X-Scrawl", "y"}} {
			got := b.do(r.method, path, "", nil, header...)
			if got.status != 401 || got.header.Get("Www-Authenticate") != "Bearer" {
				t.Errorf("%s %s with %v answers %d %s", r.method, path, header, got.status, got.body)
			}
		}
		for _, role := range auth.Roles() {
			got := b.do(r.method, path, "", nil, bearer(tokens[role.String()])...)
			allowed := len(asked.roles) == 0 || slices.Contains(asked.roles, role)
			if allowed == (got.status == 401 || got.status == 403) {
				t.Errorf("%s %s as %s answers %d %s", r.method, path, role, got.status, got.body)
			}
		}
	}
	b.want(b.get("/logs/", bearer(tokens["user"])...), 403, `{"detail":"Role \"monailabel-admin\" is required to perform this action"}`)
	b.want(b.get("/info/"), 401, `{"detail":"Not authenticated"}`)
	b.want(b.get("/info/", bearer("abc")...), 401, `{"detail":"Could not validate credentials"}`)
	b.want(b.get("/nowhere"), 404, `{"detail":"Not Found"}`)
	b.want(b.do(http.MethodPatch, "/info/", "", nil), 405, "")
}

func TestLogin(t *testing.T) {
	b, f, _ := withLogin(t)
	realm := f.URL + "/realms/monailabel"
	b.want(b.get("/auth/"), 200, `{"enabled":true,"client_id":"monailabel-app","realm":"`+realm+`"}`)
	login := func(form url.Values) result {
		t.Helper()
		return b.do(http.MethodPost, "/auth/token", "application/x-www-form-urlencoded", []byte(form.Encode()))
	}
	r := login(url.Values{"username": {"user"}, "password": {"pw"}, "grant_type": {"password"}})
	b.want(r, 200, "")
	if diff := cmp.Diff([]string{"access_token", "token_type"}, r.object(t).Names()); diff != "" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	token, _ := r.object(t).Text("access_token")
	b.want(b.get("/auth/token/valid", bearer(token)...), 200, `{"username":"user","email":"user@x","name":"user","roles":["monailabel-user"]}`)
	b.want(b.get("/info/", "Authorization", "bearer "+token), 200, "")
	r = login(url.Values{"username": {"anna"}, "password": {"correct horse"}})
	local, _ := r.object(t).Text("access_token")
	b.want(b.get("/auth/token/valid", bearer(local)...), 200, `{"username":"anna","email":"","name":"Anna","roles":["monailabel-user","monailabel-annotator"]}`)
	b.want(b.get("/auth/token/valid"), 401, `{"detail":"Not authenticated"}`)
	b.want(login(url.Values{"username": {"user"}, "password": {"bad"}}), 401, `{"detail":"wrong user name or password"}`)
	b.want(login(url.Values{"username": {"anna"}, "password": {"bad"}}), 401, `{"detail":"wrong user name or password"}`)
	b.want(login(url.Values{"username": {"user"}}), 422, "")
	b.want(login(url.Values{"username": {"user"}, "password": {"pw"}, "grant_type": {"client_credentials"}}), 422, "")
	b.want(login(url.Values{"username": {strings.Repeat("u", 2000)}, "password": {"pw"}}), 400, "")
	b.want(login(url.Values{"username": {"user"}, "password": {"pw"}, "cookie": {"perhaps"}}), 400, "")
	for range 20 {
		r = login(url.Values{"username": {"guess"}, "password": {"bad"}})
	}
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("guessing is answered %d %v", r.status, r.header)
	}
	f.Close()
	b.want(login(url.Values{"username": {"user"}, "password": {"pw"}}), 503, "")
	// Whoever uploads is on record.
	contentType, body := form(part{"file", "x.nii.gz", "voxels"}, params(`{"user":"somebody else"}`))
	b.want(b.do(http.MethodPut, "/datastore/?image=mine", contentType, body, bearer(local)...), 200, "")
	if r := b.get("/datastore/image/info?image=mine", bearer(local)...); !strings.Contains(r.body, `"user":"anna"`) {
		t.Errorf("info is %s", r.body)
	}
	// An answer is not a way around the role that storing a label takes.
	for tag, want := range map[string]int{"original": 200, "": 200, "final": 403, "auto": 403} {
		contentType, body := form(params(`{"save_label":true,"label_tag":"` + tag + `"}`))
		b.want(b.do(http.MethodPost, "/infer/scribbles?image=case_0", contentType, body, bearer(token)...), want, "")
	}
	b.want(b.get("/datastore/label?label=case_0&tag=auto", bearer(token)...), 404, "")
	contentType, body = form(params(`{"save_label":true,"label_tag":"auto"}`))
	b.want(b.do(http.MethodPost, "/infer/scribbles?image=case_0", contentType, body, bearer(local)...), 200, "")
	// Users do not share what is learned, whatever they say to be.
	contentType, body = form(params(`{"client_id":"user-xyz"}`))
	b.want(b.do(http.MethodPost, "/infer/scribbles?image=case_0", contentType, body, bearer(local)...), 200, "")
	if got := b.service.last(t).ClientID; got != "anna/user-xyz" {
		t.Errorf("client is %q", got)
	}
	// Their labels are learned into the same, and it is they who are handed images.
	contentType, body = form(params(`{"client_id":"user-xyz"}`), part{"label", "x.nii.gz", "voxels"})
	b.want(b.do(http.MethodPut, "/datastore/label?image=case_0", contentType, body, bearer(local)...), 200, "")
	if got := b.service.submitted; len(got) != 1 || got[0].ClientID != "anna/user-xyz" {
		t.Errorf("submissions are %+v", got)
	}
	r = b.do(http.MethodPost, "/activelearning/first", "application/json", []byte(`{"client_id":"user-xyz"}`), bearer(local)...)
	id, _ := r.object(t).Text("id")
	if r := b.get("/datastore/image/info?image="+id, bearer(local)...); id == "" || !strings.Contains(r.body, `"client_id":"anna/user-xyz"`) {
		t.Errorf("image %q was handed to %s", id, r.body)
	}
}

// What a client calls itself stays small in the index, whoever it is.
func TestLongClientName(t *testing.T) {
	b := newBench(t)
	r := b.do(http.MethodPost, "/activelearning/first", "application/json", []byte(`{"client_id":"`+strings.Repeat("x", 1<<20)+`"}`))
	id, _ := r.object(t).Text("id")
	if r := b.get("/datastore/image/info?image=" + id); id == "" || !strings.Contains(r.body, `"client_id":"xxx`) || len(r.body) > 2000 {
		t.Errorf("image %q has an info of %d bytes", id, len(r.body))
	}
}

// Without a login there is nothing below /auth/.
func TestNoLogin(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/auth/", "/auth/token/valid", "/auth/login"} {
		b.want(b.get(path), 404, `{"detail":"Not Found"}`)
	}
	b.want(b.do(http.MethodPost, "/auth/token", "application/x-www-form-urlencoded", []byte("username=a&password=b")), 404, "")
	b.want(b.do(http.MethodDelete, "/auth/token", "", nil), 404, "")
}

// The recorded exchanges of a server with login. Tokens are replaced by ones of this test's realm.
func TestReplayOfRecordedLogins(t *testing.T) {
	dir := filepath.Join(captures(t), "auth")
	// What differs on purpose: the incumbent refuses every token, and the recordings "patched_…" show what it meant.
	deviations := map[string]*deviation{
		"info_user": {200, "the incumbent never accepts a token"}, "logs_admin": {200, "as before"}, "logs_user": {403, "as before"},
		"valid": {200, "as before"}, "token_bad": {401, "the incumbent fails"}, "ohif": {401, ""},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.req"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".req")
		t.Run(name, func(t *testing.T) {
			b, f, _ := withLogin(t)
			req := b.recordedRequest(t, dir, name)
			if header := req.Header.Get("Authorization"); strings.Count(header, ".") == 2 {
				who := "user"
				if strings.Contains(name, "admin") {
					who = "admin"
				}
				req.Header.Set("Authorization", "Bearer "+f.token(who))
			}
			recorded, got := readRecording(t, dir, name), b.send(req)
			if d := deviations[name]; d != nil {
				b.want(got, d.status, "")
				return
			}
			compareStatusAndHeaders(t, recorded, got)
			if name != "auth" { // its realm has another port
				compareBodies(t, recorded, got)
			} else {
				compareOrder(t, recorded.body, got.body)
			}
		})
	}
}

func TestImageGrant(t *testing.T) {
	b, _, tokens := withLogin(t, func(o *Options) { o.Config.Auth.ImageGrant = time.Minute })
	b.want(b.get("/datastore/image?image=case_1"), 401, "")
	r := b.do(http.MethodPost, "/activelearning/first", "", nil, bearer(tokens["user"])...)
	if id, _ := r.object(t).Text("id"); id != "case_1" {
		t.Fatalf("sample is %s", r.body)
	}
	b.want(b.get("/datastore/image?image=case_1"), 200, "")
	b.want(b.do(http.MethodHead, "/datastore/image?image=case_1", "", nil), 200, "")
	for _, path := range []string{"/datastore/image?image=case_0", "/datastore/image/info?image=case_1", "/datastore/label?label=case_1&tag=original", "/info/"} {
		b.want(b.get(path), 401, "")
	}
	b.want(b.get("/datastore/image?image=case_1", bearer("wrong")...), 401, "")
	without, _, tokens := withLogin(t)
	without.want(without.do(http.MethodPost, "/activelearning/first", "", nil, bearer(tokens["user"])...), 200, "")
	without.want(without.get("/datastore/image?image=case_1"), 401, "")
}

// A browser that has logged in sends a cookie; it counts for this server's own pages alone.
func TestCookie(t *testing.T) {
	b, _, _ := withLogin(t)
	r := b.do(http.MethodPost, "/auth/token", "application/x-www-form-urlencoded", []byte("username=anna&password=correct+horse&cookie=true"))
	b.want(r, 200, "")
	set := r.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} {
		if !strings.Contains(set, want) {
			t.Errorf("cookie %q lacks %s", set, want)
		}
	}
	cookie, _, _ := strings.Cut(set, ";")
	host := strings.TrimPrefix(b.url, "http://")
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{200, nil}, {200, []string{"Sec-Fetch-Site", "same-origin"}}, {200, []string{"Origin", "http://" + host}},
		{401, []string{"Sec-Fetch-Site", "cross-site"}}, {401, []string{"Sec-Fetch-Site", "same-site"}}, {401, []string{"Origin", "http://evil.example"}},
	} {
		b.want(b.get("/info/", append([]string{"Cookie", cookie}, c.headers...)...), c.status, "")
	}
	if r := b.get("/ohif/", "Sec-Fetch-Mode", "navigate"); r.status != 303 || r.header.Get("Location") != "/auth/login?next=%2Fohif%2F" {
		t.Errorf("a browser without login: %d to %s", r.status, r.header.Get("Location"))
	}
	if r := b.get("/auth/login"); r.status != 200 || strings.Contains(r.body, "https://") || strings.Contains(r.body, "<script>") || !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("page to log in: %d %s", r.status, r.body)
	}
	out := b.do(http.MethodDelete, "/auth/token", "", nil, "Cookie", cookie)
	if b.want(out, 200, "null"); !strings.Contains(out.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("logging out sets %q", out.header.Get("Set-Cookie"))
	}
}

// Pages of strangers cannot use the server through a browser.
func TestStrangersPages(t *testing.T) {
	b := newBench(t)
	b.want(b.get("/info/", "Origin", "http://evil.example"), 200, "") // unreadable for the page
	if r := b.get("/info/", "Origin", "http://evil.example"); r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a stranger's page may read: %v", r.header)
	}
	contentType, body := form(part{"file", "x.nii.gz", "voxels"})
	for origin, status := range map[string]int{
		"http://evil.example": 403, "null": 403, "http://localhost.evil.example": 403, "file://": 403, "http://localhost:3000": 200, "http://127.0.0.1:8080": 200,
		"http://[::1]:9": 200, b.url: 200,
	} {
		b.want(b.do(http.MethodPut, "/datastore/?image=x", contentType, body, "Origin", origin), status, "")
	}
	if r := b.get("/info/", "Origin", "http://localhost:3000"); r.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" || r.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("a page of this machine: %v", r.header)
	}
	ask := func(b *bench, host string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/info/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		return b.send(req).status
	}
	for host, status := range map[string]int{"evil.example": 421, "evil.example:8000": 421, "localhost:8000": 200, "127.0.0.1": 200, "[::1]:8000": 200, "10.0.0.1:8000": 200} {
		if got := ask(b, host); got != status {
			t.Errorf("host %s is answered %d, want %d", host, got, status)
		}
	}
	c := config.Default()
	c.Auth.AllowAnonymous = true
	if got := ask(newBench(t, func(o *Options) { o.Config = c }), "lab.example"); got != 200 {
		t.Errorf("a server for all is asked by its name and answers %d", got)
	}
}

func TestSwitchedOff(t *testing.T) {
	c := config.Default()
	c.Tasks = config.Tasks{}
	b := newBench(t, func(o *Options) { o.Config = c })
	for _, path := range []string{"/train/", "/scoring/", "/batch/infer"} {
		b.want(b.get(path), 404, `{"detail":"Not Found"}`)
	}
	b.want(b.post("/activelearning/first"), 404, `{"detail":"Not Found"}`)
	b.want(b.get("/info/"), 200, "")
}

func TestAuditTrail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "audit.jsonl")
	trail, err := obs.OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	b, _, tokens := withLogin(t, func(o *Options) { o.Audit = trail })
	b.get("/info/", bearer(tokens["user"])...)
	b.get("/train/", bearer(tokens["user"])...)
	b.get("/datastore/image?image=case_0", bearer(tokens["user"])...)
	b.do(http.MethodDelete, "/datastore/?id=case_0", "", nil, bearer(tokens["user"])...)
	b.do(http.MethodDelete, "/datastore/label?id=nobody&tag=x", "", nil, bearer(tokens["admin"])...)
	b.do(http.MethodPost, "/activelearning/first", "", nil, bearer(tokens["user"])...)
	b.do(http.MethodPost, "/auth/token", "application/x-www-form-urlencoded", []byte("username=anna&password=wrong"))
	b.get("/logs/")
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	type line struct{ Event, Action, Outcome, User, Image, Label string }
	var got []line
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var e obs.Event
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Address != "127.0.0.1" || e.Request == "" || e.Time.IsZero() {
			t.Errorf("event is %s", scan.Text())
		}
		got = append(got, line{e.Event, e.Action, e.Outcome, e.User, e.Image, e.Label})
	}
	want := []line{
		{"DICOM Instances Accessed", "GET /datastore/image", "success", "only-user", "case_0", ""},
		{"DICOM Instances Accessed", "DELETE /datastore/", "refused", "only-user", "case_0", ""},
		{"DICOM Instances Accessed", "DELETE /datastore/label", "success", "only-admin", "nobody", "x"},
		{"Patient Record", "POST /activelearning/:strategy", "success", "only-user", "case_1", ""},
		{"User Authentication", "POST /auth/token", "refused", "anna", "", ""},
		{"Audit Log Used", "GET /logs/", "refused", "", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trail (-want +got):\n%s", diff)
	}
}
