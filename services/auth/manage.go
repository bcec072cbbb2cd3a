//go:build linux

package auth

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	"bulkhead/services/auth/totp"
)

// What users do about themselves.

func (s *server) me(r *request) (access.User, error) { return s.users.User(r.caller.Name) }

func (s *server) newCode(r *request, site api.Site) (api.Code, error) {
	var secret totp.Secret
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand
	return api.Code{Secret: secret.String(), URI: secret.URI(site.Box, r.caller.Name)}, nil
}

func (s *server) setPassword(r *request, in api.NewPassword) (api.None, error) {
	secret, err := totp.Parse(in.Secret)
	if err != nil {
		return api.None{}, refuse(http.StatusUnprocessableEntity, err)
	}
	return s.done(r, "password set", r.caller.Name, s.users.SetPassword(r.caller.Name, in.Password, secret, in.Code, r.secret))
}

func (s *server) removePassword(r *request) (api.None, error) {
	return s.done(r, "password removed", r.caller.Name, s.users.RemovePassword(r.caller.Name, r.secret))
}

func (s *server) beginPasskey(r *request, site api.Site) (api.Options, error) {
	o, err := s.users.BeginPasskey(r.caller.Name, site)
	return options(o, err)
}

func (s *server) addPasskey(r *request, in api.Answer) (api.None, error) {
	return s.done(r, "passkey added", in.Label, s.users.AddPasskey(r.caller.Name, in.Label, in.Site, in.Answer))
}

func (s *server) removePasskey(r *request) (api.None, error) {
	return s.done(r, "passkey removed", r.PathValue("id"), s.users.RemovePasskey(r.caller.Name, r.PathValue("id"), r.secret))
}

func (s *server) mySessions(r *request) ([]access.Session, error) {
	return s.users.Sessions(r.caller.Name), nil
}

func (s *server) endMySession(r *request) (api.None, error) {
	return s.done(r, "session ended", r.PathValue("id"), s.users.End(r.caller.Name, r.PathValue("id")))
}

// What admins do about all of them.

func (s *server) listUsers(*request) ([]access.User, error) { return s.users.Users(), nil }

func (s *server) addUser(r *request, in api.NewUser) (api.Invitation, error) {
	if _, err := s.done(r, "user added", in.Name, s.users.Add(in.Name, in.Role)); err != nil {
		return api.Invitation{}, err
	}
	return s.invitation(in.Name), nil
}

func (s *server) invitation(user string) api.Invitation {
	code, until := s.invites.add(user, s.now())
	return api.Invitation{User: user, Code: code, Expires: until.UTC().Truncate(time.Second)}
}

// invite lets somebody in again who has lost what they log in with.
func (s *server) invite(r *request, _ api.None) (api.Invitation, error) {
	name := r.PathValue("name")
	if _, err := s.users.User(name); err != nil {
		return api.Invitation{}, err
	}
	s.note(r, "user invited", name, "")
	return s.invitation(name), nil
}

func (s *server) setRole(r *request, in api.NewRole) (api.None, error) {
	return s.done(r, "role set", r.PathValue("name")+": "+string(in.Role), s.users.SetRole(r.PathValue("name"), in.Role))
}

func (s *server) removeUser(r *request) (api.None, error) {
	name := r.PathValue("name")
	_, err := s.done(r, "user removed", name, s.users.Remove(name))
	if err == nil {
		s.invites.forget(name)
	}
	return api.None{}, err
}

func (s *server) listSessions(*request) ([]access.Session, error) { return s.users.Sessions(""), nil }

func (s *server) endSession(r *request) (api.None, error) {
	return s.done(r, "session ended", r.PathValue("id"), s.users.End("", r.PathValue("id")))
}

func (s *server) listTokens(*request) ([]access.Token, error) { return s.tokens.List(), nil }

func (s *server) addToken(r *request, in access.TokenRequest) (access.TokenAnswer, error) {
	by := access.Token{Name: r.caller.Name, Scopes: r.caller.Scopes, Expires: r.caller.Expires}
	secret, token, err := s.tokens.Grant(by, in)
	if _, err := s.done(r, "token made", in.Name, err); err != nil {
		return access.TokenAnswer{}, err
	}
	return access.TokenAnswer{Secret: secret, Token: token}, nil
}

func (s *server) revokeToken(r *request) (api.None, error) {
	id := r.PathValue("id")
	return s.done(r, "token revoked", id, s.tokens.Revoke(id))
}

// maxEntries bounds an answer.
const maxEntries = 1000

func (s *server) showAudit(r *request) (out api.Audit, err error) {
	var since time.Time
	q := r.URL.Query()
	if v := q.Get("since"); v != "" {
		if since, err = time.Parse(time.RFC3339, v); err != nil {
			return out, refuse(http.StatusUnprocessableEntity, fmt.Errorf("since: %w", err))
		}
	}
	limit := maxEntries
	if v := q.Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxEntries {
			return out, refuse(http.StatusUnprocessableEntity, fmt.Errorf("limit: 1 to %d is meant", maxEntries))
		}
	}
	out.Entries, out.Damaged, err = s.audit.Entries(since, limit)
	return out, err
}

// addAudit takes what other daemons have to tell.
func (s *server) addAudit(_ *request, in audit.Entry) (api.None, error) {
	if strings.TrimSpace(in.What) == "" {
		return api.None{}, refuse(http.StatusUnprocessableEntity, fmt.Errorf("nothing happened"))
	}
	in.Time = s.now()
	return api.None{}, s.audit.Add(in)
}

// noteCertificate takes what webuid did on the caller's behalf: who it was is not its to say.
func (s *server) noteCertificate(r *request, in api.CertificateNote) (api.None, error) {
	what := "client certificate made"
	if in.Revoked {
		what = "client certificate revoked"
	}
	s.note(r, what, in.Label, "of "+in.Of)
	return api.None{}, nil
}

// done writes down what was done.
func (s *server) done(r *request, what, of string, err error) (api.None, error) {
	if err == nil {
		s.note(r, what, of, "")
	}
	return api.None{}, err
}
