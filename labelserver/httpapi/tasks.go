package httpapi

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
)

// taskGroup answers for one kind of background task. This version runs none, so every status is that of a server where nothing
// ever ran: Slicer asks at each refresh of its window and reads 404 as "not running".
type taskGroup struct {
	name   string
	status string
	start  []string
}

func (t taskGroup) getStatus(c echo.Context) error {
	running, err := queryBool(c, "check_if_running", false)
	if err != nil {
		return err
	}
	if _, err := queryBool(c, "all", false); err != nil {
		return err
	}
	if running {
		return api.Errorf(http.StatusNotFound, "No %s Tasks are currently Running", t.name)
	}
	return api.Errorf(http.StatusNotFound, "No %s Tasks Found", t.name)
}

func (t taskGroup) stop(c echo.Context) error { return reply(c, http.StatusOK, nil) }

func (t taskGroup) refuse(echo.Context) error {
	return api.Errorf(http.StatusNotFound, "%s is not available in this version of Scrawl: it learns from each interaction while you draw",
		strings.ToLower(strings.ReplaceAll(t.name, "_", " ")))
}
