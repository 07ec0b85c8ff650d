// Package auth says who a client is and what it may do. Identities come from three places, which may be used together:
//
//   - an OpenID Connect realm such as Keycloak's, whose access tokens (JSON Web Tokens signed with RS256) are checked here against
//     the realm's keys: see RealmOptions;
//   - users in a file of accounts, with bcrypt-hashed passwords, who get a token of this server's own from Login;
//   - API tokens in the same file, for programs and small teams, of which only a hash is stored.
//
// The three kinds of tokens differ by a prefix, so that none is ever checked by the rules of another. Roles are four names
// without a hierarchy, as in MONAI Label: an administrator who also annotates holds both.
//
// # What this cannot do
//
// Clients of MONAI Label send a bearer token with what they send through the Python client, but 3D Slicer downloads images without
// one and OHIF sends none at all. For Slicer there are Grants: a machine that has just been handed an image may read that image,
// for a short time. For OHIF there is the cookie that a login in the browser sets. A grant trusts the address a connection
// comes from; behind a proxy or NAT that is an address of many.
//
// Nothing here encrypts: without TLS, here or in a proxy in front, passwords and tokens travel in the clear.
package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Role is one of the four roles.
type Role int

// The roles. What each may do is a matter of the routes.
const (
	User Role = iota
	Annotator
	Reviewer
	Admin
)

// String is the role's short name, by which the file of accounts calls it.
func (r Role) String() string { return [...]string{"user", "annotator", "reviewer", "admin"}[r] }

// Roles lists all roles.
func Roles() []Role { return []Role{User, Annotator, Reviewer, Admin} }

// RoleNames are what tokens call the roles, by Role.
type RoleNames [4]string

// DefaultRoleNames are MONAI Label's.
func DefaultRoleNames() RoleNames {
	return RoleNames{"monailabel-user", "monailabel-annotator", "monailabel-reviewer", "monailabel-admin"}
}

// byShort finds a role by its short name or by what tokens call it.
func (n RoleNames) find(name string) (string, bool) {
	for _, r := range Roles() {
		if name == r.String() || name == n[r] {
			return n[r], true
		}
	}
	return "", false
}

// Identity is who a client is.
type Identity struct {
	Username, Email, Name string
	// Roles are the roles as tokens call them, others than the four included.
	Roles []string
}

// Has reports whether the identity holds a role by the name that tokens have for it.
func (i *Identity) Has(role string) bool { return i != nil && slices.Contains(i.Roles, role) }

// Token is the answer to a login.
type Token struct {
	Access, Type string
	// Lifetime is how long it holds, 0 if only the realm knows.
	Lifetime time.Duration
}

// Errors a caller can tell a client about. Test with errors.Is.
var (
	// ErrCredentials is a wrong user name or password, or a token that is not valid.
	ErrCredentials = errors.New("could not validate credentials")
	// ErrThrottled is one wrong password too many for the moment.
	ErrThrottled = errors.New("too many failed logins, wait a little")
	// ErrUnavailable says that the realm or the file of accounts cannot be asked.
	ErrUnavailable = errors.New("login is not available")
)

// Options say where identities come from. At least one of Realm and Accounts must be set.
type Options struct {
	// Realm is the realm, nil for none.
	Realm *RealmOptions
	// Accounts is the path of the file of accounts, "" for none. It is read anew when it changes.
	Accounts string
	// KeyFile is where the key lies that signs the tokens of users in Accounts. It is made if missing.
	KeyFile string
	// TokenLifetime is how long such a token holds.
	TokenLifetime time.Duration
	// Roles are the names of the roles.
	Roles RoleNames
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	Log zerolog.Logger
}

// Authenticator tells who somebody is. It is safe for concurrent use.
type Authenticator struct {
	roles    RoleNames
	realm    *realm
	accounts *accounts
	tickets  *tickets
	throttle *throttle
}

// New makes an authenticator. It reads the file of accounts, so that one that is broken is known at once; the realm is first asked
// when somebody comes.
func New(o Options) (*Authenticator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authenticator{roles: o.Roles, throttle: newThrottle(o.Now)}
	if o.Realm == nil && o.Accounts == "" {
		return nil, errors.New("auth: neither a realm nor a file of accounts is given")
	}
	if o.Realm != nil {
		r, err := newRealm(*o.Realm, o.Now, o.Log)
		if err != nil {
			return nil, err
		}
		a.realm = r
	}
	if o.Accounts != "" {
		var err error
		if a.accounts, err = openAccounts(o.Accounts, o.Roles, o.Log); err != nil {
			return nil, err
		}
		if a.tickets, err = openTickets(o.KeyFile, o.TokenLifetime, o.Now); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// RoleName is what tokens call a role.
func (a *Authenticator) RoleName(r Role) string { return a.roles[r] }

// RealmURI is the realm's address, or "" without one.
func (a *Authenticator) RealmURI() string {
	if a.realm == nil {
		return ""
	}
	return a.realm.o.URI
}

// Check asks the realm for its keys, and reports whether logins can work.
func (a *Authenticator) Check(ctx context.Context) error {
	if a.accounts != nil {
		if _, err := a.accounts.current(); err != nil {
			return err
		}
	}
	if a.realm != nil {
		if _, err := a.realm.current(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Authenticate tells whose a bearer token is. Errors wrap ErrCredentials or ErrUnavailable.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (*Identity, error) {
	switch {
	case strings.HasPrefix(token, ticketPrefix) && a.tickets != nil:
		return a.byTicket(token)
	case strings.HasPrefix(token, apiPrefix) && a.accounts != nil:
		return a.accounts.byToken(token, a.throttle.now())
	case a.realm != nil:
		return a.realm.identify(ctx, token)
	}
	return nil, ErrCredentials
}

// Login exchanges a user name and a password for a token: one of this server's own for a user in the file of accounts, one of the
// realm's for anybody else. Errors wrap ErrCredentials, ErrThrottled or ErrUnavailable.
func (a *Authenticator) Login(ctx context.Context, username, password string) (Token, error) {
	if !a.throttle.allow(username) {
		return Token{}, ErrThrottled
	}
	t, err := a.login(ctx, username, password)
	if !errors.Is(err, ErrCredentials) {
		a.throttle.refund(username) // only wrong passwords count
	}
	return t, err
}

func (a *Authenticator) login(ctx context.Context, username, password string) (Token, error) {
	if a.accounts == nil {
		return a.realm.login(ctx, username, password)
	}
	file, err := a.accounts.current()
	if err != nil {
		return Token{}, err
	}
	user := file.user(username)
	if user == nil && a.realm != nil {
		return a.realm.login(ctx, username, password)
	}
	if err := a.accounts.verify(ctx, user, password); err != nil {
		return Token{}, err
	}
	return a.tickets.issue(user)
}

// byTicket asks the file anew: a user who was removed, or whose password was changed, is out at once.
func (a *Authenticator) byTicket(token string) (*Identity, error) {
	username, stamp, err := a.tickets.read(token)
	if err != nil {
		return nil, err
	}
	file, err := a.accounts.current()
	if err != nil {
		return nil, err
	}
	user := file.user(username)
	if user == nil || user.stamp() != stamp {
		return nil, ErrCredentials
	}
	return user.identity(), nil
}

// NewAPIToken makes an API token. Only its hash belongs into the file of accounts; the token itself is shown once.
func NewAPIToken() (token, hash string) {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the process when the system has no randomness
	token = apiPrefix + encode(b)
	return token, hashToken(token)
}
