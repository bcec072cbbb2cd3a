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
	"bulkhead/webui/access"
)

// routes serves everything. What is not named here has no door, and what is named has
// one that is locked, but for the first four.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.Handle("GET /static/", http.FileServerFS(static))
	mux.HandleFunc("GET /api/v1/health", func(w http.ResponseWriter, _ *http.Request) { answer(w, health{true}) })
	mux.HandleFunc("POST /api/v1/claim", s.takeClaim)

	netcfgd := http.StripPrefix("/api", api.Handler(s.netcfgd))
	for _, name := range []string{"status", "zones", "rules", "devices", "leases", "why", "history", "history/{number}"} {
		mux.Handle("GET /api/v1/"+name, s.need(access.Read, netcfgd))
	}
	mux.Handle("POST /api/v1/plan", s.need(access.Plan, netcfgd))
	mux.Handle("POST /api/v1/apply", s.need(access.Apply, netcfgd))
	mux.Handle("POST /api/v1/undo", s.need(access.Apply, netcfgd))

	updated := http.StripPrefix("/api", s.updated)
	for path, scope := range map[string]access.Scope{"update": access.Update, "keys": access.Admin} {
		mux.Handle("/api/v1/"+path, s.need(scope, updated))
		mux.Handle("/api/v1/"+path+"/", s.need(scope, updated))
	}

	mux.Handle("GET /api/v1/tokens", s.need(access.Admin, http.HandlerFunc(s.listTokens)))
	mux.Handle("POST /api/v1/tokens", s.need(access.Admin, http.HandlerFunc(s.addToken)))
	mux.Handle("DELETE /api/v1/tokens/{id}", s.need(access.Admin, http.HandlerFunc(s.revokeToken)))

	// gokrazy's update protocol has a password of its own, which updated checks.
	gokrazy := s.whereGokrazy(s.updated)
	mux.Handle("/update/", gokrazy)
	mux.Handle("/reboot", gokrazy)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "there is nothing here") })
	return mux
}

type health struct {
	OK bool `json:"ok"`
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret := bearer(r)
		t, err := s.tokens.Check(secret)
		if secret == "" {
			err = errNoToken
		}
		if err != nil {
			s.refused.warn("not let in", "from", r.RemoteAddr, "err", err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err.Error())
			return
		}
		if !access.Allow(t.Scopes, scope) {
			s.refused.warn("not allowed", "from", r.RemoteAddr, "token", t.Name, "scope", scope)
			fail(w, http.StatusForbidden, fmt.Sprintf("the token %q is not for that: it lacks the scope %s", t.Name, scope))
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, t)))
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

// byToken is netcfgd for those who come with a token: changes are theirs, whatever
// they say.
type byToken struct{ api.Backend }

// Apply implements [api.Backend].
func (b byToken) Apply(ctx context.Context, c api.Change) (*api.Plan, error) {
	c.Author = tokenOf(ctx).Name
	return b.Backend.Apply(ctx, c)
}

// Undo implements [api.Backend].
func (b byToken) Undo(ctx context.Context, u api.Undo) (*api.Plan, error) {
	u.Author = tokenOf(ctx).Name
	return b.Backend.Undo(ctx, u)
}

func (s *server) listTokens(w http.ResponseWriter, _ *http.Request) { answer(w, s.tokens.List()) }

// newToken asks for a token.
type newToken struct {
	Name    string         `json:"name"`
	Scopes  []access.Scope `json:"scopes"`
	Expires time.Time      `json:"expires,omitzero"`
}

// madeToken is the answer, the only one that ever holds the token itself.
type madeToken struct {
	Secret string `json:"secret"`
	access.Token
}

func (s *server) addToken(w http.ResponseWriter, r *http.Request) {
	in, ok := read[newToken](w, r)
	if !ok {
		return
	}
	secret, token, err := s.tokens.Add(in.Name, in.Scopes, in.Expires)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.log.Info("token made", "name", token.Name, "id", token.ID, "scopes", token.Scopes, "by", tokenOf(r.Context()).Name)
	answer(w, madeToken{secret, token})
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
		answer(w, struct{}{})
	}
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

// failure is the body of an answer that is none, as netcfgd's.
type failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, why string) { reply(w, status, failure{why}) }

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
