package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"bulkhead/services/auth/access"
	"bulkhead/services/sock"
)

// Guard knows who holds a token or a session, and what they may: a [Client].
type Guard interface {
	Check(ctx context.Context, secret string, need access.Scope) (Caller, error)
}

// Admit finds out on whose behalf a request came to the socket of a daemon that runs as
// root, and whether they may use what needs the scope. Root, and whoever runs this
// process, is believed, and may everything: ok is false then. All others show a token or
// a session; webuid, through which strangers come, hands on theirs. Without a guard there
// are no others.
//
// The error wraps [ErrUnknown], [ErrForbidden] or [ErrAway].
func Admit(r *http.Request, g Guard, need access.Scope) (c Caller, ok bool, err error) {
	secret := Bearer(r)
	if uid, known := sock.PeerUID(r.Context()); known && (uid == 0 || uid == os.Geteuid()) && secret == "" {
		return Caller{}, false, nil
	}
	if secret == "" || g == nil {
		return Caller{}, false, &Refusal{Status: http.StatusUnauthorized, Why: "a token is needed: Authorization: Bearer TOKEN"}
	}
	c, err = g.Check(r.Context(), secret, need)
	return c, err == nil, err
}

// Bearer returns the token or session that a request carries, RFC 6750 section 2.1.
func Bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// StatusOf is the HTTP status that tells of an error of [Admit]'s.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, ErrUnknown):
		return http.StatusUnauthorized
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrAway):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
