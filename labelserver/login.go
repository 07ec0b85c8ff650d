package labelserver

import (
	"github.com/rs/zerolog"

	"scrawl/labelserver/auth"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

// RoleNames are what the configuration calls the roles.
func RoleNames(cfg *config.Config) auth.RoleNames {
	r := cfg.Auth.Roles
	return auth.RoleNames{auth.User: r.User, auth.Annotator: r.Annotator, auth.Reviewer: r.Reviewer, auth.Admin: r.Admin}
}

// openLogin makes what tells who clients are and opens the audit trail. It warns of what is allowed and not wise.
func (s *Server) openLogin() (*auth.Authenticator, error) {
	login, err := openAuth(s.cfg, s.log)
	if err != nil {
		return nil, err
	}
	if s.audit, err = obs.OpenAudit(s.cfg.AuditFile()); err != nil {
		return nil, err
	}
	open := !config.Loopback(s.cfg.Server.Host)
	if open && s.cfg.Auth.AllowAnonymous {
		s.log.Warn().Str("host", s.cfg.Server.Host).Msg("there is no login: everybody who reaches this address may read and change the studies")
	}
	if open && s.cfg.Auth.Enable && s.cfg.Server.TLS.CertFile == "" {
		s.log.Warn().Str("host", s.cfg.Server.Host).Msg("without TLS passwords and images travel in the clear; set server.tls or put a proxy in front")
	}
	return login, nil
}

func (s *Server) closeAudit() error {
	if s.audit == nil {
		return nil
	}
	return s.audit.Close()
}

// openAuth makes what tells who clients are, nil if there is no login.
func openAuth(cfg *config.Config, log zerolog.Logger) (*auth.Authenticator, error) {
	c := cfg.Auth
	if !c.Enable {
		return nil, nil
	}
	o := auth.Options{Accounts: c.Accounts, KeyFile: cfg.KeyFile(), TokenLifetime: c.TokenLifetime, Roles: RoleNames(cfg), Log: log}
	if c.RealmURI != "" {
		o.Realm = &auth.RealmOptions{
			URI: c.RealmURI, ClientID: c.ClientID, ClientSecret: c.ClientSecret.Reveal(), Audience: c.Audience, Timeout: c.Timeout,
			Claims: auth.Claims{Username: c.Claims.Username, Email: c.Claims.Email, Name: c.Claims.Name, Roles: c.Claims.Roles},
		}
	}
	return auth.New(o)
}
