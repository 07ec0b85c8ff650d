package auth

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
)

// RealmOptions say how to use an OpenID Connect realm.
type RealmOptions struct {
	// URI is the realm's address. https, but on the loopback. Below it lies /.well-known/openid-configuration (OpenID Connect
	// Discovery 1.0), from which issuer, token endpoint and keys (jwks_uri) are taken; Keycloak also shows its key as public_key at
	// the address itself.
	URI string
	// ClientID and ClientSecret are this server's at the realm.
	ClientID, ClientSecret string
	// Audience is what a token's aud must hold. With "" aud must hold the ClientID, or azp must be it, as in Keycloak's tokens.
	Audience string
	// Timeout bounds each question to the realm.
	Timeout time.Duration
	// Claims are where tokens say who somebody is; # leads into a nested object.
	Claims Claims
	// Client asks the realm, one with sane limits if nil. For tests with a certificate of their own.
	Client *http.Client
}

// Claims are paths of claims, such as realm_access#roles.
type Claims struct {
	Username, Email, Name, Roles string
}

// How long what the realm said is believed.
const (
	keysFresh   = 10 * time.Minute // then it is asked again, so that a withdrawn key does not live on
	keysStale   = time.Hour        // so long old keys do while the realm cannot be reached
	askInterval = 10 * time.Second // between questions caused by tokens with an unknown key or by failures
)

const (
	maxRealmAnswer = 1 << 20 // bytes
	maxToken       = 32 << 10
	minRSABits     = 2048
	leeway         = time.Minute // between the clocks of the realm and ours
)

// algorithms is pinned: a token does not choose how it is checked.
var algorithms = []jose.SignatureAlgorithm{jose.RS256}

type realm struct {
	o      RealmOptions
	client *http.Client
	now    func() time.Time
	log    zerolog.Logger

	mu      sync.Mutex
	known   *realmDoc
	asked   time.Time // when the realm was last asked
	problem error     // how that failed
}

// realmDoc is what the realm says of itself.
type realmDoc struct {
	issuer, tokenEndpoint string
	keys                  []jose.JSONWebKey
	at                    time.Time
}

func newRealm(o RealmOptions, now func() time.Time, log zerolog.Logger) (*realm, error) {
	o.URI = strings.TrimSuffix(o.URI, "/")
	if err := checkAddress(o.URI); err != nil {
		return nil, fmt.Errorf("realm: %w", err)
	}
	r := &realm{o: o, now: now, log: log, client: &http.Client{Timeout: o.Timeout}}
	if o.Client != nil {
		c := *o.Client
		c.Timeout = o.Timeout
		r.client = &c
	}
	r.client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 3 {
			return errors.New("too many redirects")
		}
		return checkAddress(req.URL.String())
	}
	return r, nil
}

// checkAddress refuses what an eavesdropper could answer in the realm's place.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("address %q, want https (http only on this machine)", address)
	}
	return nil
}

// current returns what the realm says, asking when that is old.
func (r *realm) current(ctx context.Context) (*realmDoc, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known != nil && r.now().Sub(r.known.at) < keysFresh {
		return r.known, nil
	}
	return r.ask(ctx)
}

// renewed returns what the realm says now, for a token whose key is not among those known. It asks only so often: such tokens are
// easily made up.
func (r *realm) renewed(ctx context.Context, known *realmDoc) (*realmDoc, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known != known {
		return r.known, nil // somebody else has asked meanwhile
	}
	return r.ask(ctx)
}

// ask asks unless it was asked a moment ago. Old keys stand in while the realm cannot be reached. The caller holds the lock.
func (r *realm) ask(ctx context.Context) (*realmDoc, error) {
	now := r.now()
	if r.asked.IsZero() || now.Sub(r.asked) >= askInterval {
		doc, err := r.fetch(ctx)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err) // the client left: that says nothing of the realm
		}
		r.asked, r.problem = now, err
		if err == nil {
			doc.at = now
			r.known = doc
		} else {
			r.log.Warn().Err(err).Str("realm", r.o.URI).Msg("the realm cannot be asked for its keys")
		}
	}
	if r.known == nil || now.Sub(r.known.at) > keysStale {
		return nil, fmt.Errorf("%w: realm %s: %w", ErrUnavailable, r.o.URI, r.problem)
	}
	return r.known, nil
}

// fetch reads the realm's description and its keys. One of the two sources of keys is enough.
func (r *realm) fetch(ctx context.Context) (*realmDoc, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	doc := &realmDoc{issuer: r.o.URI}
	var keycloak struct {
		PublicKey string `json:"public_key"`
	}
	var discovery struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
		KeysURI       string `json:"jwks_uri"`
	}
	problem := r.getJSON(ctx, r.o.URI+"/.well-known/openid-configuration", &discovery)
	if discovery.Issuer != "" {
		doc.issuer = discovery.Issuer
	}
	doc.tokenEndpoint = discovery.TokenEndpoint
	if discovery.KeysURI != "" {
		var set jose.JSONWebKeySet
		problem = errors.Join(problem, r.getJSON(ctx, discovery.KeysURI, &set))
		for _, key := range set.Keys {
			if usable(key) {
				doc.keys = append(doc.keys, key)
			}
		}
	}
	if err := r.getJSON(ctx, r.o.URI, &keycloak); err == nil && keycloak.PublicKey != "" {
		key, err := parsePublicKey(keycloak.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("public_key: %w", err)
		}
		doc.keys = append(doc.keys, jose.JSONWebKey{Key: key})
	} else if len(doc.keys) == 0 {
		problem = errors.Join(problem, err)
	}
	if len(doc.keys) == 0 {
		return nil, errors.Join(errors.New("it shows no RSA key of at least 2048 bits for signatures, neither at jwks_uri nor as public_key"), problem)
	}
	return doc, nil
}

func usable(key jose.JSONWebKey) bool {
	public, ok := key.Key.(*rsa.PublicKey)
	return ok && public.N.BitLen() >= minRSABits && (key.Use == "" || key.Use == "sig") && (key.Algorithm == "" || key.Algorithm == string(jose.RS256))
}

// parsePublicKey reads Keycloak's form of a key: a SubjectPublicKeyInfo in base64, with or without PEM's frame.
func parsePublicKey(text string) (*rsa.PublicKey, error) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "-----BEGIN PUBLIC KEY-----")
	text = strings.TrimSuffix(text, "-----END PUBLIC KEY-----")
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("it is no RSA key of at least %d bits", minRSABits)
	}
	return public, nil
}

func (r *realm) getJSON(ctx context.Context, address string, into any) error {
	if err := checkAddress(address); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	status, body, err := r.do(req)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s is answered with status %d", address, status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", address, err)
	}
	return nil
}

func (r *realm) do(req *http.Request) (status int, body []byte, err error) {
	res, err := r.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }() // only read
	body, err = io.ReadAll(io.LimitReader(res.Body, maxRealmAnswer+1))
	if err == nil && len(body) > maxRealmAnswer {
		err = fmt.Errorf("%s answers with more than %d bytes", req.URL.Redacted(), maxRealmAnswer)
	}
	return res.StatusCode, body, err
}

// identify checks an access token and reads its claims.
func (r *realm) identify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return nil, ErrCredentials
	}
	doc, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	keys := &keySet{realm: r, doc: doc}
	verifier := oidc.NewVerifier(doc.issuer, keys, &oidc.Config{
		SkipClientIDCheck:    true, // audienceOf is stricter than it could be told to be
		SkipExpiryCheck:      true, // its clock has no leeway
		SupportedSigningAlgs: []string{oidc.RS256}, Now: r.now,
	})
	verified, err := verifier.Verify(ctx, token)
	switch {
	case keys.problem != nil: // the verifier does not wrap it
		return nil, keys.problem
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	if err := errors.Join(r.checkTimes(claims), r.checkAudience(verified.Audience, claims), checkKind(claims)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	return r.identityOf(claims)
}

func (r *realm) checkTimes(claims map[string]any) error {
	now := r.now()
	expires, ok := claims["exp"].(float64)
	if !ok || !now.Add(-leeway).Before(time.Unix(int64(expires), 0)) {
		return errors.New("the token has expired or does not say when it does")
	}
	if from, ok := claims["nbf"].(float64); ok && now.Add(leeway).Before(time.Unix(int64(from), 0)) {
		return errors.New("the token does not hold yet")
	}
	return nil
}

func (r *realm) checkAudience(audience []string, claims map[string]any) error {
	want := r.o.Audience
	if want == "" {
		want = r.o.ClientID
		if claims["azp"] == want {
			return nil
		}
	}
	for _, a := range audience {
		if a == want {
			return nil
		}
	}
	return fmt.Errorf("the token is not meant for %s", want)
}

// checkKind refuses the realm's other tokens: an identity token says who somebody is, not that a client may act for them.
func checkKind(claims map[string]any) error {
	if kind, ok := claims["typ"].(string); ok && !strings.EqualFold(kind, "bearer") && !strings.EqualFold(kind, "at+jwt") {
		return fmt.Errorf("the token is of type %q, not an access token", kind)
	}
	return nil
}

func (r *realm) identityOf(claims map[string]any) (*Identity, error) {
	id := &Identity{
		Username: textAt(claims, r.o.Claims.Username), Email: textAt(claims, r.o.Claims.Email), Name: textAt(claims, r.o.Claims.Name),
		Roles: listAt(claims, r.o.Claims.Roles),
	}
	if id.Username == "" {
		return nil, fmt.Errorf("%w: the token has no claim %s", ErrCredentials, r.o.Claims.Username)
	}
	return id, nil
}

func valueAt(claims map[string]any, path string) any {
	var v any = claims
	for name := range strings.SplitSeq(path, "#") {
		o, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = o[name]
	}
	return v
}

func textAt(claims map[string]any, path string) string {
	text, _ := valueAt(claims, path).(string)
	return text
}

func listAt(claims map[string]any, path string) []string {
	list := []string{}
	values, _ := valueAt(claims, path).([]any)
	for _, v := range values {
		if text, ok := v.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// keySet checks signatures with the realm's keys, and with its newest ones if those known do not fit.
type keySet struct {
	realm   *realm
	doc     *realmDoc
	problem error // why the realm could not be asked for newer ones
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errors.New("the token does not have exactly one signature")
	}
	if payload, ok := k.doc.verify(signed); ok {
		return payload, nil
	}
	doc, err := k.realm.renewed(ctx, k.doc)
	if err != nil {
		k.problem = err
		return nil, err
	}
	if doc != k.doc && doc.issuer == k.doc.issuer {
		if payload, ok := doc.verify(signed); ok {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the realm has signed the token")
}

func (d *realmDoc) verify(signed *jose.JSONWebSignature) ([]byte, bool) {
	id := signed.Signatures[0].Header.KeyID
	for _, key := range d.keys {
		if key.KeyID != "" && id != "" && key.KeyID != id {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// login has the realm check a password.
func (r *realm) login(ctx context.Context, username, password string) (Token, error) {
	doc, err := r.current(ctx)
	if err != nil {
		return Token{}, err
	}
	if err := checkAddress(doc.tokenEndpoint); err != nil {
		return Token{}, fmt.Errorf("%w: realm %s: token_endpoint: %w", ErrUnavailable, r.o.URI, err)
	}
	form := url.Values{"client_id": {r.o.ClientID}, "username": {username}, "password": {password}, "grant_type": {"password"}}
	if r.o.ClientSecret != "" {
		form.Set("client_secret", r.o.ClientSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, doc.tokenEndpoint, bytes.NewBufferString(form.Encode()))
	if err != nil {
		return Token{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	status, body, err := r.do(req)
	if err != nil {
		return Token{}, fmt.Errorf("%w: realm %s: %w", ErrUnavailable, r.o.URI, err)
	}
	if status == http.StatusUnauthorized || status == http.StatusBadRequest || status == http.StatusForbidden {
		return Token{}, ErrCredentials
	}
	var answer struct {
		Access string `json:"access_token"`
		Type   string `json:"token_type"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || answer.Access == "" {
		return Token{}, fmt.Errorf("%w: realm %s answers a login with status %d and no token", ErrUnavailable, r.o.URI, status)
	}
	if answer.Type == "" {
		answer.Type = bearer
	}
	return Token{Access: answer.Access, Type: answer.Type}, nil
}
