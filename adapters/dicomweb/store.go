package dicomweb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Instance is a DICOM file to store. Open is called again when the request is repeated.
type Instance struct {
	Open func() (io.ReadCloser, error)
	Size int64
}

// StoreReport is what became of each instance (PS3.18, table 10.5.3-1).
type StoreReport struct {
	Stored []Stored
	Failed []Failed
}

// Stored is an instance that the archive has now. Warning is 0, or says what the archive changed.
type Stored struct {
	SOPClassUID, SOPInstanceUID, RetrieveURL string
	Warning                                  int
}

// Failed is an instance that the archive has not taken.
type Failed struct {
	SOPClassUID, SOPInstanceUID string
	Reason                      int
}

// duplicate is the reason of failure for an instance that is there already (PS3.18, table 10.5.3.2.1-1).
const duplicate = 0x0111

// String says the reason in words.
func (f Failed) String() string {
	reason := "for a reason of its own"
	switch {
	case f.Reason == 0x0110:
		reason = "processing failure"
	case f.Reason == duplicate:
		reason = "it is there already"
	case f.Reason == 0x0122:
		reason = "its kind (SOP class) is not supported"
	case f.Reason == 0x0124:
		reason = "not authorized"
	case f.Reason == 0x0106:
		reason = "an attribute has an invalid value"
	case f.Reason>>8 == 0xA7:
		reason = "out of resources"
	case f.Reason>>8 == 0xA9:
		reason = "data set does not match its kind (SOP class)"
	case f.Reason>>12 == 0xC:
		reason = "cannot understand"
	}
	return fmt.Sprintf("instance %s: %s (0x%04X)", f.SOPInstanceUID, reason, f.Reason)
}

// Err is an error that names the instances that were not taken, nil if there are none.
func (r *StoreReport) Err() error {
	var errs []error
	for _, f := range r.Failed {
		errs = append(errs, errors.New(f.String()))
	}
	if len(errs) == 0 {
		return nil
	}
	return &Error{Service: stow.String(), Path: "studies", Class: ErrProtocol, Detail: fmt.Sprintf("%d of %d instances were not taken", len(r.Failed), len(r.Failed)+len(r.Stored)), Cause: errors.Join(errs...)}
}

// Store stores instances, all in one request, and reports on each. An error means that nothing is known of any; the report may hold
// failures without one. An instance that is there already when the request had to be repeated was stored by the first try.
func (c *Client) Store(ctx context.Context, instances ...Instance) (*StoreReport, error) {
	boundary := rand.Text()
	head := "--" + boundary + "\r\nContent-Type: application/dicom\r\n\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	length := int64(len(tail))
	for i, instance := range instances {
		if i > 0 {
			length += 2
		}
		length += int64(len(head)) + instance.Size
	}
	tries := 0
	r := &request{service: stow, method: http.MethodPost, path: "studies", length: length,
		header: http.Header{"Accept": {acceptJSON}, "Content-Type": {`multipart/related; type="application/dicom"; boundary=` + boundary}},
		body: func() (io.ReadCloser, error) {
			tries++
			return openAll(instances, head, tail)
		},
		// 409: none was taken, and the body tells why. 202: some were not, or were changed.
		accept: []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent, http.StatusConflict},
	}
	report := &StoreReport{}
	err := c.do(ctx, r, func(res *http.Response) error {
		var err error
		report, err = c.readReport(r, res)
		return err
	})
	if err != nil {
		return nil, err
	}
	if tries > 1 {
		report.forgiveDuplicates()
	}
	return report, nil
}

func (r *StoreReport) forgiveDuplicates() {
	var failed []Failed
	for _, f := range r.Failed {
		if f.Reason == duplicate {
			r.Stored = append(r.Stored, Stored{SOPClassUID: f.SOPClassUID, SOPInstanceUID: f.SOPInstanceUID})
		} else {
			failed = append(failed, f)
		}
	}
	r.Failed = failed
}

// openAll is the multipart body, opened part by part as it is read.
func openAll(instances []Instance, head, tail string) (io.ReadCloser, error) {
	b := &storeBody{}
	var parts []io.Reader
	for i, instance := range instances {
		if i > 0 {
			parts = append(parts, strings.NewReader("\r\n"))
		}
		parts = append(parts, strings.NewReader(head), &lazyReader{open: instance.Open, owner: b})
	}
	b.Reader = io.MultiReader(append(parts, strings.NewReader(tail))...)
	return b, nil
}

type storeBody struct {
	io.Reader
	current io.ReadCloser
}

func (b *storeBody) Close() error {
	if b.current == nil {
		return nil
	}
	return b.current.Close()
}

type lazyReader struct {
	open  func() (io.ReadCloser, error)
	owner *storeBody
	r     io.ReadCloser
}

func (l *lazyReader) Read(p []byte) (int, error) {
	if l.r == nil {
		if err := l.owner.Close(); err != nil { // the one before
			return 0, err
		}
		r, err := l.open()
		if err != nil {
			return 0, err
		}
		l.r, l.owner.current = r, r
	}
	return l.r.Read(p)
}

// readReport reads a store response. One in XML, or none, leaves it at what the status says.
func (c *Client) readReport(r *request, res *http.Response) (*StoreReport, error) {
	report := &StoreReport{}
	kind, _ := mediaType(res.Header.Get("Content-Type"))
	text, err := io.ReadAll(&limitedReader{res.Body, c.o.MaxJSON})
	if err != nil {
		return nil, err
	}
	refused := func() error {
		return r.error(res.StatusCode, ErrProtocol, "it took nothing and does not say why", nil)
	}
	if kind != "application/dicom+json" && kind != "application/json" {
		if res.StatusCode == http.StatusConflict || res.StatusCode == http.StatusAccepted {
			return nil, refused()
		}
		return report, nil
	}
	d, err := decodeReport(text)
	if err != nil {
		return nil, r.error(res.StatusCode, ErrProtocol, "its report is no data set in JSON", err)
	}
	for _, item := range d.Items(TagReferencedSOPs) {
		warning, _ := item.Int(TagWarningReason)
		report.Stored = append(report.Stored, Stored{item.Text(TagReferencedSOPClassUID), item.Text(TagReferencedSOPInstanceUID), item.Text(TagRetrieveURL), warning})
	}
	for _, item := range d.Items(TagFailedSOPs) {
		reason, _ := item.Int(TagFailureReason)
		report.Failed = append(report.Failed, Failed{item.Text(TagReferencedSOPClassUID), item.Text(TagReferencedSOPInstanceUID), reason})
	}
	if res.StatusCode == http.StatusConflict && len(report.Failed) == 0 {
		return nil, refused()
	}
	return report, nil
}
