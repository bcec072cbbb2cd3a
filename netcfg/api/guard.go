package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
)

// Headers in which webuid says where a request comes from that it passes on.
const (
	ClientHeader    = auth.ClientHeader    // address of the client
	ConnectedHeader = "Bulkhead-Connected" // when its connection was accepted: [Origin.Connected]
)

// open is the scope of routes for whoever gets through the socket.
const open access.Scope = ""

// router is a mux whose routes say whom they are for.
type router struct {
	*http.ServeMux
	guard auth.Guard
}

// handle adds a route for who holds the scope, and for root.
//
// webuid is not believed about who is behind it: it hands on what they have shown, and
// the guard judges that. What it could lie about is where they come from.
func (rt router) handle(pattern string, need access.Scope, h http.Handler) {
	rt.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if need == open {
			h.ServeHTTP(w, r)
			return
		}
		deed := audit.Entry{Who: "root", What: deeds[pattern], Of: r.PathValue("name") + r.PathValue("id")}
		who, ok, err := auth.Admit(r, rt.guard, need)
		switch {
		case errors.Is(err, auth.ErrUnknown):
			err = Tell(ErrStranger, err)
		case errors.Is(err, auth.ErrForbidden):
			err = Tell(ErrDenied, err)
		case errors.Is(err, auth.ErrAway):
			err = Tell(ErrUnreachable, err)
		}
		if err == nil && ok {
			var o Origin
			if o, err = originIn(r); err == nil {
				o.Identity = who.Identity()
				deed.Who, deed.From = o.Identity, o.Address
				r = r.WithContext(context.WithValue(r.Context(), behalfKey{}, behalf{who.Name, o}))
			}
		}
		if err != nil {
			answer(w, nil, err)
			return
		}
		if deed.What != "" {
			auth.Recorded(rt.guard, deed, h).ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

// deeds are what goes into the audit log, by route: all that changes something, and who
// looks how old secrets are. What a change was, the history says.
var deeds = map[string]string{
	"POST /v1/apply":                 "change tried",
	"POST /v1/undo":                  "change taken back, on trial",
	"POST /v1/confirm":               "change kept",
	"POST /v1/cancel":                "change on trial undone",
	"POST /v1/isolate":               "device isolated",
	"POST /v1/release":               "device released",
	"POST /v1/backup":                "backup made",
	"POST /v1/restore":               "backup restored",
	"GET /v1/secrets":                "ages of secrets seen",
	"PUT /v1/secrets/{name}":         "secret set",
	"POST /v1/secrets/{name}/rotate": "secret rotated",
	"DELETE /v1/secrets/{name}":      "secret removed",
	"POST /v1/recipients":            "recipient of secrets added",
	"DELETE /v1/recipients/{id}":     "recipient of secrets removed",
}

func originIn(r *http.Request) (o Origin, err error) {
	if v := r.Header.Get(ClientHeader); v != "" {
		if o.Address, err = netip.ParseAddr(v); err != nil {
			return Origin{}, Tell(ErrInvalid, fmt.Errorf("%s: %w", ClientHeader, err))
		}
	}
	if v := r.Header.Get(ConnectedHeader); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n <= 0 {
			return Origin{}, Tell(ErrInvalid, fmt.Errorf("%s is no time", ConnectedHeader))
		}
		o.Connected = time.Duration(n)
	}
	return o, nil
}

// behalf is on whose behalf a request is made.
type behalf struct {
	name   string
	origin Origin
}

type behalfKey struct{}

// behalfOf returns who a request is from, and false for root on the box itself, who is
// believed.
func behalfOf(ctx context.Context) (behalf, bool) {
	b, ok := ctx.Value(behalfKey{}).(behalf)
	return b, ok
}

// signed is a request that says whose it is.
type signed interface{ sign(behalf) }

// attribute makes a request the caller's own, whatever it says.
func attribute(ctx context.Context, in any) {
	if b, ok := behalfOf(ctx); ok {
		if s, ok := in.(signed); ok {
			s.sign(b)
		}
	}
}

func (p *Proposal) sign(b behalf)     { p.Origin = b.origin }
func (c *Confirm) sign(b behalf)      { c.Origin = b.origin }
func (c *Cancel) sign(b behalf)       { c.Author, c.Origin = b.name, b.origin }
func (v *NewSecret) sign(b behalf)    { v.Author = b.name }
func (r *NewRecipient) sign(b behalf) { r.Author = b.name }
func (n *NewBackup) sign(b behalf)    { n.Author = b.name }
func (r *Restore) sign(b behalf)      { r.Author, r.Origin = b.name, b.origin }
func (c *Change) sign(b behalf)       { c.Author, c.Via, c.Origin = b.name, viaOf(c.Via), b.origin }
func (i *Isolate) sign(b behalf)      { i.Author, i.Via, i.Origin = b.name, viaOf(i.Via), b.origin }
func (r *Release) sign(b behalf)      { r.Author, r.Via, r.Origin = b.name, viaOf(r.Via), b.origin }
func (u *Undo) sign(b behalf)         { u.Author, u.Via, u.Origin = b.name, viaOf(u.Via), b.origin }

// viaOf is which way somebody came in as far as they can be believed: not by the console.
func viaOf(said Via) Via {
	if said == ViaCLI || said == ViaUI {
		return said
	}
	return ViaAPI
}

// Behalf is for whom a client asks, beside root.
type Behalf struct {
	Secret    string // token or session
	Address   netip.Addr
	Connected time.Duration // see [Origin]
}

// Header adds what netcfgd is told of it.
func (b Behalf) Header(h http.Header) {
	h.Set("Authorization", "Bearer "+b.Secret)
	h.Set(ClientHeader, b.Address.String())
	h.Set(ConnectedHeader, strconv.FormatInt(int64(b.Connected), 10))
}

// For returns a client that asks on behalf of somebody.
func (c *Client) For(b Behalf) *Client {
	other := *c
	other.behalf = &b
	return &other
}
