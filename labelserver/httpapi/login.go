package httpapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
)

// getAuth answers GET /auth/, by which each call of Slicer begins. Without a login it is not there, which is how clients know.
func (s *Server) getAuth(c echo.Context) error {
	if s.o.Auth == nil {
		return echo.ErrNotFound
	}
	realm := s.o.Auth.RealmURI()
	if realm == "" {
		realm = s.o.Config.Server.Name // clients show it and ask nothing of it
	}
	return reply(c, http.StatusOK, api.NewObject("enabled", true, "client_id", s.o.Config.Auth.ClientID, "realm", realm))
}

// maxCredential bounds user names and passwords, in bytes.
const maxCredential = 1024

// postToken exchanges a user name and a password for a token. A browser may ask for a cookie too.
func (s *Server) postToken(c echo.Context) error {
	if s.o.Auth == nil {
		return echo.ErrNotFound
	}
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	var given [2]string
	for i, name := range []string{"username", "password"} {
		text, ok := form.Field(name)
		if !ok || text == "" {
			return api.Missing(api.InBody, name)
		}
		if len(text) > maxCredential || strings.ContainsRune(text, 0) {
			return api.Errorf(http.StatusBadRequest, "%s has %d bytes or a zero among them, want at most %d and none", name, len(text), maxCredential)
		}
		given[i] = text
	}
	if grant, ok := form.Field("grant_type"); ok && grant != "" && grant != "password" {
		return api.BadEnum(api.InBody, "grant_type", grant, "password")
	}
	cookie, err := formBool(form, "cookie")
	if err != nil {
		return err
	}
	s.note(c, "user", given[0])
	token, err := s.o.Auth.Login(c.Request().Context(), given[0], given[1])
	if err != nil {
		return loginError(c, err)
	}
	if cookie {
		s.setCookie(c, token.Access, token.Lifetime)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return reply(c, http.StatusOK, api.NewObject("access_token", token.Access, "token_type", token.Type))
}

func formBool(form *api.Form, name string) (bool, error) {
	text, ok := form.Field(name)
	if !ok || text == "" {
		return false, nil
	}
	value, ok := api.ParseBool(text)
	if !ok {
		return false, api.Errorf(http.StatusBadRequest, "%s is %.40q, want true or false", name, text)
	}
	return value, nil
}

// setCookie keeps a token in the browser where scripts cannot read it and other sites cannot send it. A lifetime of 0 means until the
// browser is closed; the token itself may end sooner.
func (s *Server) setCookie(c echo.Context, token string, lifetime time.Duration) {
	c.SetCookie(&http.Cookie{
		Name: tokenCookie, Value: token, Path: "/", MaxAge: int(lifetime / time.Second), HttpOnly: true,
		Secure: overTLS(c.Request()), SameSite: http.SameSiteStrictMode,
	})
}

func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// deleteToken logs a browser out. Tokens that clients hold otherwise end by themselves.
func (s *Server) deleteToken(c echo.Context) error {
	if s.o.Auth == nil {
		return echo.ErrNotFound
	}
	s.setCookie(c, "", -time.Second)
	return reply(c, http.StatusOK, nil)
}

// getTokenValid tells whose a token is.
func (s *Server) getTokenValid(c echo.Context) error {
	if s.o.Auth == nil {
		return echo.ErrNotFound
	}
	id := s.identityOf(c)
	return reply(c, http.StatusOK, api.NewObject("username", id.Username, "email", id.Email, "name", id.Name, "roles", id.Roles))
}

// getLogin is a page to log in with a browser, for pages that send no token of their own, such as OHIF's.
func (s *Server) getLogin(c echo.Context) error {
	if s.o.Auth == nil {
		return echo.ErrNotFound
	}
	return s.getPage("login.html")(c)
}
