package api

import (
	"context"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/auth/access"
)

// Quarantine keeps machines from everybody, whatever the configuration says: an isolated
// machine reaches nothing but the box's DHCP server and a page that says so, and nobody
// reaches it. That is in the history like any change, and needs no confirmation, as it can
// be taken back at once.
type Quarantine interface {
	Isolated(context.Context) ([]Isolation, error) // the latest last
	Isolate(context.Context, Isolate) (*Isolation, error)
	Release(context.Context, Release) (*Isolation, error)
}

// Isolate asks for a machine to be isolated, or for an isolation to end at another time.
type Isolate struct {
	Machine string    `json:"machine"`        // name of a device, MAC, or address in a zone
	Until   time.Time `json:"until,omitzero"` // zero: until it is released
	Author  string    `json:"author,omitempty"`
	Via     Via       `json:"via,omitempty"`
	Why     string    `json:"why,omitempty"`
	Origin  Origin    `json:"origin,omitzero"`
	// AcceptLockout isolates the machine although its author, or everybody, cannot
	// reach the box afterwards. Only root on the box itself may.
	AcceptLockout bool `json:"acceptLockout,omitempty"`
}

// Release asks for a machine to be isolated no longer.
type Release struct {
	Machine string `json:"machine"` // as in [Isolate]
	Author  string `json:"author,omitempty"`
	Via     Via    `json:"via,omitempty"`
	Why     string `json:"why,omitempty"`
	Origin  Origin `json:"origin,omitzero"`
}

// Isolation is a machine that is isolated. It is its MAC, with whatever address, if the
// box knows that; otherwise its address.
type Isolation struct {
	Machine   string       `json:"machine"`          // as it was asked for
	Device    string       `json:"device,omitempty"` // of the inventory
	MAC       model.MAC    `json:"mac,omitzero"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // at which nobody reaches it
	Since     time.Time    `json:"since"`
	Until     time.Time    `json:"until,omitzero"`
	Author    string       `json:"author,omitempty"`
	Via       Via          `json:"via,omitempty"`
	Why       string       `json:"why,omitempty"`
}

func handleQuarantine(mux router, q Quarantine) {
	mux.handle("GET /v1/isolated", access.Read, get(q.Isolated))
	mux.handle("POST /v1/isolate", access.Operate, post(func(ctx context.Context, in Isolate) (*Isolation, error) {
		if _, ok := behalfOf(ctx); in.AcceptLockout && ok {
			return nil, errLockout
		}
		return q.Isolate(ctx, in)
	}))
	mux.handle("POST /v1/release", access.Operate, post(q.Release))
}

// Isolated implements [Quarantine].
func (c *Client) Isolated(ctx context.Context) ([]Isolation, error) {
	return call[[]Isolation](ctx, c, "GET", "/v1/isolated", nil)
}

// Isolate implements [Quarantine].
func (c *Client) Isolate(ctx context.Context, in Isolate) (*Isolation, error) {
	return call[*Isolation](ctx, c, "POST", "/v1/isolate", in)
}

// Release implements [Quarantine].
func (c *Client) Release(ctx context.Context, in Release) (*Isolation, error) {
	return call[*Isolation](ctx, c, "POST", "/v1/release", in)
}
