//go:build linux

package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/txn"
)

// outcome is what came of a round.
type outcome struct {
	facts    facts.Facts
	result   *compile.Result // nil: none could be had
	steps    []plan.Step     // carried out
	errs     []error         // about the network itself: a change that brings them is undone
	troubles []error         // all others: shown and retried, never a reason to undo a change
	unloaded bool            // the rules in force are not the compiled ones
}

func (o *outcome) err() error { return errors.Join(o.errs...) }

// all are the errors and the troubles.
func (o *outcome) all() []error { return slices.Concat(o.errs, o.troubles) }

func (o *outcome) fail(format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf(format, args...))
}

// trouble notes what a service, which may have been taken over, could bring about:
// it must not be able to veto what the box's owner wants.
func (o *outcome) trouble(format string, args ...any) {
	o.troubles = append(o.troubles, fmt.Errorf(format, args...))
}

// round brings everything to what target asks for, plans the next round, and tells
// whoever looks.
func (r *Reconciler) round() *outcome {
	begun := time.Now()
	defer func() { r.calm(time.Since(begun)) }()
	if r.confirmed != nil { // rescue: perhaps it can be loaded by now
		r.target, r.rescued = *r.confirmed, false
	}
	out := r.attempt()
	if out.unloaded && r.target.closed == "" {
		r.unloaded++
	} else if !out.unloaded {
		r.unloaded = 0
		r.confirmed = nil
	}
	if r.unloaded >= patience && r.target.closed == "" {
		confirmed := r.target
		r.target = r.rescue(fmt.Sprintf("the confirmed rules cannot be loaded: %v", out.err()))
		errs := out.errs
		out = r.attempt()
		out.errs = append(errs, out.errs...)
		r.confirmed = &confirmed
	}
	r.after(out)
	return out
}

// attempt is one pass of learning, compiling, planning and doing.
func (r *Reconciler) attempt() *outcome {
	out := new(outcome)
	r.mend(out)
	if err := r.keepMark(); err != nil {
		out.trouble("save the time: %w", err)
	}
	r.learn(out)
	if out.result == nil {
		out.unloaded = true
		return out
	}
	if r.carryOut(out); out.unloaded {
		out = r.withoutFlowtable(out)
	}
	if out.unloaded {
		return out
	}
	r.tell(out)
	r.sweep(out)
	return out
}

// learn gathers the facts and compiles the target with them.
func (r *Reconciler) learn(out *outcome) {
	r.arrange()
	devices, err := r.pin(r.target.cfg)
	if err != nil {
		out.trouble("give devices an address: %w", err)
	}
	if _, err := r.leases.read(); err != nil {
		out.trouble("leases: %w", err)
	}
	if err := r.free(r.clock.now()); err != nil {
		out.trouble("forget isolations that are over: %w", err)
	}
	r.compile(r.target, r.clock.now(), devices, out)
}

// compile compiles a target with the facts of the moment.
func (r *Reconciler) compile(t target, now time.Time, devices map[string]netip.Addr, out *outcome) {
	links, abilities, err := r.o.Kernel.Facts()
	if err != nil {
		out.fail("look at the network cards: %w", err)
		return
	}
	f := facts.Facts{Now: now, Links: links, Provided: r.o.Provided, Kernel: abilities, Devices: devices, Isolated: r.isolations()}
	if f.Uplink, err = r.lease.read(r.o.Wall()); err != nil {
		out.trouble("uplink: %w", err)
	}
	result, err := compileWith(t, f)
	if err == nil && f.Uplink != nil && f.Uplink.Link != result.WAN.Link {
		f.Uplink = nil // the lease is of a link that was the uplink, or never was
		result, err = compileWith(t, f)
	}
	if err != nil {
		out.fail("compile: %w", err)
		return
	}
	out.facts, out.result = f, result
}

func compileWith(t target, f facts.Facts) (result *compile.Result, err error) {
	err = safely(func() { result = compile.Options{Closed: t.closed != "", AllPorts: t.setup}.Compile(t.cfg, f) })
	return result, err
}

// carryOut plans and takes the steps, and looks whether the kernel agrees then.
func (r *Reconciler) carryOut(out *outcome) {
	want := out.result.State
	observed, err := r.observe(want)
	if err != nil {
		out.errs, out.unloaded = append(out.errs, err), true
		return
	}
	r.findDrift(observed, want)
	p := plan.Make(observed, want)
	if len(p.Steps) == 0 {
		return
	}
	if !r.settles(want) {
		r.unsettle()
	}
	failed := len(out.errs)
	if r.take(p, out); out.unloaded || len(out.errs) > failed {
		return
	}
	left, err := r.plan(want)
	if err != nil {
		out.errs = append(out.errs, err)
		return
	}
	for _, s := range left.Steps {
		out.fail("done, but the kernel does not show it: %s", s.Sentence)
	}
}

// withoutFlowtable tries rules that could not be loaded once more without their
// flowtable, which makes them slower and no weaker. A flowtable hangs off network
// cards: one that is just being pulled, or whose driver will not have it, must not
// keep the rules from coming into force. It returns what came of the first attempt
// if the second does no better.
func (r *Reconciler) withoutFlowtable(failed *outcome) *outcome {
	if t := failed.result.State.Ruleset.Table; t == nil || len(t.Flowtables) == 0 {
		return failed
	}
	f := failed.facts
	f.Kernel.Flowtable = false
	result, err := compileWith(r.target, f)
	if err != nil {
		return failed
	}
	out := &outcome{facts: f, result: result, steps: failed.steps, troubles: slices.Clone(failed.troubles)}
	if r.carryOut(out); out.unloaded {
		return failed
	}
	for _, err := range failed.errs {
		out.trouble("slower without a flowtable: %w", err)
	}
	return out
}

// plan compares the kernel with what it should hold.
func (r *Reconciler) plan(want state.State) (*plan.Plan, error) {
	observed, err := r.observe(want)
	if err != nil {
		return nil, err
	}
	return plan.Make(observed, want), nil
}

func (r *Reconciler) observe(want state.State) (state.State, error) {
	observed, err := r.o.Kernel.Observe(want)
	if err != nil {
		return state.State{}, fmt.Errorf("look at the kernel: %w", err)
	}
	return observed, nil
}

// take carries steps out. One that fails does not keep the others from being tried:
// a zone must not suffer for another's missing link. Only the rules must: what
// comes after them in a plan counts on them.
func (r *Reconciler) take(p *plan.Plan, out *outcome) {
	for _, s := range p.Steps {
		err := r.o.Kernel.Do(s)
		if err == nil {
			out.steps = append(out.steps, s)
			continue
		}
		out.fail("%s: %w", s.Sentence, err)
		if loadsRules(s) {
			out.unloaded = true
			return
		}
	}
}

func loadsRules(s plan.Step) bool { return s.Change.Op() == plan.OpLoadRuleset }

// sweep ends the connections that the rules in force would not let begin, and marks
// the others with the rule that would. It does so when the rules are not those that
// connections were last judged by, or have just been loaded: then there may have
// been none for a while.
func (r *Reconciler) sweep(out *outcome) {
	digest := out.result.State.Ruleset.Digest
	if digest == r.swept && !slices.ContainsFunc(out.steps, loadsRules) {
		return
	}
	ended, remarked, err := r.o.Conntrack.Sweep(judgeOf(out.result.Policy, absent(out.result)))
	r.cut += uint64(ended)
	if ended+remarked > 0 {
		r.o.Log.Info("connections judged anew", "ended", ended, "remarked", remarked)
	}
	if err != nil {
		r.swept = ""
		out.fail("end connections that are no longer allowed: %w", err)
		return
	}
	r.swept = digest
}

// after notes what came of a round and when the next is due.
func (r *Reconciler) after(out *outcome) {
	r.note(out)
	r.last = *out
	r.clock.next = time.Time{}
	if out.result != nil {
		r.clock.next, _ = out.result.Policy.Next()
	}
	r.wake = time.Time{}
	r.wakeIn(roundEvery)
	r.lookAt = time.Now().Add(lookEvery)
	switch {
	case len(out.all()) == 0:
		r.retry = 0
	case r.retry == 0:
		r.retry = retryFirst
	default:
		r.retry = min(2*r.retry, retryLast)
	}
	if r.retry > 0 {
		r.wakeIn(r.retry)
	}
	if d, ok := r.lease.left(); ok {
		r.wakeIn(d)
	}
	if d, ok := r.setup.left(); ok && r.target.setup {
		r.wakeIn(d)
	}
	r.announce()
	r.publish()
}

// note records drift, and what to fall back on in the worst case.
func (r *Reconciler) note(out *outcome) {
	good := len(out.errs) == 0 && out.result != nil
	if good {
		if err := r.saveRescue(); err != nil {
			out.troubles = append(out.troubles, err)
		}
	}
	for _, err := range news(out.all(), texts(r.last.all())) {
		r.o.Log.Error("trouble", "err", err) // once; the status shows it as long as it lasts
	}
	if !good {
		return
	}
	var steps []string
	for _, s := range out.steps {
		steps = append(steps, s.Sentence)
	}
	want := out.result.State
	switch {
	case r.drift.open || r.settles(want): // what others did, and nothing else was asked for than before
		r.noteRepair(steps)
	case len(steps) > 0:
		r.o.Log.Info("changed", "steps", len(steps), "first", steps[0])
	}
	r.leave(want)
}

// Addresses given to devices.
const (
	pinsFile      = "addresses.json"
	trialPinsFile = "trial-addresses.json"
)

// trialPins are the addresses given to devices for a change on trial. They are kept
// apart: if the change is undone, the devices have those that they had before, which may
// have been in another network.
type trialPins struct {
	ID    string                `json:"id"` // of the change
	Given map[string]netip.Addr `json:"given"`
}

// pin gives devices without an address one, and saves what it gave before anybody
// learns of it: with an error, it returns the addresses that are on disk already.
func (r *Reconciler) pin(cfg *model.Config) (map[string]netip.Addr, error) {
	pins := r.pinned(cfg)
	all := maps.Clone(r.pins)
	if all == nil {
		all = map[string]netip.Addr{}
	}
	if r.trial != nil {
		all = map[string]netip.Addr{}
		maps.Copy(all, r.trialPins.Given)
	}
	before := maps.Clone(all)
	maps.Copy(all, pins) // what devices have that are not in cfg is kept: it may not be for good
	if maps.Equal(all, before) {
		return pins, nil
	}
	var err error
	if r.trial != nil {
		given := trialPins{r.trial.pending.ID, all}
		if err = r.o.Store.Save(trialPinsFile, given); err == nil {
			r.trialPins = given
		}
	} else if err = r.o.Store.Save(pinsFile, all); err == nil {
		r.pins = all
	}
	if err != nil {
		maps.DeleteFunc(pins, func(name string, a netip.Addr) bool { return r.pins[name] != a && r.trialPins.Given[name] != a })
	}
	return pins, err
}

// loadPins finds what pin has saved. Those of a trial count if it was confirmed, and the
// process ended before they were saved as such.
func (r *Reconciler) loadPins() {
	var tried trialPins
	err := r.o.Store.Load(pinsFile, &r.pins)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = r.o.Store.Load(trialPinsFile, &tried)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("addresses given to devices are lost: they get new ones", "err", err)
	}
	if o := r.outcome; o != nil && o.ID == tried.ID && o.End == txn.Confirmed {
		r.trialPins = tried
	}
}

// pinned says which addresses the devices of cfg have or would be given. A device
// that already holds a lease is given that.
func (r *Reconciler) pinned(cfg *model.Config) map[string]netip.Addr {
	known := map[string]netip.Addr{}
	for _, d := range cfg.Devices {
		for _, pins := range []map[string]netip.Addr{r.trialPins.Given, r.pins} { // those that fit and are older win
			if a, ok := pins[d.Name]; ok && d.Zone.DHCP.Pool.Contains(a) {
				known[d.Name] = a
			}
		}
	}
	byMAC := map[model.MAC]*model.Device{}
	for _, d := range cfg.Devices {
		byMAC[d.MAC] = d
	}
	taken := map[netip.Addr]bool{}
	leases, _ := r.leases.read() // what is wrong with them, learn says
	for _, l := range leases {
		taken[l.Address] = true
		d := byMAC[l.MAC]
		if d == nil || !d.Zone.DHCP.Pool.Contains(l.Address) {
			continue
		}
		if _, ok := known[d.Name]; !ok {
			known[d.Name] = l.Address
		}
	}
	return compile.Pin(cfg, known, func(a netip.Addr) bool { return taken[a] })
}
