package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"bulkhead/netcfg/strictjson"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// failure is the body of every answer that is not 200.
type failure struct {
	Error   string   `json:"error"`
	Refused *Refused `json:"refused,omitempty"`
	Pending *Pending `json:"pending,omitempty"` // the change that is in the way
}

// maxBody bounds a request: a file in base64, and the words around it.
const maxBody = MaxFile/3*4 + 1<<16

// NewServer returns a server of the API without a listener. Its time limits are for
// clients that hang; applying a large configuration takes a few seconds.
func NewServer(b Backend, g auth.Guard, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           Handler(b, g),
		ConnContext:       ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Handler serves the API of b, below /v1/: to root, and to those who are known to g.
func Handler(b Backend, g auth.Guard) http.Handler {
	mux := router{http.NewServeMux(), g}
	mux.handle("GET /v1/mode", open, get(func(ctx context.Context) (Mode, error) {
		s, err := b.Status(ctx)
		if err != nil {
			return "", err
		}
		return s.Mode, nil
	}))
	mux.handle("GET /v1/status", access.Read, get(b.Status))
	mux.handle("GET /v1/zones", access.Read, get(b.Zones))
	mux.handle("GET /v1/rules", access.Read, get(b.Rules))
	mux.handle("GET /v1/matrix", access.Read, get(b.Matrix))
	mux.handle("GET /v1/matrix/{from}/{to}", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := b.CellRules(r.Context(), r.PathValue("from"), r.PathValue("to"))
		answer(w, v, err)
	}))
	mux.handle("GET /v1/matrix/{from}/{to}/nft", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := b.Compiled(r.Context(), r.PathValue("from"), r.PathValue("to"))
		answer(w, v, err)
	}))
	mux.handle("GET /v1/devices", access.Read, get(b.Devices))
	mux.handle("GET /v1/leases", access.Read, get(b.Leases))
	mux.handle("GET /v1/leases/history", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := b.LeaseHistory(r.Context(), r.URL.Query().Get("device"))
		answer(w, v, err)
	}))
	mux.handle("GET /v1/drift", access.Read, get(b.Drift))
	mux.handle("GET /v1/why", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		v, err := b.Why(r.Context(), q.Get("from"), q.Get("to"), q.Get("protocol"))
		answer(w, v, err)
	}))
	mux.handle("GET /v1/contacts", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := b.Contacts(r.Context(), r.URL.Query().Get("of"))
		answer(w, v, err)
	}))
	mux.handle("POST /v1/plan", access.Plan, post(b.Plan))
	mux.handle("POST /v1/apply", access.Apply, post(func(ctx context.Context, c Change) (*Trial, error) {
		if err := c.Terms.allowed(ctx); err != nil {
			return nil, err
		}
		return b.Apply(ctx, c)
	}))
	mux.handle("POST /v1/undo", access.Apply, post(func(ctx context.Context, u Undo) (*Trial, error) {
		if err := u.Terms.allowed(ctx); err != nil {
			return nil, err
		}
		return b.Undo(ctx, u)
	}))
	mux.handle("GET /v1/pending", access.Read, get(b.Pending))
	mux.handle("POST /v1/confirm", access.Apply, post(func(ctx context.Context, c Confirm) (*Confirmed, error) {
		if c.Origin.Connected == 0 {
			c.Origin.Connected = Accepted(ctx)
		}
		return b.Confirm(ctx, c)
	}))
	mux.handle("POST /v1/cancel", access.Apply, post(b.Cancel))
	mux.handle("GET /v1/history", access.Read, get(b.History))
	mux.handle("GET /v1/history/{number}", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := number(r, "number")
		if err != nil {
			answer(w, nil, err)
			return
		}
		v, err := b.Entry(r.Context(), n)
		answer(w, v, err)
	}))
	mux.handle("GET /v1/history/{from}/diff/{to}", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err1 := number(r, "from")
		to, err2 := number(r, "to")
		if err := errors.Join(err1, err2); err != nil {
			answer(w, nil, err)
			return
		}
		v, err := b.Diff(r.Context(), from, to)
		answer(w, v, err)
	}))
	handleVault(mux, b)
	handleQuarantine(mux, b)
	handleKeeper(mux, b)
	return mux
}

var errLockout = &Refused{Lockout: "only root on the box itself may accept that"}

// allowed reports whether who asks may set such terms.
func (t *Terms) allowed(ctx context.Context) error {
	if _, ok := behalfOf(ctx); t.AcceptLockout && ok {
		return errLockout
	}
	return nil
}

// number reads the number of a change from a part of the path.
func number(r *http.Request, part string) (int, error) {
	n, err := strconv.Atoi(r.PathValue(part))
	if err != nil {
		return 0, Unknown(fmt.Errorf("%q is not the number of a change", r.PathValue(part)))
	}
	return n, nil
}

func get[T any](f func(context.Context) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context())
		answer(w, v, err)
	})
}

func post[In, Out any](f func(context.Context, In) (Out, error)) http.Handler {
	return postUpTo(maxBody, f)
}

// postUpTo serves a request of at most limit bytes.
func postUpTo[In, Out any](limit int64, f func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := strictjson.Decode[In](http.MaxBytesReader(w, r.Body, limit))
		if err != nil {
			if e, ok := errors.AsType[*told](err); ok { // a value that says what it should be
				answer(w, nil, e)
				return
			}
			status := http.StatusBadRequest
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status = http.StatusRequestEntityTooLarge
			}
			reply(w, status, failure{Error: "the request: " + err.Error()})
			return
		}
		attribute(r.Context(), &in)
		out, err := f(r.Context(), in)
		answer(w, out, err)
	})
}

func answer(w http.ResponseWriter, v any, err error) {
	if err == nil {
		reply(w, http.StatusOK, v)
		return
	}
	status, f := http.StatusInternalServerError, failure{Error: err.Error()}
	refused, ok := errors.AsType[*Refused](err)
	busy, pending := errors.AsType[*Busy](err)
	switch {
	case ok:
		status, f = http.StatusUnprocessableEntity, failure{Refused: refused}
	case pending:
		status, f.Pending = http.StatusConflict, &busy.Pending
	case errors.Is(err, ErrUnknown):
		status = http.StatusNotFound
	case errors.Is(err, ErrNothing):
		status = http.StatusConflict
	case errors.Is(err, ErrInvalid):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, ErrStranger):
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.Is(err, ErrDenied):
		status = http.StatusForbidden
	case errors.Is(err, ErrTooEarly):
		status = http.StatusTooEarly
	case errors.Is(err, ErrUnreachable): // of one who asks for somebody else
		status = http.StatusServiceUnavailable
	}
	reply(w, status, f)
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf(`{"error":%q}`, err.Error()), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that left needs no answer
}
