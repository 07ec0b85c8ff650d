package dicomweb

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
)

// Headers that are passed on. All others stay behind: cookies and credentials of either side, addresses of the client, and what
// speaks of one connection.
var (
	forwardedHeaders = []string{"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Content-Type", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "Range"}
	returnedHeaders  = []string{"Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type", "Etag", "Expires", "Last-Modified", "Retry-After", "Warning"}
)

// Forward passes a viewer's request for a DICOMweb resource to the archive, and the archive's answer back as it comes, status, body and
// those headers that concern both. escapedPath is the resource as the viewer wrote it, without a slash at its start.
//
// The archive sees the credentials of c and none of the viewer's. The answer to wrong credentials is an error and not the archive's,
// since it would make a browser ask its user for them. What is no DICOMweb resource is an error that wraps ErrPath, and no request.
// With an error nothing has been written to w. An answer that breaks off half-way ends in a panic with http.ErrAbortHandler, as
// net/http wants it: the viewer must not take a part for the whole.
func (c *Client) Forward(w http.ResponseWriter, r *http.Request, escapedPath string) error {
	service, ok := resourceOf(r.Method, escapedPath)
	request := &request{service: service, method: r.Method, path: escapedPath, query: r.URL.RawQuery}
	if !ok || strings.ContainsAny(escapedPath, "%\\") {
		return &Error{Service: "proxy", Path: fmt.Sprintf("%.200q", escapedPath), Class: ErrPath, Detail: "want GET of studies, series or instances and what lies below by UID, or POST of studies"}
	}
	if len(r.URL.RawQuery) > maxQuery {
		return request.error(0, ErrPath, fmt.Sprintf("the query has %d bytes, want at most %d", len(r.URL.RawQuery), maxQuery), nil)
	}
	authorization, err := c.authorization(r.Context())
	if err != nil {
		return request.error(0, ErrRefused, "no token", err)
	}
	ctx, watch := newWatch(r.Context(), c.o.ReadTimeout)
	defer watch.stop()
	var failure error
	proxy := &httputil.ReverseProxy{
		Transport:     c.http.Transport,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL, p.Out.Host = c.address(service, escapedPath, p.In.URL.RawQuery), ""
			p.Out.Header = only(p.In.Header, forwardedHeaders)
			setAuthorization(p.Out.Header, authorization)
			if p.Out.Header.Get("Accept-Encoding") == "" {
				p.Out.Header.Set("Accept-Encoding", "identity") // nothing is unpacked on the way
			}
			if p.Out.Body != nil && p.Out.Body != http.NoBody {
				p.Out.Body = watch.body(p.Out.Body)
			}
		},
		ModifyResponse: func(res *http.Response) error {
			class := classOf(res.StatusCode)
			redirect := res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified
			if errors.Is(class, ErrRefused) || redirect || res.StatusCode == http.StatusSwitchingProtocols {
				return request.error(res.StatusCode, class, c.detail(res), nil)
			}
			res.Header, res.Trailer = only(res.Header, returnedHeaders), nil
			res.Body = watch.body(res.Body)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err },
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
	var known *Error
	var large *http.MaxBytesError
	if failure == nil || errors.As(failure, &known) || errors.As(failure, &large) {
		return failure
	}
	return request.error(0, ErrUnavailable, "", watch.explain(ctx, failure))
}

// only is a copy of those headers that are named.
func only(h http.Header, names []string) http.Header {
	kept := http.Header{}
	for _, name := range names {
		if values := h.Values(name); len(values) > 0 {
			kept[name] = slices.Clone(values)
		}
	}
	return kept
}
