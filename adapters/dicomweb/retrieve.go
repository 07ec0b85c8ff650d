package dicomweb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
)

// acceptInstances asks for instances as they are stored, compressed or not. Archives older than that parameter get the second form.
var acceptInstances = []string{
	`multipart/related; type="application/dicom"; transfer-syntax=*`,
	`multipart/related; type="application/dicom"`,
}

// RetrieveSeries gives the instances of a series, one after the other as they arrive, to each: whole DICOM files in whatever transfer
// syntax the archive holds them. An instance that each has not read to its end is passed over.
//
// Nothing is repeated once each has been called: the error of an answer that breaks off then wraps ErrUnavailable, and RetrieveInstance
// gets what is missing.
func (c *Client) RetrieveSeries(ctx context.Context, study, series string, each func(instance io.Reader) error) error {
	if err := checkUIDs(study, series); err != nil {
		return err
	}
	return c.retrieve(ctx, "studies/"+study+"/series/"+series, false, each)
}

// RetrieveInstance gives one instance to each. An answer that breaks off is asked for again, and given to each again from its start.
func (c *Client) RetrieveInstance(ctx context.Context, study, series, instance string, each func(instance io.Reader) error) error {
	if err := checkUIDs(study, series, instance); err != nil {
		return err
	}
	return c.retrieve(ctx, "studies/"+study+"/series/"+series+"/instances/"+instance, true, each)
}

// retrieve asks for instances in the forms that archives know. again says that each may get the same instance anew.
func (c *Client) retrieve(ctx context.Context, path string, again bool, each func(io.Reader) error) error {
	var err error
	for _, accept := range acceptInstances {
		r := &request{service: wado, method: http.MethodGet, path: path, header: http.Header{"Accept": {accept}},
			accept: []int{http.StatusOK, http.StatusPartialContent}}
		err = c.do(ctx, r, func(res *http.Response) error {
			in := &instances{r: r, res: res, limit: c.o.MaxInstance, again: again, each: each}
			return in.read()
		})
		var refused *Error
		if !errors.As(err, &refused) || (refused.Status != http.StatusNotAcceptable && refused.Status != http.StatusBadRequest) {
			return err
		}
	}
	return err
}

// instances reads an answer that holds instances.
type instances struct {
	r     *request
	res   *http.Response
	limit int64
	again bool
	each  func(io.Reader) error
	given int
}

func (in *instances) read() error {
	kind, params := mediaType(in.res.Header.Get("Content-Type"))
	if kind == "application/dicom" { // a single instance without an envelope
		return in.give(in.res.Body)
	}
	if kind != "multipart/related" || params["boundary"] == "" {
		return in.protocolError("its answer is of type %.80q, want multipart/related with application/dicom", kind)
	}
	parts := multipart.NewReader(in.res.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return in.failed(&readError{err})
		}
		if kind, _ := mediaType(part.Header.Get("Content-Type")); kind != "application/dicom" && kind != "" {
			return in.protocolError("part %d of its answer is of type %.80q, want application/dicom", in.given+1, kind)
		}
		if err := in.give(part); err != nil {
			return err
		}
	}
}

func (in *instances) protocolError(format string, args ...any) error {
	return in.r.error(in.res.StatusCode, ErrProtocol, fmt.Sprintf(format, args...), nil)
}

func (in *instances) give(part io.Reader) error {
	in.given++
	err := in.each(&limitedReader{part, in.limit})
	if errors.Is(err, errLimit) {
		return in.r.error(in.res.StatusCode, ErrTooLarge, fmt.Sprintf("instance %d has more than %d bytes", in.given, in.limit), nil)
	}
	return in.failed(err)
}

// failed leaves the receiver's own errors as they are. A failure of reading is repeated if nothing has been given away yet.
func (in *instances) failed(err error) error {
	var broken *readError
	if !errors.As(err, &broken) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if in.given == 0 || in.again {
		return &readError{err}
	}
	return in.r.error(in.res.StatusCode, ErrUnavailable, fmt.Sprintf("the answer broke off in or after instance %d", in.given), err)
}
