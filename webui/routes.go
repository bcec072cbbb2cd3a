//go:build linux

package webui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/strictjson"
	"bulkhead/services/auth/access"
)

// routes serves everything. What is named neither here nor in [endpoints] has no door,
// and what is named has one that is locked, but for the pages and what is open there.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.Handle("GET /static/", http.FileServerFS(static))
	for _, e := range endpoints {
		mux.Handle(e.method()+" "+e.path(), s.need(e.scope, e.by.handler(s)))
	}
	mux.Handle("GET /metrics", s.need(access.Read, http.HandlerFunc(s.metrics)))
	// gokrazy's update protocol has a password of its own, which updated checks.
	gokrazy := s.whereGokrazy(s.updated)
	mux.Handle("/update/", gokrazy)
	mux.Handle("/reboot", gokrazy)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "there is nothing here") })
	return mux
}

var errNoToken = errors.New("a token is needed: Authorization: Bearer TOKEN")

type tokenKey struct{}

// tokenOf returns the token that a request was let in with.
func tokenOf(ctx context.Context) access.Token {
	t, _ := ctx.Value(tokenKey{}).(access.Token)
	return t
}

// need lets in who has a token with the scope.
func (s *server) need(scope access.Scope, h http.Handler) http.Handler {
	if scope == open {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret := bearer(r)
		t, err := s.tokens.Check(secret)
		if secret == "" {
			err = errNoToken
		}
		if err != nil {
			s.count.unknown.Add(1)
			s.refused.warn("not let in", "from", r.RemoteAddr, "err", err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err.Error())
			return
		}
		if scope != anyToken && !access.Allow(t.Scopes, scope) {
			s.count.scope.Add(1)
			s.refused.warn("not allowed", "from", r.RemoteAddr, "token", t.Name, "scope", scope)
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="%s"`, scope)) // RFC 6750 section 3.1
			fail(w, http.StatusForbidden, fmt.Sprintf("the token %q is not for that: it lacks the scope %s", t.Name, scope))
			return
		}
		s.count.letIn.Add(1)
		ctx := context.WithValue(r.Context(), tokenKey{}, t)
		h.ServeHTTP(w, r.WithContext(context.WithValue(ctx, originKey{}, origin(r, t))))
	})
}

// bearer returns the token that a request carries, RFC 6750 section 2.1.
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// maxBody bounds the requests that are read here, in bytes.
const maxBody = 64 << 10

// read reads a request, or answers that it makes no sense.
func read[T any](w http.ResponseWriter, r *http.Request) (T, bool) {
	v, err := strictjson.Decode[T](http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		} else if bad, ok := errors.AsType[*time.ParseError](err); ok {
			status, err = http.StatusUnprocessableEntity, fmt.Errorf("%q is no time: write it such as 2027-03-31T18:00:00Z", bad.Value)
		}
		fail(w, status, "the request: "+err.Error())
	}
	return v, err == nil
}

// failure is the body of an answer that is none, ours or netcfgd's.
type failure struct {
	Error   string       `json:"error"`             // why, in words; "" with refused
	Refused *api.Refused `json:"refused,omitempty"` // what is wrong with a configuration
	Pending *api.Pending `json:"pending,omitempty"` // the change that is in the way
}

func fail(w http.ResponseWriter, status int, why string) { reply(w, status, failure{Error: why}) }

func answer(w http.ResponseWriter, v any) { reply(w, http.StatusOK, v) }

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that left needs no answer
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }
