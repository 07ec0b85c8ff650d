package auth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/crypto/bcrypt"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// issuer is a realm: one key pair at a time, the discovery document, the keys in both forms and the token endpoint.
type issuer struct {
	*httptest.Server
	t     *testing.T
	clock *clock

	mu     sync.Mutex
	key    *rsa.PrivateKey
	kid    string
	jwks   bool // keys at jwks_uri
	legacy bool // Keycloak's public_key
	down   bool
	asked  atomic.Int64 // how often for keys
	forms  []string
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newIssuer(t *testing.T, c *clock) *issuer {
	t.Helper()
	i := &issuer{t: t, clock: c, key: rsaKey(t, 2048), kid: "one", jwks: true}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realms/m", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if !i.legacy {
			http.NotFound(w, nil)
			return
		}
		der, _ := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
		i.asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"realm": "m", "public_key": base64.StdEncoding.EncodeToString(der)})
	})
	mux.HandleFunc("GET /realms/m/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		doc := map[string]any{"issuer": i.issuerName(), "token_endpoint": i.URL + "/token"}
		if i.jwks {
			doc["jwks_uri"] = i.URL + "/keys"
		}
		_ = json.NewEncoder(w).Encode(doc)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: i.kid, Use: "sig", Algorithm: "RS256"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		i.mu.Lock()
		i.forms = append(i.forms, r.PostForm.Encode())
		i.mu.Unlock()
		if r.PostForm.Get("password") != "pw" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": i.token(nil), "token_type": "Bearer", "refresh_token": "secret", "expires_in": 300})
	})
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) issuerName() string { return i.URL + "/realms/m" }

func (i *issuer) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

// token signs the usual claims, with some of them changed; nil removes one.
func (i *issuer) token(change map[string]any) string {
	i.t.Helper()
	claims := map[string]any{
		"iss": i.issuerName(), "aud": "account", "azp": "monailabel-app", "typ": "Bearer", "exp": i.clock.now().Add(5 * time.Minute).Unix(),
		"preferred_username": "user", "email": "user@x", "name": "A User", "realm_access": map[string]any{"roles": []string{"monailabel-user", "other"}},
	}
	for name, v := range change {
		if v == nil {
			delete(claims, name)
			continue
		}
		claims[name] = v
	}
	return sign(i.t, jose.RS256, i.key, i.kid, claims)
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func (i *issuer) options() *RealmOptions {
	return &RealmOptions{
		URI: i.URL + "/realms/m", ClientID: "monailabel-app", Timeout: 5 * time.Second,
		Claims: Claims{Username: "preferred_username", Email: "email", Name: "name", Roles: "realm_access#roles"},
	}
}

func newAuth(t *testing.T, o Options) *Authenticator {
	t.Helper()
	o.Roles = DefaultRoleNames()
	o.Log = zerolog.New(zerolog.NewTestWriter(t))
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(t.TempDir(), "state", "auth.key")
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = time.Hour
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRealmToken(t *testing.T) {
	c := newClock()
	i := newIssuer(t, c)
	a := newAuth(t, Options{Realm: i.options(), Now: c.now})
	got, err := a.Authenticate(t.Context(), i.token(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := &Identity{Username: "user", Email: "user@x", Name: "A User", Roles: []string{"monailabel-user", "other"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if !got.Has(a.RoleName(User)) || got.Has(a.RoleName(Admin)) {
		t.Errorf("roles are %v", got.Roles)
	}
	if _, err := a.Authenticate(t.Context(), i.token(map[string]any{"azp": "other", "aud": []string{"x", "monailabel-app"}})); err != nil {
		t.Errorf("a token whose audience holds the client: %v", err)
	}
}

// Everything that is not exactly a good token of this realm for this client is refused.
func TestRealmRefuses(t *testing.T) {
	c := newClock()
	i := newIssuer(t, c)
	a := newAuth(t, Options{Realm: i.options(), Now: c.now})
	good := i.token(nil)
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	raw := base64.RawURLEncoding
	public, _ := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
	claims := map[string]any{"iss": i.issuerName(), "azp": "monailabel-app", "exp": c.now().Add(time.Minute).Unix(), "preferred_username": "admin"}
	other := rsaKey(t, 2048)
	forged, _ := raw.DecodeString(payload)
	for name, token := range map[string]string{
		"nothing":                  "",
		"no token":                 "abc",
		"two parts":                head + "." + payload,
		"no signature":             head + "." + payload + ".",
		"algorithm none":           raw.EncodeToString([]byte(`{"alg":"none"}`)) + "." + payload + ".",
		"algorithm None, signed":   raw.EncodeToString([]byte(`{"alg":"None","kid":"one"}`)) + "." + payload + "." + signature,
		"HMAC with the public key": sign(t, jose.HS256, public, "one", claims),
		"RS512":                    sign(t, jose.RS512, i.key, "one", claims),
		"PS256":                    sign(t, jose.PS256, i.key, "one", claims),
		"another key":              sign(t, jose.RS256, other, "one", claims),
		"another key, its own id":  sign(t, jose.RS256, other, "two", claims),
		"changed claims":           head + "." + raw.EncodeToString([]byte(strings.Replace(string(forged), "monailabel-user", "monailabel-admin", 1))) + "." + signature,
		"expired":                  i.token(map[string]any{"exp": c.now().Add(-2 * time.Minute).Unix()}),
		"no expiry":                i.token(map[string]any{"exp": nil}),
		"expiry as text":           i.token(map[string]any{"exp": "never"}),
		"not yet":                  i.token(map[string]any{"nbf": c.now().Add(time.Hour).Unix()}),
		"another issuer":           i.token(map[string]any{"iss": "https://evil.example/realms/m"}),
		"no issuer":                i.token(map[string]any{"iss": nil}),
		"another client":           i.token(map[string]any{"azp": "other-app"}),
		"no audience":              i.token(map[string]any{"azp": nil, "aud": nil}),
		"an identity token":        i.token(map[string]any{"typ": "ID"}),
		"a refresh token":          i.token(map[string]any{"typ": "Refresh"}),
		"nobody":                   i.token(map[string]any{"preferred_username": nil}),
		"a huge one":               good + strings.Repeat("a", maxToken),
		"ours without accounts":    ticketPrefix + good,
		"API without accounts":     apiPrefix + "x",
	} {
		if id, err := a.Authenticate(t.Context(), token); !errors.Is(err, ErrCredentials) || id != nil {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	strict := i.options()
	strict.Audience = "scrawl"
	a = newAuth(t, Options{Realm: strict, Now: c.now})
	if _, err := a.Authenticate(t.Context(), good); !errors.Is(err, ErrCredentials) {
		t.Errorf("a token for another audience: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), i.token(map[string]any{"aud": "scrawl"})); err != nil {
		t.Errorf("a token for the audience: %v", err)
	}
}

func TestRealmKeys(t *testing.T) {
	for _, form := range []string{"jwks", "public_key"} {
		t.Run(form, func(t *testing.T) {
			c := newClock()
			i := newIssuer(t, c)
			i.jwks, i.legacy = form == "jwks", form != "jwks"
			a := newAuth(t, Options{Realm: i.options(), Now: c.now})
			works := func(token string) bool {
				t.Helper()
				_, err := a.Authenticate(t.Context(), token)
				if err != nil && !errors.Is(err, ErrCredentials) {
					t.Fatal(err)
				}
				return err == nil
			}
			old := i.token(nil)
			for range 5 {
				if !works(old) {
					t.Fatal("a good token is refused")
				}
			}
			if n := i.asked.Load(); n != 1 {
				t.Errorf("the realm was asked %d times for its keys", n)
			}
			// A key that nobody knows makes the server ask again, but not for every token that is made up.
			i.set(func() { i.key, i.kid = rsaKey(t, 2048), "two" })
			renewed := i.token(nil)
			c.add(askInterval)
			if !works(renewed) {
				t.Error("a token of the new key is refused")
			}
			before := i.asked.Load()
			for range 20 {
				works(sign(t, jose.RS256, rsaKeyOnce(t), "made-up", map[string]any{"iss": i.issuerName()}))
			}
			if n := i.asked.Load() - before; n > 1 {
				t.Errorf("20 made-up tokens made the server ask %d times", n)
			}
			if works(old) {
				t.Error("a token of a key that the realm withdrew is taken")
			}
			// Keys do not live on for ever, nor die with the realm's first minute of absence.
			i.set(func() { i.down = true })
			c.add(keysFresh)
			if !works(i.token(nil)) {
				t.Error("the realm is away for a moment and nobody gets in")
			}
			c.add(keysStale)
			if _, err := a.Authenticate(t.Context(), i.token(nil)); !errors.Is(err, ErrUnavailable) {
				t.Errorf("a realm that is gone: %v", err)
			}
			i.set(func() { i.down = false })
			c.add(askInterval)
			if !works(i.token(nil)) {
				t.Error("the realm is back and nobody gets in")
			}
		})
	}
}

var rsaKeyOnce = func() func(t *testing.T) *rsa.PrivateKey {
	var key *rsa.PrivateKey
	return func(t *testing.T) *rsa.PrivateKey {
		if key == nil {
			key = rsaKey(t, 2048)
		}
		return key
	}
}()

func TestRealmAddresses(t *testing.T) {
	for _, address := range []string{"http://sso.example/realms/m", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "", "http://127.0.0.1.evil.example/"} {
		if _, err := newRealm(RealmOptions{URI: address}, time.Now, zerolog.Nop()); err == nil {
			t.Errorf("realm %q is taken", address)
		}
	}
	// A document over a safe connection may not send us to an unsafe one, neither by what it says nor by redirecting.
	c := newClock()
	i := newIssuer(t, c)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":"x","jwks_uri":"http://sso.example/keys","token_endpoint":"http://sso.example/token"}`)
		case "/b/.well-known/openid-configuration", "/b":
			http.Redirect(w, r, "http://sso.example/keys", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer evil.Close()
	for _, path := range []string{"/a", "/b"} {
		o := i.options()
		o.URI = evil.URL + path
		a := newAuth(t, Options{Realm: o, Now: c.now})
		if err := a.Check(t.Context()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "https") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := a.Login(t.Context(), "user", "pw"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: login gives %v", path, err)
		}
	}
}

func TestRealmLogin(t *testing.T) {
	c := newClock()
	i := newIssuer(t, c)
	o := i.options()
	o.ClientSecret = "s3cret"
	a := newAuth(t, Options{Realm: o, Now: c.now})
	token, err := a.Login(t.Context(), "user", "pw")
	if err != nil || token.Type != "Bearer" {
		t.Fatalf("login gives %+v, %v", token, err)
	}
	if id, err := a.Authenticate(t.Context(), token.Access); err != nil || id.Username != "user" {
		t.Errorf("the token is %+v, %v", id, err)
	}
	if diff := cmp.Diff([]string{"client_id=monailabel-app&client_secret=s3cret&grant_type=password&password=pw&username=user"}, i.forms); diff != "" {
		t.Errorf("what the realm was asked (-want +got):\n%s", diff)
	}
	for n := range 12 {
		_, err := a.Login(t.Context(), "user", "bad")
		if want := map[bool]error{true: ErrCredentials, false: ErrThrottled}[n < loginBurst]; !errors.Is(err, want) {
			t.Errorf("wrong password number %d gives %v, want %v", n+1, err, want)
		}
	}
	if _, err := a.Login(t.Context(), "user", "pw"); !errors.Is(err, ErrThrottled) {
		t.Errorf("a right password among many wrong ones gives %v", err)
	}
	if _, err := a.Login(t.Context(), "other", "pw"); err != nil {
		t.Errorf("another user is throttled as well: %v", err)
	}
	c.add(loginRefill)
	if _, err := a.Login(t.Context(), "user", "pw"); err != nil {
		t.Errorf("after a while the right password gives %v", err)
	}
	i.set(func() { i.down = true })
	if _, err := a.Login(t.Context(), "user", "pw"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a realm that is away gives %v", err)
	}
}

func writeAccounts(t *testing.T, path string, a *Accounts) {
	t.Helper()
	var b strings.Builder
	if err := a.Encode(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hashed(t *testing.T, password string) string {
	t.Helper()
	hash, err := hashPassword(password, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestLocalAccounts(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "accounts.yaml")
	token, hash := NewAPIToken()
	expiring, expiringHash := NewAPIToken()
	file := &Accounts{
		Users: []Account{
			{Name: "anna", FullName: "Anna A.", Email: "anna@x", Password: hashed(t, "correct horse"), Roles: []string{"user", "monailabel-annotator"}},
			{Name: "böb", Password: hashed(t, "battery staple"), Roles: []string{"user"}},
		},
		Tokens: []APIToken{
			{Name: "room-3", SHA256: strings.ToUpper(hash), Roles: []string{"user"}},
			{Name: "visit", SHA256: expiringHash, Roles: []string{"admin"}, Expires: c.now().Add(time.Hour)},
		},
	}
	writeAccounts(t, path, file)
	key := filepath.Join(t.TempDir(), "deep", "auth.key")
	a := newAuth(t, Options{Accounts: path, Now: c.now, KeyFile: key})
	login, err := a.Login(t.Context(), "anna", "correct horse")
	if err != nil || login.Type != "Bearer" || login.Lifetime != time.Hour {
		t.Fatalf("login gives %+v, %v", login, err)
	}
	for _, wrong := range [][2]string{{"anna", "correct hors"}, {"anna", ""}, {"Anna", "correct horse"}, {"nobody", "correct horse"}, {"anna", strings.Repeat("x", 100)}} {
		if _, err := a.Login(t.Context(), wrong[0], wrong[1]); !errors.Is(err, ErrCredentials) {
			t.Errorf("login as %q gives %v", wrong, err)
		}
	}
	anna := &Identity{Username: "anna", Email: "anna@x", Name: "Anna A.", Roles: []string{"monailabel-user", "monailabel-annotator"}}
	check := func(token string, want *Identity) {
		t.Helper()
		got, err := a.Authenticate(t.Context(), token)
		if diff := cmp.Diff(want, got); diff != "" || (want == nil) != errors.Is(err, ErrCredentials) {
			t.Errorf("identity (-want +got), error %v:\n%s", err, diff)
		}
	}
	check(login.Access, anna)
	check(token, &Identity{Username: "room-3", Name: "room-3", Roles: []string{"monailabel-user"}})
	check(expiring, &Identity{Username: "visit", Name: "visit", Roles: []string{"monailabel-admin"}})
	for _, bad := range []string{token + "x", token[:len(token)-1], apiPrefix, ticketPrefix, login.Access + "x", strings.TrimPrefix(login.Access, ticketPrefix), ticketPrefix + token} {
		check(bad, nil)
	}
	other := newAuth(t, Options{Accounts: path, Now: c.now})
	if _, err := other.Authenticate(t.Context(), login.Access); !errors.Is(err, ErrCredentials) {
		t.Errorf("a token signed with another key: %v", err)
	}
	restarted := newAuth(t, Options{Accounts: path, Now: c.now, KeyFile: key})
	if _, err := restarted.Authenticate(t.Context(), login.Access); err != nil {
		t.Errorf("a restart logs people out: %v", err)
	}
	if info, err := os.Stat(key); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	// A change holds at once.
	file.Users[0].Roles = []string{"admin"}
	file.Tokens = file.Tokens[1:]
	writeAccounts(t, path, file)
	check(login.Access, &Identity{Username: "anna", Email: "anna@x", Name: "Anna A.", Roles: []string{"monailabel-admin"}})
	check(token, nil)
	file.Users[0].Password = hashed(t, "another password")
	writeAccounts(t, path, file)
	check(login.Access, nil)
	file.Users = file.Users[1:]
	writeAccounts(t, path, file)
	if login, err = a.Login(t.Context(), "böb", "battery staple"); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour + time.Second)
	check(login.Access, nil)
	check(expiring, nil)
	// While the file is broken nobody gets in.
	if err := os.WriteFile(path, []byte("users: [x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Login(t.Context(), "böb", "battery staple"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with a broken file login gives %v", err)
	}
}

// A local user comes first, anybody else is the realm's.
func TestBothSources(t *testing.T) {
	c := newClock()
	i := newIssuer(t, c)
	path := filepath.Join(t.TempDir(), "accounts.yaml")
	writeAccounts(t, path, &Accounts{Users: []Account{{Name: "anna", Password: hashed(t, "correct horse"), Roles: []string{"user"}}}})
	a := newAuth(t, Options{Realm: i.options(), Accounts: path, Now: c.now})
	if token, err := a.Login(t.Context(), "anna", "correct horse"); err != nil || !strings.HasPrefix(token.Access, ticketPrefix) {
		t.Errorf("local login: %+v, %v", token, err)
	}
	if _, err := a.Login(t.Context(), "anna", "pw"); !errors.Is(err, ErrCredentials) || len(i.forms) != 0 {
		t.Errorf("a local user's wrong password went to the realm: %v, %v", i.forms, err)
	}
	if token, err := a.Login(t.Context(), "user", "pw"); err != nil || strings.HasPrefix(token.Access, ticketPrefix) {
		t.Errorf("login at the realm: %+v, %v", token, err)
	}
}

func TestBadAccounts(t *testing.T) {
	good := hashed(t, "correct horse")
	_, hash := NewAPIToken()
	for name, text := range map[string]string{
		"not YAML":          "users: {",
		"unknown key":       "user: []\n",
		"plain password":    "users: [{name: a, password: secret, roles: [user]}]",
		"no name":           "users: [{password: '" + good + "', roles: [user]}]",
		"a name with /":     "users: [{name: a/b, password: '" + good + "', roles: [user]}]",
		"twice":             "users: [{name: a, password: '" + good + "', roles: [user]}, {name: a, password: '" + good + "', roles: [user]}]",
		"no roles":          "users: [{name: a, password: '" + good + "'}]",
		"unknown role":      "users: [{name: a, password: '" + good + "', roles: [root]}]",
		"token, no hash":    "tokens: [{name: a, sha256: abc, roles: [user]}]",
		"token, no roles":   "tokens: [{name: a, sha256: " + hash + ", roles: []}]",
		"expiry is no time": "tokens: [{name: a, sha256: " + hash + ", roles: [user], expires: soon}]",
	} {
		path := filepath.Join(t.TempDir(), "accounts.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadAccounts(path, DefaultRoleNames()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runtime.GOOS != "windows" {
		path := filepath.Join(t.TempDir(), "accounts.yaml")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadAccounts(path, DefaultRoleNames()); err == nil || !strings.Contains(err.Error(), "600") {
			t.Errorf("a file that everybody may write: %v", err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("an authenticator without any source is made")
	}
	for _, password := range []string{"", "short", strings.Repeat("x", 73)} {
		if _, err := HashPassword(password); err == nil {
			t.Errorf("a password of %d bytes is taken", len(password))
		}
	}
}

func TestGrants(t *testing.T) {
	c := newClock()
	g := NewGrants(time.Minute, c.now)
	g.Give("10.0.0.1", "case_0")
	for _, no := range [][2]string{{"10.0.0.2", "case_0"}, {"10.0.0.1", "case_1"}, {"", "case_0"}, {"10.0.0.1", ""}} {
		if g.Holds(no[0], no[1]) {
			t.Errorf("%v holds", no)
		}
	}
	if !g.Holds("10.0.0.1", "case_0") {
		t.Error("a grant does not hold")
	}
	c.add(time.Minute + time.Second)
	if g.Holds("10.0.0.1", "case_0") {
		t.Error("a grant outlives its time")
	}
	for n := range maxGrants + 10 {
		g.Give("10.0.0.1", fmt.Sprint(n))
	}
	if len(g.until) > maxGrants {
		t.Errorf("there are %d grants", len(g.until))
	}
	off := NewGrants(0, c.now)
	off.Give("10.0.0.1", "case_0")
	if off.Holds("10.0.0.1", "case_0") {
		t.Error("grants are off and one holds")
	}
}

func TestThrottleStaysSmall(t *testing.T) {
	c := newClock()
	th := newThrottle(c.now)
	for n := range maxThrottled + 100 {
		th.allow(fmt.Sprint(n))
	}
	if len(th.spent) > maxThrottled {
		t.Errorf("%d names are remembered", len(th.spent))
	}
	th.refund("5")
	if _, ok := th.spent["5"]; ok {
		t.Error("a refund of the only try leaves something")
	}
}

// A client that leaves does not count as the realm's failure.
func TestClientLeavesWhileTheRealmIsAsked(t *testing.T) {
	c := newClock()
	i := newIssuer(t, c)
	a := newAuth(t, Options{Realm: i.options(), Now: c.now})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Authenticate(gone, i.token(nil)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the client that left gets %v", err)
	}
	if _, err := a.Authenticate(t.Context(), i.token(nil)); err != nil {
		t.Errorf("the next client gets %v", err)
	}
}

func FuzzAuthenticate(f *testing.F) {
	c := newClock()
	path := filepath.Join(f.TempDir(), "accounts.yaml")
	if err := os.WriteFile(path, []byte("users: []\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	a, err := New(Options{Accounts: path, KeyFile: filepath.Join(f.TempDir(), "k"), TokenLifetime: time.Hour, Roles: DefaultRoleNames(), Now: c.now, Log: zerolog.Nop()})
	if err != nil {
		f.Fatal(err)
	}
	token, err := a.tickets.issue(&Account{Name: "x"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{token.Access, apiPrefix + "x", ticketPrefix + "a.b.c", "", "a.b.c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := a.Authenticate(t.Context(), token); err == nil || id != nil {
			t.Errorf("%q is %+v", token, id)
		}
	})
}
