//go:build linux

package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/strictjson"
	"bulkhead/services/auth/access"
	"bulkhead/services/auth/account"
	"bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	"bulkhead/services/sock"
)

// maxBody bounds a request, in bytes.
const maxBody = 64 << 10

// request is one that was let in.
type request struct {
	*http.Request
	caller api.Caller // zero where nobody needs to be known
	secret string
	from   netip.Addr
}

func (r *request) agent() string { return r.UserAgent() }

// Whom an endpoint is for, where it is no scope.
const (
	anybody access.Scope = ""      // webuid asks for who has nothing yet
	known   access.Scope = "known" // who is logged in, or has a token
	session access.Scope = "user"  // who is logged in, about themselves
	root    access.Scope = "root"  // on the box itself
)

// handler serves the API.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/check", post(s, anybody, s.check))
	mux.Handle("POST /v1/holders", post(s, anybody, s.holders))

	mux.Handle("GET /v1/owner", get(s, anybody, s.owner))
	mux.Handle("GET /v1/claim", get(s, root, s.ownership))
	mux.Handle("POST /v1/claim/code", post(s, root, s.renewCode))
	mux.Handle("POST /v1/claim", post(s, anybody, s.takeClaim))

	mux.Handle("POST /v1/login", post(s, anybody, s.login))
	mux.Handle("POST /v1/login/passkey/begin", post(s, anybody, s.beginLogin))
	mux.Handle("POST /v1/login/passkey", post(s, anybody, s.finishLogin))
	mux.Handle("POST /v1/login/invitation", post(s, anybody, s.redeem))
	mux.Handle("POST /v1/logout", post(s, session, s.logout))

	mux.Handle("GET /v1/me", get(s, session, s.me))
	mux.Handle("POST /v1/me/code", post(s, session, s.newCode))
	mux.Handle("PUT /v1/me/password", post(s, session, s.setPassword))
	mux.Handle("DELETE /v1/me/password", get(s, session, s.removePassword))
	mux.Handle("POST /v1/me/passkeys/begin", post(s, session, s.beginPasskey))
	mux.Handle("POST /v1/me/passkeys", post(s, session, s.addPasskey))
	mux.Handle("DELETE /v1/me/passkeys/{id}", get(s, session, s.removePasskey))
	mux.Handle("GET /v1/me/sessions", get(s, session, s.mySessions))
	mux.Handle("DELETE /v1/me/sessions/{id}", get(s, session, s.endMySession))

	mux.Handle("GET /v1/users", get(s, access.Admin, s.listUsers))
	mux.Handle("POST /v1/users", post(s, access.Admin, s.addUser))
	mux.Handle("PUT /v1/users/{name}/role", post(s, access.Admin, s.setRole))
	mux.Handle("POST /v1/users/{name}/invitation", post(s, access.Admin, s.invite))
	mux.Handle("DELETE /v1/users/{name}", get(s, access.Admin, s.removeUser))
	mux.Handle("GET /v1/sessions", get(s, access.Admin, s.listSessions))
	mux.Handle("DELETE /v1/sessions/{id}", get(s, access.Admin, s.endSession))
	mux.Handle("GET /v1/tokens", get(s, access.Admin, s.listTokens))
	mux.Handle("POST /v1/tokens", post(s, access.Admin, s.addToken))
	mux.Handle("DELETE /v1/tokens/{id}", get(s, access.Admin, s.revokeToken))
	mux.Handle("GET /v1/audit", get(s, access.Admin, s.showAudit))
	mux.Handle("POST /v1/audit", post(s, root, s.addAudit))
	mux.Handle("POST /v1/audit/certificate", post(s, known, s.noteCertificate))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, nil, refuse(http.StatusNotFound, errors.New("there is nothing here")))
	})
	return mux
}

// allow reports whether a caller may use what needs a scope.
func allow(c api.Caller, need access.Scope) error {
	if need == "" || access.Allow(c.Scopes, need) {
		return nil
	}
	if c.Kind == api.BySession {
		return refuse(http.StatusForbidden, fmt.Errorf("%s is %s here: that takes a user who may %s", c.Name, c.Role, need))
	}
	return refuse(http.StatusForbidden, fmt.Errorf("the token %q is not for that: it lacks the scope %s", c.Name, need))
}

// admit finds out who asks, and whether they may.
func (s *server) admit(r *http.Request, need access.Scope) (*request, error) {
	in := &request{Request: r}
	uid, _ := sock.PeerUID(r.Context())
	if from := r.Header.Get(api.ClientHeader); from != "" {
		a, err := netip.ParseAddr(from)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, fmt.Errorf("%s: %w", api.ClientHeader, err))
		}
		in.from = a.Unmap()
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		in.secret = strings.TrimSpace(secret)
	}
	switch need {
	case anybody:
		return in, nil
	case root:
		if uid != 0 {
			return nil, refuse(http.StatusForbidden, errors.New("only root on the box itself may"))
		}
		return in, nil
	}
	if in.secret == "" {
		return nil, refuse(http.StatusUnauthorized, errNothing)
	}
	var err error
	if in.caller, err = s.who(in.secret, false); err != nil {
		return nil, err
	}
	switch need {
	case known:
		return in, nil
	case session:
		if in.caller.Kind != api.BySession {
			return nil, refuse(http.StatusForbidden, errors.New("a token has no account: log in"))
		}
		return in, nil
	}
	return in, allow(in.caller, need)
}

// note writes down what the caller did.
func (s *server) note(r *request, what, of, more string) {
	e := audit.Entry{Time: s.now(), From: r.from, What: what, Of: of, More: more}
	if r.caller.Name != "" {
		e.Who = r.caller.Identity()
	}
	_ = s.audit.Add(e) // it is done
}

func get[Out any](s *server, need access.Scope, f func(*request) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := s.admit(r, need)
		if err != nil {
			reply(w, nil, err)
			return
		}
		out, err := f(in)
		reply(w, out, err)
	})
}

func post[In, Out any](s *server, need access.Scope, f func(*request, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := s.admit(r, need)
		if err != nil {
			reply(w, nil, err)
			return
		}
		v, err := strictjson.Decode[In](http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			status := http.StatusBadRequest
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status = http.StatusRequestEntityTooLarge
			} else if bad, ok := errors.AsType[*time.ParseError](err); ok {
				status, err = http.StatusUnprocessableEntity, fmt.Errorf("%q is no time: write it such as 2027-03-31T18:00:00Z", bad.Value)
			}
			reply(w, nil, refuse(status, fmt.Errorf("the request: %w", err)))
			return
		}
		out, err := f(in, v)
		reply(w, out, err)
	})
}

func refuse(status int, err error) error { return &api.Refusal{Status: status, Why: err.Error()} }

// statusOf is the HTTP status of an error, 500 for those that are ours.
func statusOf(err error) int {
	if r, ok := errors.AsType[*api.Refusal](err); ok {
		return r.Status
	}
	for _, k := range []struct {
		err    error
		status int
	}{
		{account.ErrDenied, http.StatusForbidden}, {account.ErrInvalid, http.StatusUnprocessableEntity}, {account.ErrUnknown, http.StatusNotFound},
		{account.ErrTaken, http.StatusConflict}, {account.ErrFull, http.StatusConflict}, {account.ErrLast, http.StatusConflict},
		{account.ErrNoSession, http.StatusNotFound},
		{access.ErrGrant, http.StatusUnprocessableEntity}, {access.ErrTaken, http.StatusConflict}, {access.ErrTooMany, http.StatusConflict},
		{access.ErrUnknownToken, http.StatusNotFound}, {access.ErrNoCode, http.StatusForbidden}, {access.ErrWrongProof, http.StatusForbidden},
	} {
		if errors.Is(err, k.err) {
			return k.status
		}
	}
	return http.StatusInternalServerError
}

// waitOf is how long a caller has to wait.
func waitOf(err error) time.Duration {
	if w, ok := errors.AsType[*account.WaitError](err); ok {
		return w.For
	}
	if w, ok := errors.AsType[*access.WaitError](err); ok {
		return w.For
	}
	return 0
}

func reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		if status = statusOf(err); waitOf(err) > 0 {
			status = http.StatusTooManyRequests
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(waitOf(err).Seconds()))))
		}
		v = map[string]string{"error": err.Error()}
	}
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, `{"error":"the answer cannot be written"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a caller that left needs no answer
}
