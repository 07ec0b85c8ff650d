package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
)

// required returns a query parameter that must be there.
func required(c echo.Context, name string) (string, error) {
	values := c.QueryParams()
	if !values.Has(name) {
		return "", api.Missing(api.InQuery, name)
	}
	return values.Get(name), nil
}

func queryBool(c echo.Context, name string, missing bool) (bool, error) {
	values := c.QueryParams()
	if !values.Has(name) {
		return missing, nil
	}
	value, ok := api.ParseBool(values.Get(name))
	if !ok {
		return false, api.BadBool(name, values.Get(name))
	}
	return value, nil
}

func queryInt(c echo.Context, name string, missing int) (int, error) {
	values := c.QueryParams()
	if !values.Has(name) {
		return missing, nil
	}
	value, err := strconv.Atoi(values.Get(name))
	if err != nil {
		return 0, api.BadInt(name, values.Get(name))
	}
	return value, nil
}

// queryEnum reads a parameter that is one of those allowed.
func queryEnum(c echo.Context, name, missing string, allowed ...string) (string, error) {
	values := c.QueryParams()
	if !values.Has(name) {
		return missing, nil
	}
	value := values.Get(name)
	if !slices.Contains(allowed, value) {
		return "", api.BadEnum(api.InQuery, name, value, allowed...)
	}
	return value, nil
}

// pathParam returns a path parameter decoded once. The router leaves it encoded whenever the path needs its raw form, as in
// Histogram%2BGraphCut; a plus stays a plus.
func pathParam(c echo.Context, name string) (string, error) {
	value := c.Param(name)
	if value == "" || strings.Contains(value, "/") {
		return "", echo.ErrNotFound // the router lets a last parameter be no segment, or several
	}
	if c.Request().URL.RawPath == "" {
		return value, nil
	}
	decoded, err := url.PathUnescape(value)
	if err != nil {
		return "", api.Errorf(http.StatusBadRequest, "path holds %q, which is not percent-encoded text", value)
	}
	return decoded, nil
}
