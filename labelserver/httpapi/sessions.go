package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/session"
)

func (s *Server) sessionStore() (*session.Store, error) {
	if s.o.Sessions == nil {
		return nil, api.Errorf(http.StatusNotAcceptable, "Session Feature is Not Enabled")
	}
	return s.o.Sessions, nil
}

func (s *Server) putSession(c echo.Context) error {
	store, err := s.sessionStore()
	if err != nil {
		return err
	}
	unpack, err := queryBool(c, "uncompress", false)
	if err != nil {
		return err
	}
	expiry, err := queryInt(c, "expiry", 0)
	if err != nil {
		return err
	}
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	var uploads []session.Upload
	for _, f := range form.Files("files") {
		uploads = append(uploads, session.Upload{Name: f.Name, Path: f.Path})
	}
	if len(uploads) == 0 {
		return api.Missing(api.InBody, "files")
	}
	seconds := time.Duration(min(max(expiry, 0), 1<<30)) * time.Second
	info, err := store.Create(uploads, seconds, unpack)
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, api.NewObject("session_id", info.Name, "session_info", info.Object()))
}

func (s *Server) getSession(c echo.Context) error {
	store, err := s.sessionStore()
	if err != nil {
		return err
	}
	id, err := pathParam(c, "id")
	if err != nil {
		return err
	}
	touch, err := queryBool(c, "update_ts", false)
	if err != nil {
		return err
	}
	image, err := queryBool(c, "image", false)
	if err != nil {
		return err
	}
	info, err := store.Get(id, touch)
	if errors.Is(err, session.ErrNotFound) {
		return api.Errorf(http.StatusNotFound, "Session (%s) Not Found", id)
	}
	if err != nil {
		return err
	}
	if image {
		return s.sendSessionImage(c, store, id)
	}
	return reply(c, http.StatusOK, info.Object())
}

// sendSessionImage answers with the image's file. That of a series is made of its files, as a datastore's is.
func (s *Server) sendSessionImage(c echo.Context, store *session.Store, id string) error {
	_, err := store.Folder(id)
	if err == nil {
		return s.sendSessionSeries(c, id)
	}
	if !errors.Is(err, session.ErrOneFile) {
		return err
	}
	f, info, err := store.OpenImage(id)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	return sendFile(c, f, api.BaseName(info.Image))
}

// sendSessionSeries answers with the volume of a session of several files as NIfTI.
func (s *Server) sendSessionSeries(c echo.Context, id string) error {
	image, err := s.sessionImage(id)
	if err != nil {
		return err
	}
	v, err := image.Open(c.Request().Context())
	if err != nil {
		return err
	}
	name := id + ".nii.gz"
	var b bytes.Buffer
	if err := s.o.Codec.EncodeVolume(name, &b, v); err != nil {
		return fmt.Errorf("writing the image of session %s: %w", id, err)
	}
	c.Response().Header().Set("Content-Disposition", api.ContentDisposition(name))
	return replyBytes(c, http.StatusOK, contentType(name), b.Bytes())
}

func (s *Server) deleteSession(c echo.Context) error {
	store, err := s.sessionStore()
	if err != nil {
		return err
	}
	id, err := pathParam(c, "id")
	if err != nil {
		return err
	}
	info, err := store.Delete(id)
	if errors.Is(err, session.ErrNotFound) {
		return api.Errorf(http.StatusNotFound, "Session Not Found")
	}
	if err != nil {
		return err
	}
	if err := s.o.Service.Forget(c.Request().Context(), annotation.ImageKey{Source: annotation.Session, ID: id}); err != nil {
		return err
	}
	return reply(c, http.StatusOK, info.Object())
}
