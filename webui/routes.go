//go:build linux

package webui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/strictjson"
	"bulkhead/webui/access"
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
			s.refused.warn("not let in", "from", r.RemoteAddr, "err", err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err.Error())
			return
		}
		if scope != anyToken && !access.Allow(t.Scopes, scope) {
			s.refused.warn("not allowed", "from", r.RemoteAddr, "token", t.Name, "scope", scope)
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="%s"`, scope)) // RFC 6750 section 3.1
			fail(w, http.StatusForbidden, fmt.Sprintf("the token %q is not for that: it lacks the scope %s", t.Name, scope))
			return
		}
		ctx := context.WithValue(r.Context(), tokenKey{}, t)
		h.ServeHTTP(w, r.WithContext(context.WithValue(ctx, originKey{}, origin(r))))
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

type originKey struct{}

// originOf returns where a request that was let in comes from.
func originOf(ctx context.Context) api.Origin {
	o, _ := ctx.Value(originKey{}).(api.Origin)
	return o
}

// origin is the address at the other end of the connection. Nothing stands between:
// what a client says of a proxy does not count.
func origin(r *http.Request) api.Origin {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // the server has written it
	return api.Origin{Address: at.Addr().Unmap()}
}

// byToken is netcfgd for those who come with a token: changes are theirs and come from
// where they are, whatever they say.
type byToken struct{ api.Backend }

// Plan implements [api.Backend].
func (b byToken) Plan(ctx context.Context, p api.Proposal) (*api.Plan, error) {
	p.Origin = originOf(ctx)
	return b.Backend.Plan(ctx, p)
}

// Apply implements [api.Backend].
func (b byToken) Apply(ctx context.Context, c api.Change) (*api.Plan, error) {
	c.Author, c.Origin = tokenOf(ctx).Name, originOf(ctx)
	return b.Backend.Apply(ctx, c)
}

// SetSecret implements [api.Vault].
func (b byToken) SetSecret(ctx context.Context, name string, v api.NewSecret) (*api.Done, error) {
	v.Author = tokenOf(ctx).Name
	return b.Backend.SetSecret(ctx, name, v)
}

// RotateSecret implements [api.Vault].
func (b byToken) RotateSecret(ctx context.Context, name string, v api.NewSecret) (*api.Done, error) {
	v.Author = tokenOf(ctx).Name
	return b.Backend.RotateSecret(ctx, name, v)
}

// AddRecipient implements [api.Vault].
func (b byToken) AddRecipient(ctx context.Context, r api.NewRecipient) (*api.Recipient, error) {
	r.Author = tokenOf(ctx).Name
	return b.Backend.AddRecipient(ctx, r)
}

// Undo implements [api.Backend].
func (b byToken) Undo(ctx context.Context, u api.Undo) (*api.Plan, error) {
	u.Author, u.Origin = tokenOf(ctx).Name, originOf(ctx)
	return b.Backend.Undo(ctx, u)
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
