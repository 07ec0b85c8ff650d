package labelserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/youmark/pkcs8"

	"scrawl/labelserver/config"
)

// issued is a certificate signed by itself or by another.
type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func issue(t *testing.T, name string, by *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: by == nil,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (i *issued) write(t *testing.T, dir, password string) config.TLS {
	t.Helper()
	var der []byte
	var err error
	kind := "PRIVATE KEY"
	if password == "" {
		der, err = x509.MarshalPKCS8PrivateKey(i.key)
	} else {
		kind = "ENCRYPTED PRIVATE KEY"
		der, err = pkcs8.MarshalPrivateKey(i.key, []byte(password), nil)
	}
	c := config.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	err = errors.Join(err, os.WriteFile(c.CertFile, i.pem, 0o600), os.WriteFile(c.KeyFile, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serveTLS answers every request with the name in the certificate that the client saw being put to the test elsewhere.
func serveTLS(t *testing.T, c config.TLS) string {
	t.Helper()
	cfg, err := tlsConfig(c, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	s.Listener = tls.NewListener(s.Listener, cfg)
	s.Start()
	t.Cleanup(s.Close)
	return "https" + strings.TrimPrefix(s.URL, "http")
}

// seen asks an address and returns the name in its certificate.
func seen(t *testing.T, address string, trust *issued, own *issued) (string, error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(trust.cert)
	cfg := &tls.Config{RootCAs: pool}
	if own != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{own.cert.Raw}, PrivateKey: own.key}}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Get(address)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if string(body) != "hello" {
		t.Errorf("answer is %q, %v", body, err)
	}
	return res.TLS.PeerCertificates[0].Subject.CommonName, err
}

func TestTLS(t *testing.T) {
	authority := issue(t, "authority", nil)
	dir := t.TempDir()
	c := issue(t, "first", authority).write(t, dir, "open sesame")
	if _, err := tlsConfig(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "key_password") {
		t.Errorf("an encrypted key without password: %v", err)
	}
	c.KeyPassword = "wrong"
	if _, err := tlsConfig(c, zerolog.Nop()); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("an encrypted key with another password: %v", err)
	}
	c.KeyPassword = "open sesame"
	address := serveTLS(t, c)
	want := func(name string) {
		t.Helper()
		if got, err := seen(t, address, authority, nil); err != nil || got != name {
			t.Errorf("certificate is %q, %v, want %q", got, err, name)
		}
	}
	want("first")
	// A renewed certificate holds without a restart, and half a renewal cuts nobody off.
	if err := os.WriteFile(c.CertFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("first")
	issue(t, "second", authority).write(t, dir, "open sesame")
	want("second")
	if _, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestTLSClientCertificates(t *testing.T) {
	authority, stranger := issue(t, "authority", nil), issue(t, "stranger", nil)
	dir := t.TempDir()
	c := issue(t, "server", authority).write(t, dir, "")
	c.ClientCA = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(c.ClientCA, authority.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	address := serveTLS(t, c)
	if _, err := seen(t, address, authority, issue(t, "workstation", authority)); err != nil {
		t.Errorf("a client with a certificate: %v", err)
	}
	for name, own := range map[string]*issued{"none": nil, "a stranger's": issue(t, "workstation", stranger)} {
		if _, err := seen(t, address, authority, own); err == nil {
			t.Errorf("a client with certificate %s gets in", name)
		}
	}
	for _, bad := range []config.TLS{{CertFile: "none.pem", KeyFile: c.KeyFile}, {CertFile: c.CertFile, KeyFile: c.CertFile}, {CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCA: c.KeyFile}} {
		if _, err := tlsConfig(bad, zerolog.Nop()); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
