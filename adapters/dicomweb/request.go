package dicomweb

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// request is one request, as often as it takes.
type request struct {
	service service
	method  string
	path    string
	query   string
	header  http.Header
	// body opens what is sent, anew for each try; nil for nothing.
	body func() (io.ReadCloser, error)
	// length of the body in bytes.
	length int64
	// accept are the statuses that are answers and no errors.
	accept []int
}

func (r *request) error(status int, class error, detail string, cause error) *Error {
	return &Error{Service: r.service.String(), Path: r.path, Status: status, Class: class, Detail: detail, Cause: cause}
}

// do sends a request until an answer comes, and gives it to use. use may be called again when it fails with an error that may pass:
// that of reading the body.
func (c *Client) do(ctx context.Context, r *request, use func(*http.Response) error) error {
	for attempt := 0; ; attempt++ {
		wait, err := c.try(ctx, r, use)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return r.error(0, ErrUnavailable, "", context.Cause(ctx))
		}
		if wait < 0 || attempt >= c.o.Retries {
			return err
		}
		if err := sleep(ctx, max(wait, c.pause(attempt))); err != nil {
			return r.error(0, ErrUnavailable, "", err)
		}
	}
}

// longestPause bounds the pauses between tries, those that archives ask for included.
const longestPause = 30 * time.Second

// pause grows twofold from try to try, with a random half so that clients do not come back all at once.
func (c *Client) pause(attempt int) time.Duration {
	d := min(c.o.Backoff<<min(attempt, 10), longestPause)
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

const never = time.Duration(-1)

// try sends a request once. With an error comes how long to wait before another try at least, or never.
func (c *Client) try(ctx context.Context, r *request, use func(*http.Response) error) (wait time.Duration, err error) {
	ctx, watch := newWatch(ctx, c.o.ReadTimeout)
	defer watch.stop()
	res, err := c.send(ctx, r, watch)
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			return never, err
		}
		return 0, r.error(0, ErrUnavailable, "", watch.explain(ctx, err))
	}
	defer func() { _ = res.Body.Close() }() // the next request opens another connection if need be
	res.Body = watch.body(res.Body)
	for _, status := range r.accept {
		if res.StatusCode != status {
			continue
		}
		err := use(res)
		var known *Error
		if err == nil || errors.As(err, &known) {
			return never, err
		}
		var broken *readError
		if errors.As(err, &broken) {
			return 0, r.error(res.StatusCode, ErrUnavailable, "the answer broke off", watch.explain(ctx, broken.err))
		}
		return never, err
	}
	return c.refusal(r, res)
}

func (c *Client) send(ctx context.Context, r *request, watch *watch) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.address(r.service, r.path, r.query).String(), nil)
	if err != nil {
		return nil, r.error(0, ErrPath, "", err)
	}
	maps.Copy(req.Header, r.header)
	if r.body != nil {
		body, err := r.body()
		if err != nil {
			return nil, r.error(0, ErrProtocol, "what is to be sent cannot be read", err)
		}
		req.Body, req.ContentLength = watch.body(body), r.length
	}
	authorization, err := c.authorization(ctx)
	if err != nil {
		return nil, r.error(0, ErrRefused, "no token", err)
	}
	setAuthorization(req.Header, authorization)
	return c.http.Do(req)
}

// authorization is the header's value, "" for none.
func (c *Client) authorization(ctx context.Context) (string, error) {
	switch {
	case c.o.Token != nil:
		token, err := c.o.Token(ctx)
		return "Bearer " + token, err
	case c.o.Username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.o.Username+":"+c.o.Password)), nil
	}
	return "", nil
}

func setAuthorization(h http.Header, value string) {
	if value != "" {
		h.Set("Authorization", value)
	}
}

// refusal makes an error of a status nobody wanted, and tells when to come again.
func (c *Client) refusal(r *request, res *http.Response) (wait time.Duration, err error) {
	wait = never
	if repeatable(res.StatusCode) {
		wait = min(retryAfter(res.Header.Get("Retry-After"), time.Now()), longestPause)
	}
	return wait, r.error(res.StatusCode, classOf(res.StatusCode), c.detail(res), nil)
}

// detail is what a person needs to know of a refused request.
func (c *Client) detail(res *http.Response) string {
	switch status := res.StatusCode; {
	case status == http.StatusUnauthorized && c.o.Username == "" && c.o.Token == nil:
		return "it asks for credentials and none are configured"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "check the configured credentials and what they may do"
	case status >= 300 && status < 400:
		return fmt.Sprintf("it points elsewhere (%s), and credentials are not taken there: configure that address if it is right", host(res.Header.Get("Location")))
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 2048)) // a help for people at most
	return excerpt(res.Header.Get("Content-Type"), text)
}

func host(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "on the same host"
	}
	return u.Host
}

// excerpt is the beginning of a text for people on one line; of a web page there is nothing to tell.
func excerpt(contentType string, text []byte) string {
	if strings.Contains(contentType, "html") {
		return ""
	}
	words := strings.Fields(strings.ToValidUTF8(string(text), "?"))
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.Join(words, " "))
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "…"
	}
	return line
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < 1<<20 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// mediaType reads a Content-Type. Some servers leave the quotes off type="application/dicom", which the standard library refuses: the
// boundary is found all the same.
func mediaType(text string) (kind string, params map[string]string) {
	kind, params, err := mime.ParseMediaType(text)
	if err == nil {
		return kind, params
	}
	kind, rest, _ := strings.Cut(text, ";")
	params = map[string]string{}
	for item := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(item, "=")
		params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
	}
	return strings.ToLower(strings.TrimSpace(kind)), params
}

// readError is a body that broke off, as opposed to one that is wrong.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

var errSilent = errors.New("nothing came for too long")

// watch ends a request whose body is silent for too long.
type watch struct {
	limit  time.Duration
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	timer  *time.Timer
}

func newWatch(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{limit: limit, cancel: cancel}
}

// awake starts the time of silence anew.
func (w *watch) awake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, func() { w.cancel(fmt.Errorf("%w (%v)", errSilent, w.limit)) })
		return
	}
	w.timer.Reset(w.limit)
}

// rest ends the time of silence.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) stop() {
	w.rest()
	w.cancel(nil)
}

// explain tells silence, which ended a request, from an end that came from outside.
func (w *watch) explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

func (w *watch) body(r io.ReadCloser) io.ReadCloser { return &watchedBody{r, w} }

// watchedBody is read only while the peer keeps up: between reads of what is sent the peer takes it, during reads of what is received
// the peer gives it. Its failures are readErrors.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.awake()
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.watch.rest()
	} else if err != nil {
		err = &readError{err}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watch.rest()
	return b.ReadCloser.Close()
}
