package dicomweb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxResults bounds a search over all its pages.
const maxResults = 1 << 20

const acceptJSON = "application/dicom+json, application/json"

// SearchSeries finds the series that fit a filter of attributes by keyword or tag, such as Modality=CT, over as many pages as there
// are. A series that comes twice, because the archive changed between two pages, is in the result once.
func (c *Client) SearchSeries(ctx context.Context, filter url.Values) ([]Dataset, error) {
	return c.search(ctx, "series", filter, TagSeriesInstanceUID)
}

// SearchInstances finds the instances of a series.
func (c *Client) SearchInstances(ctx context.Context, study, series string) ([]Dataset, error) {
	if err := checkUIDs(study, series); err != nil {
		return nil, err
	}
	return c.search(ctx, "studies/"+study+"/series/"+series+"/instances", nil, TagSOPInstanceUID)
}

// SeriesMetadata are the data sets of a series' instances without their bulk data.
func (c *Client) SeriesMetadata(ctx context.Context, study, series string) ([]Dataset, error) {
	if err := checkUIDs(study, series); err != nil {
		return nil, err
	}
	r := &request{service: wado, path: "studies/" + study + "/series/" + series + "/metadata"}
	found, _, err := c.json(ctx, r)
	return found, err
}

// search asks page by page. An archive that knows no paging answers all at once, or the same page again and again: when a page brings
// nothing new, that was all.
func (c *Client) search(ctx context.Context, path string, filter url.Values, key string) ([]Dataset, error) {
	var all []Dataset
	seen := map[string]bool{}
	for offset := 0; offset < maxResults; {
		query := url.Values{}
		maps.Copy(query, filter)
		query.Set("limit", strconv.Itoa(c.o.PageSize))
		query.Set("offset", strconv.Itoa(offset))
		page, more, err := c.json(ctx, &request{service: qido, path: path, query: query.Encode()})
		if err != nil {
			return nil, err
		}
		fresh := 0
		for _, d := range page {
			uid := d.Text(key)
			if CheckUID(uid) != nil || seen[uid] {
				continue
			}
			seen[uid] = true
			fresh++
			all = append(all, d)
		}
		if offset += len(page); fresh == 0 || (len(page) < c.o.PageSize && !more) {
			return all, nil
		}
	}
	return nil, &Error{Service: qido.String(), Path: path, Class: ErrTooLarge, Detail: fmt.Sprintf("more than %d results, want a narrower filter", maxResults)}
}

// json asks for data sets. more says that the archive announces further ones.
func (c *Client) json(ctx context.Context, r *request) (found []Dataset, more bool, err error) {
	r.method = http.MethodGet
	r.header = http.Header{"Accept": {acceptJSON}}
	r.accept = []int{http.StatusOK, http.StatusPartialContent, http.StatusNoContent}
	err = c.do(ctx, r, func(res *http.Response) error {
		found, more = nil, moreAnnounced(res.Header)
		if res.StatusCode == http.StatusNoContent {
			return nil
		}
		if kind, _ := mediaType(res.Header.Get("Content-Type")); kind != "application/dicom+json" && kind != "application/json" {
			return r.error(res.StatusCode, ErrProtocol, fmt.Sprintf("its answer is of type %.80q, want application/dicom+json; is %s the root of its DICOMweb?", kind, c.URL()), nil)
		}
		found, err = decodeDatasets(res.Body, c.o.MaxJSON)
		var broken *readError
		switch {
		case errors.As(err, &broken):
			return err
		case errors.Is(err, errLimit):
			return r.error(res.StatusCode, ErrTooLarge, fmt.Sprintf("more than %d bytes", c.o.MaxJSON), nil)
		case err != nil:
			return r.error(res.StatusCode, ErrProtocol, "its answer is no list of data sets in JSON", err)
		}
		return nil
	})
	return found, more, err
}

// moreAnnounced reports the warning that a search has further results (PS3.18, 8.3.4.4).
func moreAnnounced(h http.Header) bool {
	for _, warning := range h.Values("Warning") {
		if strings.HasPrefix(warning, "299") && strings.Contains(warning, "additional results") {
			return true
		}
	}
	return false
}

var errLimit = errors.New("limit reached")

// limitedReader fails beyond its limit, where io.LimitedReader ends.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errLimit
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errLimit
	}
	return n, err
}

// decodeDatasets reads a list of data sets. An empty text is an empty list; text that ends too early is a readError, since the
// connection may have been cut where the answer has no declared length.
func decodeDatasets(r io.Reader, limit int64) ([]Dataset, error) {
	dec := json.NewDecoder(&limitedReader{r, limit})
	t, err := dec.Token()
	if err == io.EOF {
		return nil, nil
	}
	if err == nil && t != json.Delim('[') {
		return nil, errors.New("it does not start with [")
	}
	var list []Dataset
	for err == nil && dec.More() {
		var d Dataset
		if err = dec.Decode(&d); err == nil && d != nil {
			list = append(list, d)
		}
	}
	if err == nil {
		_, err = dec.Token()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return nil, &readError{io.ErrUnexpectedEOF}
	}
	return list, err
}
