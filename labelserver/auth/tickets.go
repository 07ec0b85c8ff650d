package auth

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tickets makes and reads the tokens of local users: JSON Web Tokens signed with HMAC-SHA-256 by a key that outlives the process, so
// that a restart logs nobody out.
type tickets struct {
	key      []byte
	lifetime time.Duration
	now      func() time.Time
}

const (
	ticketIssuer = "scrawl"
	keyBytes     = 32
)

func openTickets(path string, lifetime time.Duration, now func() time.Time) (*tickets, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key of the users' tokens: %w", err)
	}
	return &tickets{key: key, lifetime: lifetime, now: now}, nil
}

func readKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%s holds no key of %d bytes in hexadecimal digits; remove it to have a new one made, which logs all local users out", path, keyBytes)
	}
	return key, nil
}

// makeKey writes a key that nobody else may read. When another process was faster, that one's key holds.
func makeKey(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: crypto/rand ends the process when the system has no randomness
	temp, err := os.CreateTemp(filepath.Dir(path), "auth-key-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // its other name stays
	_, err = temp.WriteString(hex.EncodeToString(key) + "\n")
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		// Not every file system has links.
		if err := os.Rename(temp.Name(), path); err != nil {
			return nil, err
		}
	}
	return readKey(path)
}

type ticketClaims struct {
	jwt.Claims
	Stamp string `json:"stamp"`
}

func (t *tickets) issue(u *Account) (Token, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: t.key}, nil)
	if err != nil {
		return Token{}, fmt.Errorf("signing a token: %w", err)
	}
	now := t.now()
	text, err := jwt.Signed(signer).Claims(ticketClaims{
		Claims: jwt.Claims{Issuer: ticketIssuer, Subject: u.Name, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(t.lifetime))},
		Stamp:  u.stamp(),
	}).Serialize()
	if err != nil {
		return Token{}, fmt.Errorf("signing a token: %w", err)
	}
	return Token{Access: ticketPrefix + text, Type: bearer, Lifetime: t.lifetime}, nil
}

func (t *tickets) read(token string) (username, stamp string, err error) {
	if len(token) > maxToken {
		return "", "", ErrCredentials
	}
	signed, err := jwt.ParseSigned(strings.TrimPrefix(token, ticketPrefix), []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	var c ticketClaims
	if err := signed.Claims(t.key, &c); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	if c.Expiry == nil {
		return "", "", ErrCredentials
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: ticketIssuer, Time: t.now()}, 0); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	return c.Subject, c.Stamp, nil
}
