//go:build linux

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
)

var _ api.Backend = (*Reconciler)(nil)

// view is what questions are answered from. It is made anew after each round and
// never changed, so that asking does not wait for one.
type view struct {
	status   api.Status
	shown    instant   // when it was made
	deadline time.Time // monotonic: of the pending change
	cfg      *model.Config
	result   *compile.Result // nil: there is none yet
	facts    facts.Facts
	handed   map[string]string
	drift    []api.Drift
	isolated []api.Isolation
}

// publish shows the last round to those who ask.
func (r *Reconciler) publish() {
	t, out := r.target, &r.last
	v := &view{cfg: t.cfg, result: out.result, facts: out.facts, shown: r.clock.mark, handed: maps.Clone(r.handed), drift: r.drift.newestFirst(), status: api.Status{
		Name: t.cfg.System.Name, Timezone: t.cfg.System.Timezone, Mode: api.Running, Reason: t.closed, Now: r.clock.now(), Started: r.started,
		Confirmed: t.confirmed, Uplink: r.uplink(out), NoUplink: t.closed == "" && t.cfg.Uplink == nil, Troubles: texts(out.all()), Warnings: t.warnings,
		Damage: r.o.Store.Damage(), Applied: out.result != nil && len(out.errs) == 0, Repaired: r.repaired, Repairs: r.repairs, Cut: r.cut, Overdue: r.overdue(),
	}}
	v.isolated = r.isolatedNow()
	for _, i := range v.isolated {
		v.status.Isolated = append(v.status.Isolated, i.Machine)
	}
	if r.trial != nil {
		p := r.pendingNow()
		v.status.Pending, v.deadline = &p, time.Now().Add(r.tx.Left())
	}
	v.status.Last = outcomeOf(r.outcome)
	if t.closed == "" && r.trial == nil {
		v.status.Digest = t.digest
	}
	switch {
	case t.setup:
		v.status.Mode = api.Setup
	case t.closed != "":
		v.status.Mode = api.Closed
	}
	if out.result != nil {
		v.status.Missing = out.result.Missing
	}
	if next := r.clock.next; !next.IsZero() {
		v.status.Next = &next
	}
	r.seen.Store(v)
}

// uplink is what the uplink has: the file's address, or the lease as wand told it.
func (r *Reconciler) uplink(out *outcome) *facts.Lease {
	u := r.target.cfg.Uplink
	switch {
	case u != nil && u.IPv4.Mode == model.ModeStatic && out.result != nil && out.result.WAN.Link != "":
		l := &facts.Lease{Link: out.result.WAN.Link, Address: u.IPv4.Address, Gateway: u.IPv4.Gateway, Resolvers: u.IPv4.Resolvers}
		if told := r.lease.told; told != nil && told.Address == l.Address {
			l.Since = told.Since
		}
		return l
	case out.facts.Uplink != nil:
		return r.lease.told
	}
	return nil
}

// announce logs when the box closes, and why, and when it no longer is. On the
// console consoled says so, from the status.
func (r *Reconciler) announce() {
	reason := r.target.closed
	if reason == r.reason {
		return
	}
	r.reason = reason
	switch {
	case reason == "":
		r.o.Log.Info("no longer closed")
	case r.target.setup:
		r.o.Log.Info("setup", "reason", reason)
	default:
		r.o.Log.Error("closed", "reason", reason)
	}
}

// Status implements [api.Backend].
func (r *Reconciler) Status(context.Context) (*api.Status, error) {
	v := r.seen.Load()
	if v == nil {
		return &api.Status{Mode: api.Closed, Reason: "netcfgd is starting", Now: r.o.Wall(), Started: r.started}, nil
	}
	s := v.status
	s.Now = v.shown.passed(r.o.Wall())
	s.Untaken = untaken(r.o.Run, v.handed)
	s.Untaken = slices.DeleteFunc(s.Untaken, func(name string) bool { // those that need not run
		return name == svcconf.Pushd.Name && v.cfg.System.Push == nil ||
			name == svcconf.Exportd.Name && len(v.cfg.Exports) == 0 && len(v.cfg.Alerts) == 0
	})
	s.Push = r.pushOf(v)
	if s.Pending != nil {
		p := *s.Pending
		p.Left = api.Window(time.Until(v.deadline))
		s.Pending = &p
	}
	return &s, nil
}

// Pending implements [api.Backend].
func (r *Reconciler) Pending(ctx context.Context) (*api.Trials, error) {
	s, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Trials{Pending: s.Pending, Last: s.Last}, nil
}

// looked returns the last view, once there is one with a result.
func (r *Reconciler) looked() (*view, error) {
	if v := r.seen.Load(); v != nil && v.result != nil {
		return v, nil
	}
	return nil, errNoResult
}

// Zones implements [api.Backend].
func (r *Reconciler) Zones(context.Context) ([]api.Zone, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	leases, _ := r.leases.read() // what is wrong with them, the status says
	zones := []api.Zone{}
	for _, z := range v.cfg.Zones {
		zone := api.Zone{
			Name: z.Name, Port: z.Port.Name, VLAN: z.VLAN, Subnet: z.Subnet, Gateway: z.Gateway,
			Admin: z.Admin, DHCP: z.DHCP.Enabled, DNS: z.DNS.Enabled,
		}
		for _, a := range v.result.State.Addrs {
			if a.Prefix.Addr() == z.Gateway {
				zone.Link = a.Link
			}
		}
		for _, d := range v.cfg.Devices {
			if d.Zone == z {
				zone.Devices++
			}
		}
		for _, l := range leases {
			if l.Zone == z.Name {
				zone.Leases++
			}
		}
		zones = append(zones, zone)
	}
	return zones, nil
}

// Rules implements [api.Backend].
func (r *Reconciler) Rules(context.Context) (*api.Rules, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	rules := &api.Rules{Rules: api.RulesOf(v.cfg, v.facts.Now), Refused: []api.Counter{}}
	refused, err := r.o.Counters.Counters()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		c := refused[name]
		rules.Refused = append(rules.Refused, api.Counter{Name: name, Packets: c.Packets, Bytes: c.Bytes})
	}
	return rules, nil
}

// Matrix implements [api.Backend].
func (r *Reconciler) Matrix(context.Context) (*api.Matrix, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	return api.MatrixOf(v.result.Policy), nil
}

// CellRules implements [api.Backend].
func (r *Reconciler) CellRules(_ context.Context, from, to string) (*api.CellRules, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	rules, ok := api.CellOf(v.result.Policy, from, to)
	if !ok {
		return nil, api.Unknown(fmt.Errorf("%q and %q are not both zones, internet or box", from, to))
	}
	return rules, nil
}

// Compiled implements [api.Backend].
func (r *Reconciler) Compiled(_ context.Context, from, to string) (*api.Compiled, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	if _, ok := api.CellOf(v.result.Policy, from, to); !ok {
		return nil, api.Unknown(fmt.Errorf("%q and %q are not both zones, internet or box", from, to))
	}
	return &api.Compiled{From: from, To: to, Text: compile.PairText(v.result.State.Ruleset.Table, from, to)}, nil
}

// Devices implements [api.Backend].
func (r *Reconciler) Devices(context.Context) ([]api.Device, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	leases, _ := r.leases.read() // what is wrong with them, the status says
	devices := []api.Device{}
	for _, d := range v.cfg.Devices {
		dev := api.Device{
			Name: d.Name, Zone: d.Zone.Name, MAC: d.MAC, Address: v.result.Policy.AddressOf(d),
			Given: !d.Address.IsValid(), Owner: d.Owner, Purpose: d.Purpose, Note: d.Note, Critical: d.Critical,
		}
		i := slices.IndexFunc(leases, func(l svcconf.Lease) bool { return l.MAC == d.MAC && l.Zone == d.Zone.Name })
		if i >= 0 {
			dev.Lease = &leases[i].Expires
		}
		devices = append(devices, dev)
	}
	return devices, nil
}

// Leases implements [api.Backend].
func (r *Reconciler) Leases(context.Context) ([]svcconf.Lease, error) {
	leases, err := r.leases.read()
	if leases == nil {
		leases = []svcconf.Lease{}
	}
	return leases, err
}

// Drift implements [api.Backend].
func (r *Reconciler) Drift(context.Context) ([]api.Drift, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	return v.drift, nil
}

// Why implements [api.Backend].
func (r *Reconciler) Why(_ context.Context, from, to, protocol string) (*api.Why, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	sources, err1 := conf.Endpoints(v.cfg, from)
	targets, err2 := conf.Endpoints(v.cfg, to)
	services, err3 := conf.Services(v.cfg, protocol)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, api.Unknown(err)
	}
	return &api.Why{
		From: from, To: to, Protocol: protocol,
		Verdicts: api.Explain(v.result.Policy, sources, targets, services),
	}, nil
}

// Contacts implements [api.Backend].
func (r *Reconciler) Contacts(_ context.Context, of string) (*api.Contacts, error) {
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	endpoints, err := conf.Endpoints(v.cfg, of)
	if err != nil {
		return nil, api.Unknown(err)
	}
	c := api.ContactsOf(v.result.Policy, endpoints)
	c.Of = of
	return c, nil
}

// Plan implements [api.Backend].
func (r *Reconciler) Plan(ctx context.Context, f api.Proposal) (p *api.Plan, err error) {
	ask := r.do(ctx, func() { p, _, err = r.preview(f, r.o.Wall()) })
	debug.FreeOSMemory() // see Apply
	if ask != nil {
		return nil, ask
	}
	return p, err
}

// Undo implements [api.Backend].
func (r *Reconciler) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	return r.try(ctx, func() (proposal, error) { return r.before(u) })
}

// Apply implements [api.Backend].
func (r *Reconciler) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	return r.try(ctx, func() (proposal, error) {
		return proposal{
			change: txn.Change{Author: c.Author, Via: string(cmp.Or(c.Via, api.ViaAPI)), Why: c.Why, Name: c.File.Name, Config: c.File.Data},
			terms:  c.Terms, restores: c.Restores,
		}, nil
	})
}

// try tries a change, and waits until it is in force everywhere, or is undone. The
// loop goes on meanwhile.
func (r *Reconciler) try(ctx context.Context, change func() (proposal, error)) (*api.Trial, error) {
	var reply <-chan verdict
	var err error
	ask := r.do(ctx, func() {
		if err = r.ready(); err != nil {
			return
		}
		var p proposal
		if p, err = change(); err == nil {
			reply, err = r.begin(p)
		}
	})
	// Reading 5,000 rules takes 50 MB for a moment. The box has little memory, and
	// the next change may be months away.
	debug.FreeOSMemory()
	if err := errors.Join(ask, err); err != nil {
		return nil, err
	}
	select {
	case v := <-reply:
		return v.trial, v.err
	case <-ctx.Done(): // the trial goes on
		return nil, ctx.Err()
	}
}

// Confirm implements [api.Backend].
func (r *Reconciler) Confirm(ctx context.Context, in api.Confirm) (c *api.Confirmed, err error) {
	ask := r.do(ctx, func() { c, err = r.confirm(in) })
	return c, errors.Join(ask, err)
}

// Cancel implements [api.Backend].
func (r *Reconciler) Cancel(ctx context.Context, in api.Cancel) (o *api.Outcome, err error) {
	ask := r.do(ctx, func() { o, err = r.cancel(in) })
	return o, errors.Join(ask, err)
}
