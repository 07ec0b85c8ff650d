package dicomweb

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Classes of errors. Test with errors.Is.
var (
	// ErrUnavailable is an archive that cannot be reached, is overloaded or does not answer in time. Later it may.
	ErrUnavailable = errors.New("archive is not available")
	// ErrRefused is an archive that wants other credentials.
	ErrRefused = errors.New("archive refuses the credentials")
	// ErrNotFound is a study, series or instance the archive does not have (any more).
	ErrNotFound = errors.New("not in the archive")
	// ErrProtocol is an answer that is not DICOMweb, or a status nobody expects.
	ErrProtocol = errors.New("archive does not answer as a DICOMweb server")
	// ErrTooLarge is an answer beyond a limit.
	ErrTooLarge = errors.New("answer of the archive is too large")
	// ErrPath is a path that is no DICOMweb resource.
	ErrPath = errors.New("not a DICOMweb path")
)

// Error is a request that failed. It wraps its class and, if there is one, the cause.
type Error struct {
	// Service and Path are what was asked for: "WADO" and "studies/…".
	Service, Path string
	// Status is the archive's answer, 0 without one.
	Status int
	// Class is one of the classes above.
	Class error
	// Detail says more: what the archive wrote, or what was expected.
	Detail string
	// Cause is the failure of a connection or of reading.
	Cause error
}

// Error tells what was asked for, what came, and what to do about it where that is known.
func (e *Error) Error() string {
	text := fmt.Sprintf("%v (%s %s", e.Class, e.Service, e.Path)
	if e.Status != 0 {
		text += fmt.Sprintf(": status %d", e.Status)
	}
	text += ")"
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Cause != nil {
		text += ": " + plainCause(e.Cause).Error()
	}
	return text
}

// Unwrap gives class and cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Cause}
}

// plainCause leaves out the address of a request, which the error tells already.
func plainCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// classOf is what a status means.
func classOf(status int) error {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return ErrRefused
	case status == http.StatusNotFound, status == http.StatusGone:
		return ErrNotFound
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return ErrUnavailable
	}
	return ErrProtocol
}

// repeatable reports whether a status asks to come again.
func repeatable(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
