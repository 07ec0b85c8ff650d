package dicomwebtest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Fault is something that goes wrong.
type Fault struct {
	// Method and Suffix choose the requests it happens to: those of the method, "" for any, whose path ends in suffix.
	Method, Suffix string
	// Times is how often it happens; 0 is always.
	Times int
	// Do answers instead of the archive, whose answer is next.
	Do func(w http.ResponseWriter, r *http.Request, next http.Handler)

	done int
}

// Fail adds faults. Of several that fit a request the first that is not used up happens.
func (a *Archive) Fail(faults ...Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range faults {
		a.faults = append(a.faults, &f)
	}
}

// Mend takes all faults away.
func (a *Archive) Mend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = nil
}

func (a *Archive) nextFault(r *http.Request) func(http.ResponseWriter, *http.Request, http.Handler) {
	for _, f := range a.faults {
		if (f.Method == "" || f.Method == r.Method) && strings.HasSuffix(r.URL.Path, f.Suffix) && (f.Times == 0 || f.done < f.Times) {
			f.done++
			return f.Do
		}
	}
	return nil
}

// Status answers with a status, headers ("Name: value") and a text.
func Status(status int, text string, headers ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, text)
	}
}

// Drop cuts the connection without an answer.
func Drop(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// CutAfter gives the archive's answer up to a number of bytes and cuts the connection.
func CutAfter(n int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{w, n}, r)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(c.left, len(p))])
	if c.left -= n; c.left <= 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// Silence gives the archive's answer up to a number of bytes and then nothing, for a time or until the client leaves.
func Silence(n int, d time.Duration) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&silentWriter{w, r, n, d}, r)
	}
}

type silentWriter struct {
	http.ResponseWriter
	r    *http.Request
	left int
	d    time.Duration
}

func (s *silentWriter) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p[:min(s.left, len(p))])
	if s.left -= n; s.left <= 0 {
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		select {
		case <-s.r.Context().Done():
		case <-time.After(s.d):
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// Late answers only after a time, or not at all if the client leaves before.
func Late(d time.Duration) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-r.Context().Done():
		case <-time.After(d):
			next.ServeHTTP(w, r)
		}
	}
}

// As gives the archive's answer under another type.
func As(contentType string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&typedWriter{ResponseWriter: w, contentType: contentType}, r)
	}
}

type typedWriter struct {
	http.ResponseWriter
	contentType string
}

func (t *typedWriter) WriteHeader(status int) {
	t.Header().Set("Content-Type", t.contentType)
	t.ResponseWriter.WriteHeader(status)
}

func (t *typedWriter) Write(p []byte) (int, error) {
	t.Header().Set("Content-Type", t.contentType)
	return t.ResponseWriter.Write(p)
}
