//go:build linux

package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"bulkhead/netcfg/strictjson"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	"bulkhead/services/sock"
	"bulkhead/services/update/api"
	"bulkhead/services/update/gate"
)

// maxBody bounds a request that is not a part of an image, in bytes.
const maxBody = 128 << 10

// idle is how long a sender may pause.
const idle = 30 * time.Second

// handler serves the API, and gokrazy's update protocol below /gokrazy.
func (u *updater) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, need access.Scope, h http.Handler) {
		mux.Handle(pattern, u.need(need, deeds[pattern], h))
	}
	handle("GET /v1/update", access.Update, get(u.status))
	handle("GET /v1/checks", access.Read, get(u.checks))
	// Whoever looks into what goes wrong reads them.
	handle("GET /v1/logs/{name}", access.Operate, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log, err := u.daemonLog(r.Context(), r.PathValue("name"))
		answer(w, log, err)
	}))
	handle("GET /v1/lookup", access.Operate, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		out, err := u.look.Lookup(r.Context(), q.Get("zone"), q.Get("name"), q.Get("type"))
		switch {
		case errors.Is(err, gate.ErrQuestion):
			err = refuse(http.StatusUnprocessableEntity, "%s", err)
		case err != nil:
			err = refuse(http.StatusServiceUnavailable, "%s", err)
		}
		answer(w, out, err)
	}))
	handle("POST /v1/ping", access.Operate, u.diagnose(ping))
	handle("POST /v1/traceroute", access.Operate, u.diagnose(traceroute))
	// What others say to each other is not for whoever looks after devices.
	handle("POST /v1/capture", access.Admin, u.diagnose(capture))
	handle("POST /v1/update", access.Update, post(func(r *http.Request, in api.Begin) error { return u.begin(in, author(r)) }))
	handle("DELETE /v1/update", access.Update, post(func(*http.Request, api.None) error { return u.forget() }))
	handle("PUT /v1/update/kernel", access.Update, u.upload(kernelPart))
	handle("PUT /v1/update/root", access.Update, u.upload(rootPart))
	handle("POST /v1/update/commit", access.Update, post(func(r *http.Request, _ api.None) error { return u.thenRestart(u.commit(r.Context())) }))
	handle("POST /v1/restart", access.Admin, post(func(*http.Request, api.None) error { return u.leaveWhole(leave{"restart", u.box.reboot}) }))
	handle("POST /v1/power-off", access.Admin, post(func(*http.Request, api.None) error { return u.leaveWhole(leave{"switch off", u.box.off}) }))
	handle("GET /v1/keys", access.Admin, get(u.keys))
	handle("POST /v1/keys", access.Admin, post(func(_ *http.Request, in api.AddKey) error { return u.addKey(in) }))
	handle("DELETE /v1/keys/{id}", access.Admin, post(func(r *http.Request, in api.RemoveKey) error { return u.removeKey(r.PathValue("id"), in) }))

	// webuid passes on what is below update and keys.
	password := post(func(_ *http.Request, in api.Password) error { return u.setPassword(in) })
	handle("POST /v1/gokrazy-password", access.Update, password)
	handle("POST /v1/update/gokrazy-password", access.Update, password)

	// These undo what is promised to those who hold a key, so they take somebody who
	// stands before the box.
	mux.Handle("POST /v1/keys/reset", rootOnly(post(func(*http.Request, api.None) error { return u.resetKeys() })))
	mux.Handle("POST /v1/boot-other", rootOnly(post(func(r *http.Request, _ api.None) error {
		return u.thenRestart(u.bootOther(r.Context(), "console"))
	})))
	mux.Handle("POST /v1/reset", rootOnly(post(func(*http.Request, api.None) error { return u.thenRestart(u.box.reset()) })))

	u.gokrazyRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, nil, refuse(http.StatusNotFound, "there is nothing here"))
	})
	return mux
}

type askerKey struct{}

// asker is who asks, in the words of the audit log.
type asker struct {
	audit.Entry
	name string // "" for root on the box
}

func askerOf(r *http.Request) asker {
	a, _ := r.Context().Value(askerKey{}).(asker)
	return a
}

// author is who asks; "" for root on the box.
func author(r *http.Request) string { return askerOf(r).name }

// deeds are what goes into the audit log, by route. Pieces of an image do not: what counts
// is that one is to be started.
var deeds = map[string]string{
	"GET /v1/lookup":                   "DNS lookup",
	"POST /v1/update":                  "update begun",
	"DELETE /v1/update":                "update given up",
	"POST /v1/update/commit":           "update written, restart",
	"POST /v1/restart":                 "restart",
	"POST /v1/power-off":               "power off",
	"POST /v1/keys":                    "signing key added",
	"DELETE /v1/keys/{id}":             "signing key removed",
	"POST /v1/gokrazy-password":        "password of the gokrazy protocol set",
	"POST /v1/update/gokrazy-password": "password of the gokrazy protocol set",
}

// need lets in who has a token or a session with the scope, and root. What they do is
// written down, unless it is "".
func (u *updater) need(scope access.Scope, deed string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := asker{Entry: audit.Entry{Who: "root", What: deed, Of: r.PathValue("id") + r.URL.Query().Get("name")}}
		who, ok, err := auth.Admit(r, u.guard, scope)
		switch {
		case err != nil:
			answer(w, nil, refuse(auth.StatusOf(err), "%s", err))
			return
		case ok:
			a.name, a.Who = who.Name, who.Identity()
			a.From, _ = netip.ParseAddr(r.Header.Get(auth.ClientHeader)) // zero if it is none
		}
		r = r.WithContext(context.WithValue(r.Context(), askerKey{}, a))
		if deed != "" {
			auth.Recorded(u.guard, a.Entry, h).ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (u *updater) thenRestart(err error) error {
	if err == nil {
		u.restartSoon()
	}
	return err
}

// rootOnly lets only root through, or who runs this process: not webuid, to which the
// network talks.
func rootOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := sock.PeerUID(r.Context())
		if !ok || uid != 0 && uid != os.Geteuid() {
			answer(w, nil, refuse(http.StatusForbidden, "only the box's console may do that"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

func get[T any](f func() (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		v, err := f()
		answer(w, v, err)
	})
}

// post takes a value in the body, or nothing where the zero value will do.
func post[In any](f func(*http.Request, In) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := read[In](w, r)
		if err == nil {
			err = f(r, in)
		}
		answer(w, api.None{}, err)
	})
}

// read reads a value that is the body, or nothing.
func read[In any](w http.ResponseWriter, r *http.Request) (in In, err error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(idle))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err == nil {
		in, err = strictjson.Decode[In](strings.NewReader(string(data)))
	}
	if err != nil {
		return in, refuse(http.StatusBadRequest, "the request: %s", err)
	}
	return in, nil
}

// upload receives a part of an image.
func (u *updater) upload(part string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, api.None{}, u.put(part, unhurried(w, r), r.ContentLength))
	})
}

// unhurried returns a request's body, which may take as long as it takes, but not pause.
func unhurried(w http.ResponseWriter, r *http.Request) io.Reader {
	return &slowBody{r.Body, http.NewResponseController(w)}
}

type slowBody struct {
	io.Reader
	conn *http.ResponseController
}

func (b *slowBody) Read(p []byte) (int, error) {
	_ = b.conn.SetReadDeadline(time.Now().Add(idle)) // a recorder in a test has none
	return b.Reader.Read(p)
}

func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if r, ok := errors.AsType[*refusal](err); ok {
			status = r.status
		}
		v = struct {
			Error string `json:"error"`
		}{err.Error()}
	}
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf(`{"error":%q}`, err.Error()), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that left needs no answer
}
