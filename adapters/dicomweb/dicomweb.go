// Package dicomweb is a client of an archive that speaks DICOMweb (DICOM PS3.18): it searches (QIDO-RS), retrieves (WADO-RS) and
// stores (STOW-RS), and passes requests of a viewer through.
//
// # Credentials
//
// A Client sends its credentials to the address it was made with and nowhere else: it follows no redirects, and builds every address
// itself from checked UIDs. They are in no error and no address.
//
// # Time
//
// A request may wait Options.Timeout for the header of its answer, and its body may be silent for Options.ReadTimeout; how long a whole
// study takes nobody can say. What may be repeated without harm is: searches, retrievals, and storing, since an instance keeps its UID.
// Repeated are failed connections and the statuses that say "later" (429, 502, 503, 504), with growing pauses, or those the archive
// asks for.
//
// # Limits
//
// Lengths that an archive declares are not trusted: answers are read up to a limit, instances are streamed.
package dicomweb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultReadTimeout = 30 * time.Second
	DefaultRetries     = 3
	DefaultBackoff     = 500 * time.Millisecond
	DefaultMaxJSON     = 256 << 20
	DefaultMaxInstance = 4 << 30
)

// Options say which archive to talk to, and how.
type Options struct {
	// URL is the archive's DICOMweb root, such as http://127.0.0.1:8042/dicom-web.
	URL string
	// QIDOPrefix, WADOPrefix and STOWPrefix are path elements between the root and the resources of a service, for archives that keep
	// the services apart.
	QIDOPrefix, WADOPrefix, STOWPrefix string
	// Username and Password are for basic authentication, both or neither.
	Username, Password string
	// Token returns a bearer token, which is used instead. It is called for every request.
	Token func(ctx context.Context) (string, error)
	// Timeout is how long the header of an answer may take. Default DefaultTimeout.
	Timeout time.Duration
	// ReadTimeout is how long a body may be silent, either way. Default DefaultReadTimeout.
	ReadTimeout time.Duration
	// Retries is how often a request is repeated: DefaultRetries if 0, never if negative.
	Retries int
	// Backoff is the pause before the first repetition; each further one is twice as long. Default DefaultBackoff.
	Backoff time.Duration
	// MaxJSON and MaxInstance bound an answer in JSON and one instance, in bytes. Defaults DefaultMaxJSON and DefaultMaxInstance.
	MaxJSON, MaxInstance int64
	// PageSize is how many results a search asks for at once. Default 500.
	PageSize int
}

// Client talks to one archive. It is safe for concurrent use.
type Client struct {
	o    Options
	base *url.URL
	http *http.Client
}

// New checks the options. It does not talk to the archive.
func New(o Options) (*Client, error) {
	base, err := parseRoot(o.URL)
	if err != nil {
		return nil, fmt.Errorf("dicomweb: %w", err)
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, errors.New("dicomweb: a username and a password, or neither")
	}
	for _, prefix := range []*string{&o.QIDOPrefix, &o.WADOPrefix, &o.STOWPrefix} {
		*prefix = strings.Trim(*prefix, "/")
		if strings.ContainsAny(*prefix, `?#%\`) || strings.Contains("/"+*prefix+"/", "/../") {
			return nil, fmt.Errorf("dicomweb: prefix %q, want path elements such as qido", *prefix)
		}
	}
	setDefault(&o.Timeout, DefaultTimeout)
	setDefault(&o.ReadTimeout, DefaultReadTimeout)
	setDefault(&o.Backoff, DefaultBackoff)
	setDefault(&o.Retries, DefaultRetries)
	setDefault(&o.MaxJSON, DefaultMaxJSON)
	setDefault(&o.MaxInstance, DefaultMaxInstance)
	setDefault(&o.PageSize, 500)
	transport := &http.Transport{
		Proxy:                 encryptedProxy,
		DialContext:           (&net.Dialer{Timeout: min(o.Timeout, 10*time.Second)}).DialContext,
		TLSHandshakeTimeout:   min(o.Timeout, 10*time.Second),
		ResponseHeaderTimeout: o.Timeout,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
	return &Client{o: o, base: base, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// encryptedProxy lets a proxy of the environment carry encrypted connections only: it would read the credentials of others.
func encryptedProxy(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func parseRoot(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the archive's address is no URL, want one such as http://127.0.0.1:8042/dicom-web") // err holds the text, and with it a password
	case u.User != nil:
		return nil, fmt.Errorf("the archive's address %s holds a password, want it given apart", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("the archive's address is %q, want one such as http://127.0.0.1:8042/dicom-web", text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// URL is the archive's root without a slash at the end.
func (c *Client) URL() string { return c.base.String() }

// CloseIdle closes connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// service is one of the three services of DICOMweb.
type service int

const (
	qido service = iota
	wado
	stow
)

func (s service) String() string { return [...]string{"QIDO", "WADO", "STOW"}[s] }

// address is that of a resource of a service. path is made of checked elements.
func (c *Client) address(s service, path, query string) *url.URL {
	u := *c.base
	for _, element := range []string{[...]string{c.o.QIDOPrefix, c.o.WADOPrefix, c.o.STOWPrefix}[s], path} {
		if element != "" {
			u.Path += "/" + element
		}
	}
	u.RawQuery = query
	return &u
}

// CheckUID checks that a text is a DICOM unique identifier by its characters and length (DICOM PS3.5, 9.1), and so one element of a
// path. Leading zeros in components, which some devices write, are let through.
func CheckUID(uid string) error {
	if uid == "" || len(uid) > 64 || strings.Trim(uid, "0123456789.") != "" || strings.Contains(uid, "..") || uid[0] == '.' || uid[len(uid)-1] == '.' {
		return fmt.Errorf("%.80q is no DICOM UID, want up to 64 digits and dots", uid)
	}
	return nil
}

func checkUIDs(uids ...string) error {
	for _, uid := range uids {
		if err := CheckUID(uid); err != nil {
			return fmt.Errorf("dicomweb: %w", err)
		}
	}
	return nil
}
