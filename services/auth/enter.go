//go:build linux

package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/auth/account"
	"bulkhead/services/auth/api"
)

// The ways in.

func (s *server) owner(*request) (api.Owner, error) { return api.Owner{Claimed: s.owned()}, nil }

func (s *server) ownership(*request) (api.Ownership, error) {
	o := api.Ownership{Claimed: s.owned()}
	if !o.Claimed {
		s.claim.Ensure()
	}
	if code, ok := s.claim.Code(); ok {
		o.Code = code.String()
	}
	return o, nil
}

func (s *server) renewCode(r *request, _ api.None) (api.Ownership, error) {
	s.claim.Renew()
	s.note(r, "claim code made", "", "at the console")
	return s.ownership(r)
}

// takeClaim gives the box to who knows the code on its console.
func (s *server) takeClaim(r *request, in api.Claim) (out api.Claimed, err error) {
	proof, exporter := in.Proof, in.Exporter
	grant := func() (err error) {
		out.Secret, _, err = s.tokens.Add(in.Name, []access.Scope{access.Admin}, time.Time{})
		return err
	}
	kind := api.ByToken
	if in.Code != "" {
		// A browser cannot make proofs. It sends the code over a connection whose
		// certificate a person has looked at, or not.
		code, err := access.ParseCode(in.Code)
		if err != nil {
			return api.Claimed{}, refuse(http.StatusUnprocessableEntity, err)
		}
		proof, exporter, kind = code.Proof(access.Client, nil), nil, api.BySession
		grant = func() (err error) {
			out.Secret, err = s.own(r, in.Name)
			return err
		}
	} else if err := access.CheckName(in.Name); err != nil {
		return api.Claimed{}, refuse(http.StatusUnprocessableEntity, fmt.Errorf("the token: %w", err))
	}
	out.Proof, err = s.claim.Redeem(r.from, s.now(), exporter, proof, grant)
	r.caller = api.Caller{Kind: kind, Name: in.Name}
	if err != nil {
		r.caller = api.Caller{}
		s.note(r, "claim refused", in.Name, err.Error())
		return api.Claimed{}, err
	}
	s.log.Info("claimed", "name", in.Name, "from", r.from)
	s.note(r, "box claimed", "", "")
	return out, nil
}

// own makes a user admin, who may exist: whoever holds the code owns the box.
func (s *server) own(r *request, name string) (secret string, err error) {
	if err := s.users.Add(name, access.Administrator); errors.Is(err, account.ErrTaken) {
		err = s.users.SetRole(name, access.Administrator)
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	return s.users.Begin(name, "claim", r.from, r.agent())
}

func (s *server) login(r *request, in api.Login) (api.Session, error) {
	secret, err := s.users.Login(in.User, in.Password, in.Code, r.from, r.agent())
	return s.entered(r, secret, in.User, "password", err)
}

func (s *server) beginLogin(_ *request, site api.Site) (api.Options, error) {
	o, err := s.users.BeginLogin(site)
	return options(o, err)
}

func (s *server) finishLogin(r *request, in api.Answer) (api.Session, error) {
	secret, user, err := s.users.FinishLogin(in.Site, in.Answer, r.from, r.agent())
	return s.entered(r, secret, user, "passkey", err)
}

func (s *server) redeem(r *request, in api.Redeem) (api.Session, error) {
	// 128 random bits are not guessed; refusals are not slowed down.
	user, ok := s.invites.take(in.Code, s.now())
	if !ok {
		s.note(r, "login refused", "", "by an invitation")
		return api.Session{}, refuse(http.StatusForbidden, errors.New("the invitation was used, or is older than a day: ask for another"))
	}
	secret, err := s.users.Begin(user, "invitation", r.from, r.agent())
	return s.entered(r, secret, user, "invitation", err)
}

// entered writes down that somebody came in, or tried.
func (s *server) entered(r *request, secret, user, how string, err error) (api.Session, error) {
	switch {
	case err != nil && waitOf(err) > 0:
		s.count.waits.Add(1)
		return api.Session{}, err
	case err != nil:
		s.count.refused.Add(1)
		s.note(r, "login refused", user, how) // those that were looked at, which are not many
		return api.Session{}, err
	}
	s.count.logins.Add(1)
	r.caller = api.Caller{Kind: api.BySession, Name: user}
	s.note(r, "login", "", how)
	return api.Session{Secret: secret, User: user}, nil
}

func (s *server) logout(r *request, _ api.None) (api.None, error) {
	s.note(r, "logout", "", "")
	return api.None{}, s.users.End(r.caller.Name, r.caller.Session)
}

func options(o any, err error) (api.Options, error) {
	if err != nil {
		return api.Options{}, err
	}
	data, err := json.Marshal(o)
	return api.Options{Options: data}, err
}
