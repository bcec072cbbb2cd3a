//go:build linux

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
)

// isolatedFile keeps who is isolated over reboots.
const isolatedFile = "isolated.json"

// maxIsolated is how many machines may be isolated at once.
const maxIsolated = 256

// isolation is a machine that is kept from everybody. It is its MAC, if that is known:
// what addresses it has then is looked up in each round.
type isolation struct {
	Machine   string       `json:"machine"` // as it was asked for
	MAC       model.MAC    `json:"mac,omitzero"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // that it is known to have without a lease
	Since     time.Time    `json:"since"`
	Until     time.Time    `json:"until,omitzero"`
	Author    string       `json:"author,omitempty"`
	Via       string       `json:"via,omitempty"`
	Why       string       `json:"why,omitempty"`
}

// same reports whether two are of one machine.
func (i *isolation) same(o isolation) bool {
	if !i.MAC.IsZero() || !o.MAC.IsZero() {
		return i.MAC == o.MAC
	}
	return slices.Equal(i.Addresses, o.Addresses)
}

// addresses are those that the machine has as far as is known. One that was leased to
// another since is that one's.
func (i *isolation) addresses(leases []svcconf.Lease) []netip.Addr {
	list := slices.Clone(i.Addresses)
	if !i.MAC.IsZero() {
		for _, l := range leases {
			if l.MAC == i.MAC {
				list = append(list, l.Address)
			} else {
				list = slices.DeleteFunc(list, func(a netip.Addr) bool { return a == l.Address })
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// isolations are those in force as the compiler takes them.
func (r *Reconciler) isolations() (list []facts.Isolation) {
	leases, _ := r.leases.read() // what is wrong with them, learn says
	for _, i := range r.isolated {
		f := facts.Isolation{Addresses: i.addresses(leases), Until: i.Until}
		if !i.MAC.IsZero() {
			f.MAC = i.MAC.String()
		}
		list = append(list, f)
	}
	return list
}

// free forgets the isolations that are over. The history has it as what their authors
// wanted, since nobody does it now.
func (r *Reconciler) free(now time.Time) error {
	left, over := []isolation{}, []isolation(nil)
	for _, i := range r.isolated {
		if i.Until.IsZero() || now.Before(i.Until) {
			left = append(left, i)
		} else {
			over = append(over, i)
		}
	}
	if over == nil {
		return nil
	}
	if err := r.o.Store.Save(isolatedFile, left); err != nil {
		return err // the compiler knows the time as well
	}
	r.isolated = left
	var errs []error
	for _, i := range over {
		r.o.Log.Info("isolation is over", "machine", i.Machine, "since", i.Since)
		errs = append(errs, r.remark(txn.Change{Time: now, Author: i.Author, Via: i.Via, Why: "release " + i.Machine + ": its time is over"}))
	}
	return errors.Join(errs...)
}

// remark adds to the history what changes nothing of the file.
func (r *Reconciler) remark(c txn.Change) error {
	err := r.o.Store.Remark(c)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // there never was a configuration: nothing to have a history of
	}
	if h := r.newest(); h != nil {
		r.target.confirmed = confirmedBy(h)
		if r.trial != nil {
			r.trial.target.confirmed = r.target.confirmed
		}
	}
	return err
}

// find says which machine is meant.
func (r *Reconciler) find(name string) (*isolation, error) {
	cfg := r.target.cfg
	leases, _ := r.leases.read() // what is wrong with them, the status says
	neighbours, err := r.o.Kernel.Neighbours()
	if err != nil {
		r.o.Log.Warn("a machine without a lease may not be known", "err", err)
	}
	i := &isolation{Machine: name}
	known := func(m model.MAC) (*isolation, error) {
		i.MAC = m
		for a, n := range neighbours {
			if n == m && inZone(cfg, a) {
				i.Addresses = append(i.Addresses, a)
			}
		}
		slices.SortFunc(i.Addresses, netip.Addr.Compare)
		return i, nil
	}
	if n := slices.IndexFunc(cfg.Devices, func(d *model.Device) bool { return d.Name == name }); n >= 0 {
		return known(cfg.Devices[n].MAC)
	}
	if m, err := model.ParseMAC(strings.ToLower(name)); err == nil {
		if links, _, err := r.o.Kernel.Facts(); err == nil && slices.ContainsFunc(links, func(l facts.Link) bool { return l.MAC == m.String() }) || m.IsZero() || m[0]&1 != 0 {
			return nil, api.Unknown(fmt.Errorf("%s is no other machine", m))
		}
		return known(m)
	}
	a, err := netip.ParseAddr(name)
	switch {
	case err != nil:
		return nil, api.Unknown(fmt.Errorf("%q is no device of the configuration, no MAC and no address", name))
	case !inZone(cfg, a):
		return nil, api.Unknown(fmt.Errorf("%s is no machine's address in a zone", a))
	}
	// Whoever has the address now is meant, and not who will have it next.
	for _, d := range cfg.Devices {
		if r.addressOf(d) == a {
			return known(d.MAC)
		}
	}
	for _, l := range leases {
		if l.Address == a {
			return known(l.MAC)
		}
	}
	if m, ok := neighbours[a]; ok {
		return known(m)
	}
	i.Addresses = []netip.Addr{a}
	return i, nil
}

// addressOf is the address that a device of the target has, by the last round; zero: none.
func (r *Reconciler) addressOf(d *model.Device) netip.Addr {
	return cmp.Or(d.Address, r.last.facts.Devices[d.Name])
}

// inZone reports whether a machine other than the box may have the address.
func inZone(cfg *model.Config, a netip.Addr) bool {
	z := cfg.ZoneOf(a)
	return z != nil && a != z.Gateway && a != policy.Broadcast(z.Subnet)
}

// isolate isolates a machine. It is on disk before it comes into force.
func (r *Reconciler) isolate(in api.Isolate) (*api.Isolation, error) {
	i, err := r.find(in.Machine)
	if err != nil {
		return nil, err
	}
	now := r.clock.now()
	if !in.Until.IsZero() && !now.Before(in.Until) {
		return nil, api.Tell(api.ErrInvalid, fmt.Errorf("%s has passed", in.Until.Format(time.RFC3339)))
	}
	i.Since, i.Until, i.Author, i.Via, i.Why = now.UTC(), in.Until.UTC(), in.Author, string(cmp.Or(in.Via, api.ViaAPI)), in.Why
	next := slices.DeleteFunc(slices.Clone(r.isolated), i.same)
	if next = append(next, *i); len(next) > maxIsolated {
		return nil, api.Tell(api.ErrInvalid, fmt.Errorf("no more than %d machines can be isolated at once", maxIsolated))
	}
	if err := r.guardIsolation(next, in, now); err != nil {
		return nil, err
	}
	what := "isolate " + in.Machine
	if !in.Until.IsZero() {
		what += " until " + in.Until.Format(time.RFC3339)
	}
	return r.keepIsolated(next, i, txn.Change{Time: now, Author: i.Author, Via: i.Via, Why: reason(what, in.Why)})
}

// release sets a machine free.
func (r *Reconciler) release(in api.Release) (*api.Isolation, error) {
	n := slices.IndexFunc(r.isolated, func(i isolation) bool { return i.Machine == in.Machine })
	if n < 0 {
		i, err := r.find(in.Machine)
		if err != nil {
			return nil, err
		}
		if n = slices.IndexFunc(r.isolated, i.same); n < 0 {
			return nil, api.Tell(api.ErrNothing, fmt.Errorf("%s is not isolated", in.Machine))
		}
	}
	i := r.isolated[n]
	return r.keepIsolated(slices.Delete(slices.Clone(r.isolated), n, n+1), &i, txn.Change{
		Time: r.clock.now(), Author: in.Author, Via: string(cmp.Or(in.Via, api.ViaAPI)), Why: reason("release "+in.Machine, in.Why),
	})
}

func reason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// guardIsolation refuses what would keep its author, or everybody, from the box.
func (r *Reconciler) guardIsolation(next []isolation, in api.Isolate, now time.Time) error {
	if in.AcceptLockout {
		return nil
	}
	before := r.isolated
	r.isolated = next
	defer func() { r.isolated = before }()
	out := new(outcome)
	r.compile(r.target, now, r.last.facts.Devices, out)
	if out.result == nil {
		return out.err()
	}
	change := r.changeTo(out.result, now, in.Origin)
	if neighbours, err := r.o.Kernel.Neighbours(); err == nil {
		if m, ok := neighbours[in.Origin.Address]; ok {
			change.Leases = append(slices.Clip(change.Leases), svcconf.Lease{Address: in.Origin.Address, MAC: m})
		}
	}
	path, lockout := change.Path()
	if lockout == "" && path.Moves {
		lockout = fmt.Sprintf("you are at %s and would isolate yourself", in.Origin.Address)
	}
	if lockout != "" {
		return &api.Refused{Lockout: lockout}
	}
	return nil
}

// keepIsolated makes next durable and brings it into force. What is not durable is
// isolated no less: until the next start.
func (r *Reconciler) keepIsolated(next []isolation, i *isolation, c txn.Change) (*api.Isolation, error) {
	if r.noState != nil {
		return nil, fmt.Errorf("nothing can be isolated or released, as it would not survive a reboot: %w", r.noState)
	}
	err := r.o.Store.Save(isolatedFile, next)
	if err != nil {
		return nil, err
	}
	r.isolated = next
	r.o.Log.Info(c.Why, "author", c.Author, "via", c.Via)
	err = r.remark(c)
	if out := r.round(); out.unloaded {
		err = errors.Join(fmt.Errorf("it comes into force as soon as the rules can be loaded: %w", out.err()), err)
	}
	if err != nil {
		return nil, err
	}
	shown := r.shown(i)
	return &shown, nil
}

// shown is an isolation as the API shows it.
func (r *Reconciler) shown(i *isolation) api.Isolation {
	leases, _ := r.leases.read() // what is wrong with them, the status says
	s := api.Isolation{
		Machine: i.Machine, MAC: i.MAC, Addresses: i.addresses(leases), Since: i.Since, Until: i.Until, Author: i.Author, Via: api.Via(i.Via), Why: i.Why,
	}
	for _, d := range r.target.cfg.Devices {
		if d.MAC != i.MAC {
			continue
		}
		s.Device = d.Name
		if a := r.addressOf(d); a.IsValid() && !slices.Contains(s.Addresses, a) {
			s.Addresses = append(s.Addresses, a)
		}
	}
	return s
}

// isolatedNow are all of them.
func (r *Reconciler) isolatedNow() []api.Isolation {
	list := make([]api.Isolation, len(r.isolated))
	for n := range r.isolated {
		list[n] = r.shown(&r.isolated[n])
	}
	return list
}

// Isolated implements [api.Quarantine].
func (r *Reconciler) Isolated(context.Context) ([]api.Isolation, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	return v.isolated, nil
}

// Isolate implements [api.Quarantine].
func (r *Reconciler) Isolate(ctx context.Context, in api.Isolate) (i *api.Isolation, err error) {
	ask := r.do(ctx, func() { i, err = r.isolate(in) })
	return i, errors.Join(ask, err)
}

// Release implements [api.Quarantine].
func (r *Reconciler) Release(ctx context.Context, in api.Release) (i *api.Isolation, err error) {
	ask := r.do(ctx, func() { i, err = r.release(in) })
	return i, errors.Join(ask, err)
}
