package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/bcrypt"
	"gopkg.in/yaml.v3"
)

// apiPrefix begins every API token, ticketPrefix every token of a local user, bearer is the type of both.
const (
	apiPrefix    = "scrawl-api-"
	ticketPrefix = "scrawl-user-"
	bearer       = "Bearer"
)

// passwordCost is bcrypt's: a quarter of a second or so. bcrypt sees 72 bytes only, so longer passwords are refused.
const (
	passwordCost     = 12
	maxPasswordBytes = 72
	minPasswordRunes = 8
	maxAccountsFile  = 4 << 20
)

// Accounts is the content of a file of accounts.
type Accounts struct {
	Users  []Account  `yaml:"users"`
	Tokens []APIToken `yaml:"tokens"`
}

// Account is a local user. Password is a bcrypt hash.
type Account struct {
	Name     string   `yaml:"name"`
	FullName string   `yaml:"full_name,omitempty"`
	Email    string   `yaml:"email,omitempty"`
	Password string   `yaml:"password"`
	Roles    []string `yaml:"roles,flow"`
}

// APIToken is a token for a program or a team. SHA256 is the hash of the token in hexadecimal digits; a random token of 256 bits
// needs no slow hash.
type APIToken struct {
	Name    string    `yaml:"name"`
	SHA256  string    `yaml:"sha256"`
	Roles   []string  `yaml:"roles,flow"`
	Expires time.Time `yaml:"expires,omitempty"`
}

// ReadAccounts reads and checks a file of accounts. names are what tokens call the roles.
func ReadAccounts(path string, names RoleNames) (*Accounts, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("accounts %s: others than its owner may write it (mode %o), want 600", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAccountsFile+1))
	if err == nil && len(text) > maxAccountsFile {
		err = fmt.Errorf("file is larger than %d bytes", maxAccountsFile)
	}
	if err != nil {
		return nil, fmt.Errorf("accounts %s: %w", path, err)
	}
	a := &Accounts{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(a); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("accounts %s: %w", path, err)
	}
	if err := a.Check(names); err != nil {
		return nil, fmt.Errorf("accounts %s: %w", path, err)
	}
	return a, nil
}

// Check checks what types cannot say and turns the roles' short names into what tokens call them.
func (a *Accounts) Check(names RoleNames) error {
	seen := make(map[string]bool)
	for i := range a.Users {
		u := &a.Users[i]
		if err := checkName("user", u.Name, seen); err != nil {
			return err
		}
		if _, err := bcrypt.Cost([]byte(u.Password)); err != nil {
			return fmt.Errorf("password of user %q is no bcrypt hash, want one made by `scrawl account add-user`", u.Name)
		}
		if err := resolve(u.Roles, names); err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	clear(seen)
	for i := range a.Tokens {
		t := &a.Tokens[i]
		if err := checkName("token", t.Name, seen); err != nil {
			return err
		}
		if hash, err := hex.DecodeString(t.SHA256); err != nil || len(hash) != sha256.Size {
			return fmt.Errorf("sha256 of token %q is no hash, want 64 hexadecimal digits made by `scrawl account add-token`", t.Name)
		}
		if err := resolve(t.Roles, names); err != nil {
			return fmt.Errorf("token %q: %w", t.Name, err)
		}
	}
	return nil
}

// checkName checks the name of a user or token: printable, since logs show it, and without the signs that separate it from
// others there.
func checkName(what, name string, seen map[string]bool) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= 0x20 || r == 0x7f || strings.ContainsRune(`/\:"`, r) })
	switch {
	case name == "" || len(name) > 128 || bad:
		return fmt.Errorf("%s name %q, want 1 to 128 bytes without blanks, quotes, slashes and colons", what, name)
	case seen[name]:
		return fmt.Errorf("%s %q is there twice", what, name)
	}
	seen[name] = true
	return nil
}

func resolve(roles []string, names RoleNames) error {
	if len(roles) == 0 {
		return errors.New("it has no role, want some of user, annotator, reviewer, admin")
	}
	for i, role := range roles {
		full, ok := names.find(role)
		if !ok {
			return fmt.Errorf("role %q, want user, annotator, reviewer or admin", role)
		}
		roles[i] = full
	}
	return nil
}

// Encode writes the accounts as their file has them.
func (a *Accounts) Encode(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(a), enc.Close())
}

// HashPassword checks and hashes a password.
func HashPassword(password string) (string, error) { return hashPassword(password, passwordCost) }

func hashPassword(password string, cost int) (string, error) {
	if n := len([]rune(password)); n < minPasswordRunes || len(password) > maxPasswordBytes {
		return "", fmt.Errorf("password has %d characters, want at least %d and at most %d bytes", n, minPasswordRunes, maxPasswordBytes)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	return string(hash), err
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *Accounts) user(name string) *Account {
	if i := slices.IndexFunc(a.Users, func(u Account) bool { return u.Name == name }); i >= 0 {
		return &a.Users[i]
	}
	return nil
}

func (u *Account) identity() *Identity {
	return &Identity{Username: u.Name, Email: u.Email, Name: u.FullName, Roles: slices.Clone(u.Roles)}
}

// stamp changes with the password, so that tokens issued for an old one end.
func (u *Account) stamp() string { return hashToken(u.Password)[:16] }

// accounts keeps a file of accounts in memory as it is on disk.
type accounts struct {
	path  string
	names RoleNames
	log   zerolog.Logger
	dummy func() string // a hash to compare with where there is no user
	slots chan struct{} // bounds the cores that passwords may take

	mu      sync.Mutex
	known   *Accounts
	stamp   fs.FileInfo
	problem error
}

func openAccounts(path string, names RoleNames, log zerolog.Logger) (*accounts, error) {
	a := &accounts{path: path, names: names, log: log, slots: make(chan struct{}, 2)}
	a.dummy = sync.OnceValue(func() string {
		hash, _ := hashPassword("nobody has this password", passwordCost) // its length is right
		return hash
	})
	_, err := a.current()
	return a, err
}

// current returns the accounts as the file has them now. While the file cannot be read nobody gets in: what somebody has just taken
// out of it must not go on to hold.
func (a *accounts) current() (*Accounts, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	info, err := os.Stat(a.path)
	if err != nil {
		a.stamp, a.problem = nil, err
		return nil, fmt.Errorf("%w: accounts: %w", ErrUnavailable, err)
	}
	if a.stamp == nil || !os.SameFile(info, a.stamp) || !info.ModTime().Equal(a.stamp.ModTime()) || info.Size() != a.stamp.Size() || info.Mode() != a.stamp.Mode() {
		a.known, a.problem = ReadAccounts(a.path, a.names)
		a.stamp = info
		if a.problem != nil {
			a.log.Error().Err(a.problem).Msg("nobody can log in with a local account")
		} else {
			a.log.Info().Int("users", len(a.known.Users)).Int("tokens", len(a.known.Tokens)).Msg("accounts read")
		}
	}
	if a.problem != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, a.problem)
	}
	return a.known, nil
}

// verify checks a password. It takes as long for a user there is not.
func (a *accounts) verify(ctx context.Context, user *Account, password string) error {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	hash := a.dummy
	if user != nil {
		hash = func() string { return user.Password }
	}
	wrong := len(password) > maxPasswordBytes || bcrypt.CompareHashAndPassword([]byte(hash()), []byte(password)) != nil
	if wrong || user == nil {
		return ErrCredentials
	}
	return nil
}

// byToken compares with every token, so that the time says nothing of which one was nearly right.
func (a *accounts) byToken(token string, now time.Time) (*Identity, error) {
	file, err := a.current()
	if err != nil {
		return nil, err
	}
	got := []byte(hashToken(token))
	var found *APIToken
	for i := range file.Tokens {
		if subtle.ConstantTimeCompare(got, []byte(strings.ToLower(file.Tokens[i].SHA256))) == 1 {
			found = &file.Tokens[i]
		}
	}
	if found == nil || !found.Expires.IsZero() && now.After(found.Expires) {
		return nil, ErrCredentials
	}
	return &Identity{Username: found.Name, Name: found.Name, Roles: slices.Clone(found.Roles)}, nil
}
