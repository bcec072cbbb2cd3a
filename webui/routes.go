//go:build linux

package webui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/strictjson"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// routes serves everything. What is named neither here nor in [endpoints] has no door,
// and what is named has one that is locked, but for the pages and what is open there.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, p := range allPages() {
		mux.Handle(p.ask, s.browse(p))
	}
	mux.HandleFunc("GET /static/", s.asset)
	for _, e := range endpoints {
		mux.Handle(e.method()+" "+e.path(), s.need(e.scope, e.by.handler(s)))
	}
	mux.Handle("GET /metrics", s.need(metricsScope, http.HandlerFunc(s.metrics)))
	// gokrazy's update protocol has a password of its own, which updated checks.
	gokrazy := s.whereGokrazy(s.updated)
	mux.Handle("/update/", gokrazy)
	mux.Handle("/reboot", gokrazy)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "there is nothing here") })
	return mux
}

// need lets in who has a token or a session with the scope. Who answers will look again:
// this is for a short way out, and for what is answered here.
func (s *server) need(scope access.Scope, h http.Handler) http.Handler {
	if scope == open {
		return h
	}
	ask := scope
	if scope == anyToken {
		ask = ""
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.access.Use(r.Context(), auth.Bearer(r), ask)
		if err == nil {
			err = s.admitsProgram(r, caller)
		}
		_, noCert := errors.AsType[*barred](err)
		switch {
		case noCert:
			s.stopProgram(w, r, err)
		case errors.Is(err, auth.ErrUnknown):
			s.count.unknown.Add(1)
			s.refused.warn("not let in", "from", r.RemoteAddr, "err", err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err.Error())
		case errors.Is(err, auth.ErrForbidden):
			s.count.scope.Add(1)
			s.refused.warn("not allowed", "from", r.RemoteAddr, "err", err)
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="%s"`, scope)) // RFC 6750 section 3.1
			fail(w, http.StatusForbidden, err.Error())
		case err != nil:
			s.log.Warn("ask who is there", "err", err)
			fail(w, http.StatusServiceUnavailable, noAuthd)
		default:
			s.count.letIn.Add(1)
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
		}
	})
}

type callerKey struct{}

// callerOf returns who has been let in by need; nobody: the endpoint is open.
func callerOf(r *http.Request) auth.Caller {
	caller, _ := r.Context().Value(callerKey{}).(auth.Caller)
	return caller
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
