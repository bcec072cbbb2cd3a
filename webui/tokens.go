//go:build linux

package webui

import (
	"errors"
	"fmt"
	"net/http"

	"bulkhead/services/auth/access"
)

func (s *server) listTokens(w http.ResponseWriter, _ *http.Request) { answer(w, s.tokens.List()) }

func (s *server) addToken(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.TokenRequest](w, r)
	if !ok {
		return
	}
	by := tokenOf(r.Context())
	secret, token, err := s.tokens.Grant(by, in)
	switch {
	case errors.Is(err, access.ErrGrant):
		fail(w, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, access.ErrTaken), errors.Is(err, access.ErrTooMany):
		fail(w, http.StatusConflict, err.Error())
	case err != nil:
		fail(w, http.StatusInternalServerError, err.Error())
	default:
		s.log.Info("token made", "name", token.Name, "id", token.ID, "scopes", token.Scopes, "expires", token.Expires, "by", by.Name)
		answer(w, access.TokenAnswer{Secret: secret, Token: token})
	}
}

func (s *server) revokeToken(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	err := s.tokens.Revoke(id)
	switch {
	case errors.Is(err, access.ErrUnknownToken):
		fail(w, http.StatusNotFound, fmt.Sprintf("no token has the ID %q", id))
	case err != nil:
		fail(w, http.StatusInternalServerError, err.Error())
	default:
		s.log.Info("token revoked", "id", id, "by", tokenOf(r.Context()).Name)
		answer(w, none{})
	}
}
