package api

import (
	"fmt"
	"net/http"
	"strings"
)

// Error is an answer other than success, whose body is {"detail": …}.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Detail is a string, or a list of violations for status 422.
	Detail any
	// Cause is what went wrong, for logs. May be nil.
	Cause error
}

// Errorf makes an error with a text as detail.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string {
	if text, ok := e.Detail.(string); ok {
		return fmt.Sprintf("%d: %s", e.Status, text)
	}
	return fmt.Sprintf("%d: request does not validate", e.Status)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Body is the JSON body of the answer.
func (e *Error) Body() *Object { return NewObject("detail", e.Detail) }

// Where a request did not validate.
const (
	InQuery = "query"
	InBody  = "body"
)

// Missing is the answer to a request without a required parameter or part.
func Missing(in, name string) *Error {
	return violation("missing", []string{in, name}, "Field required", nil, nil)
}

// BadEnum is the answer to a parameter that is none of the values allowed.
func BadEnum(in, name, got string, want ...string) *Error {
	quoted := make([]string, len(want))
	for i, w := range want {
		quoted[i] = "'" + w + "'"
	}
	expected := quoted[len(quoted)-1]
	if n := len(quoted) - 1; n > 0 {
		expected = strings.Join(quoted[:n], ", ") + " or " + expected
	}
	return violation("enum", []string{in, name}, "Input should be "+expected, got, NewObject("expected", expected))
}

// BadBool is the answer to a query parameter that is no boolean.
func BadBool(name, got string) *Error {
	return violation("bool_parsing", []string{InQuery, name}, "Input should be a valid boolean, unable to interpret input", got, nil)
}

// BadInt is the answer to a query parameter that is no whole number.
func BadInt(name, got string) *Error {
	return violation("int_parsing", []string{InQuery, name}, "Input should be a valid integer, unable to parse string as an integer", got, nil)
}

// NotObject is the answer to a JSON body that is not an object.
func NotObject(got any) *Error {
	return violation("dict_type", []string{InBody}, "Input should be a valid dictionary", got, nil)
}

// BadJSON is the answer to a body that is no JSON.
func BadJSON(err error) *Error {
	e := violation("json_invalid", []string{InBody}, "JSON decode error", NewObject(), NewObject("error", err.Error()))
	e.Cause = err
	return e
}

func violation(kind string, loc []string, msg string, input any, ctx *Object) *Error {
	v := NewObject("type", kind, "loc", loc, "msg", msg, "input", input)
	if ctx != nil {
		v.Set("ctx", ctx)
	}
	return &Error{Status: http.StatusUnprocessableEntity, Detail: []*Object{v}}
}

// DecodeBody reads an optional JSON body: nothing at all and null are an empty object. The error is a 422 answer.
func DecodeBody(text []byte) (*Object, *Error) {
	if len(strings.TrimSpace(string(text))) == 0 {
		return &Object{}, nil
	}
	v, err := decodeValue(text)
	if err != nil {
		return nil, BadJSON(err)
	}
	switch v := v.(type) {
	case nil:
		return &Object{}, nil
	case *Object:
		return v, nil
	default:
		return nil, NotObject(v)
	}
}
