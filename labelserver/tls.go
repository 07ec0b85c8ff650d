package labelserver

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"

	"github.com/rs/zerolog"
	"github.com/youmark/pkcs8"

	"scrawl/labelserver/config"
)

// certificate is a certificate with its key as the files have it: a renewed one is taken into use without a restart.
type certificate struct {
	cfg config.TLS
	log zerolog.Logger

	mu     sync.Mutex
	known  *tls.Certificate
	stamps [2]fs.FileInfo
}

// tlsConfig makes the settings of encrypted connections, nil if there is no certificate.
func tlsConfig(cfg config.TLS, log zerolog.Logger) (*tls.Config, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	c := &certificate{cfg: cfg, log: log}
	if _, err := c.current(); err != nil {
		return nil, err
	}
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
	}
	if cfg.ClientCA != "" {
		text, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("server.tls.client_ca: %w", err)
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !t.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("server.tls.client_ca: %s holds no certificate in PEM form", cfg.ClientCA)
		}
	}
	return t, nil
}

// current returns the certificate, reading it anew when its files have changed. One that cannot be read leaves the last in use: half of
// a renewal must not cut everybody off.
func (c *certificate) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.stat()
	if err == nil && c.known != nil && sameFiles(stamps, c.stamps) {
		return c.known, nil
	}
	var read tls.Certificate
	if err == nil {
		read, err = readCertificate(c.cfg)
	}
	if err != nil && c.known == nil {
		return nil, err
	}
	if err != nil {
		if !sameFiles(stamps, c.stamps) {
			c.log.Error().Err(err).Msg("a new certificate cannot be used, the last one stays")
		}
		c.stamps = stamps
		return c.known, nil
	}
	c.known, c.stamps = &read, stamps
	return c.known, nil
}

func (c *certificate) stat() (stamps [2]fs.FileInfo, err error) {
	for i, path := range []string{c.cfg.CertFile, c.cfg.KeyFile} {
		if stamps[i], err = os.Stat(path); err != nil {
			return stamps, fmt.Errorf("server.tls: %w", err)
		}
	}
	return stamps, nil
}

func sameFiles(a, b [2]fs.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || !os.SameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}

// readCertificate reads a certificate and its key. A key may be encrypted, as PKCS #8.
func readCertificate(cfg config.TLS) (tls.Certificate, error) {
	chain, err := os.ReadFile(cfg.CertFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server.tls.cert_file: %w", err)
	}
	key, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server.tls.key_file: %w", err)
	}
	if key, err = decryptKey(key, cfg.KeyPassword.Reveal()); err != nil {
		return tls.Certificate{}, fmt.Errorf("server.tls.key_file %s: %w", cfg.KeyFile, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server.tls: %s and %s: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	return pair, nil
}

// decryptKey returns the key without its password; one that has none comes back as it is.
func decryptKey(text []byte, password string) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no key in PEM form")
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the key is encrypted in an old form that protects little; convert it with `openssl pkcs8 -topk8`")
	}
	if block.Type != "ENCRYPTED PRIVATE KEY" {
		return text, nil
	}
	if password == "" {
		return nil, errors.New("the key is encrypted; give its password as server.tls.key_password (SCRAWL_SERVER_TLS_KEY_PASSWORD)")
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
	if err != nil {
		return nil, fmt.Errorf("the key does not open with server.tls.key_password: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Address is how a client reaches a listener that Listen opened.
func (s *Server) Address(l net.Listener) string {
	scheme := "http://"
	if s.cfg.Server.TLS.CertFile != "" {
		scheme = "https://"
	}
	return scheme + l.Addr().String()
}
