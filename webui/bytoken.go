//go:build linux

package webui

import (
	"context"
	"net/http"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
)

// byToken is netcfgd for those who come with a token: changes are theirs, and come from
// where they do, whatever they say.
type byToken struct{ api.Backend }

// Plan implements [api.Backend].
func (b byToken) Plan(ctx context.Context, p api.Proposal) (*api.Plan, error) {
	p.Origin = originOf(ctx)
	return b.Backend.Plan(ctx, p)
}

// Apply implements [api.Backend].
func (b byToken) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	c.Author, c.Via, c.Origin = tokenOf(ctx).Name, via(c.Via), originOf(ctx)
	return b.Backend.Apply(ctx, c)
}

// Undo implements [api.Backend].
func (b byToken) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	u.Author, u.Via, u.Origin = tokenOf(ctx).Name, via(u.Via), originOf(ctx)
	return b.Backend.Undo(ctx, u)
}

// Confirm implements [api.Backend].
func (b byToken) Confirm(ctx context.Context, c api.Confirm) (*api.Confirmed, error) {
	c.Origin = originOf(ctx)
	return b.Backend.Confirm(ctx, c)
}

// Cancel implements [api.Backend].
func (b byToken) Cancel(ctx context.Context, c api.Cancel) (*api.Outcome, error) {
	c.Author, c.Origin = tokenOf(ctx).Name, originOf(ctx)
	return b.Backend.Cancel(ctx, c)
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

// Isolate implements [api.Quarantine].
func (b byToken) Isolate(ctx context.Context, in api.Isolate) (*api.Isolation, error) {
	in.Author, in.Via, in.Origin = tokenOf(ctx).Name, via(in.Via), originOf(ctx)
	return b.Backend.Isolate(ctx, in)
}

// Release implements [api.Quarantine].
func (b byToken) Release(ctx context.Context, in api.Release) (*api.Isolation, error) {
	in.Author, in.Via, in.Origin = tokenOf(ctx).Name, via(in.Via), originOf(ctx)
	return b.Backend.Release(ctx, in)
}

// via is which way somebody came in as far as they can be believed: not by the console.
func via(said api.Via) api.Via {
	if said == api.ViaCLI || said == api.ViaUI {
		return said
	}
	return api.ViaAPI
}

type originKey struct{}

// originOf returns where a request that was let in comes from.
func originOf(ctx context.Context) api.Origin {
	o, _ := ctx.Value(originKey{}).(api.Origin)
	return o
}

// origin is the address at the other end of the connection, and who has the token.
// Nothing stands between: what a client says of a proxy does not count.
func origin(r *http.Request, t access.Token) api.Origin {
	return api.Origin{Identity: t.Name, Address: addrOf(r.RemoteAddr), Connected: api.Accepted(r.Context())}
}
