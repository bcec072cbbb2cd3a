//go:build linux

package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// target is a configuration and what it is to the box.
type target struct {
	cfg       *model.Config
	confirmed *api.Confirmed // the change that was confirmed last, if known
	digest    string         // of the file
	warnings  diag.List
	closed    string // why nothing is forwarded; "": the configuration is in force
	setup     bool   // closed because there never was a configuration; cfg and closed follow the ports
}

// nothing is the configuration of a box that has none: no zones, everything closed.
func nothing() *model.Config {
	return &model.Config{System: model.System{Name: "bulkhead", Domain: "home.arpa", Timezone: "UTC", Location: time.UTC}}
}

// lockDown closes a box on which no rules of ours are loaded: nothing is forwarded
// and nobody gets in, before anything else is looked at. With rules there, loaded by
// a process before this one, it does nothing: they are what the box was meant to do.
func (r *Reconciler) lockDown() error {
	closed := compile.Options{Closed: true}.Compile(nothing(), facts.Facts{Now: r.o.Wall()}).State
	observed, err := r.o.Kernel.Observe(closed)
	if err != nil {
		return fmt.Errorf("look at the kernel: %w", err)
	}
	if observed.Ruleset.Present() {
		return nil
	}
	r.lockedDown = true
	want := observed // links and addresses can wait
	want.Ruleset, want.Sysctls = closed.Ruleset, slices.DeleteFunc(slices.Clone(closed.Sysctls), func(s state.Sysctl) bool {
		return s.Value != "0" // forwarding among them; what switches things on can wait, too
	})
	out := new(outcome)
	r.take(plan.Make(observed, want), out)
	return out.err()
}

// load decides what to bring the box to: the confirmed configuration, or, without
// one that can be used, what keeps the admin zones' way in.
func (r *Reconciler) load() {
	if r.o.Volatile {
		r.target = r.rescue(fmt.Sprintf("the state directory cannot be used: %v", r.noState))
		return
	}
	var m mark
	if err := r.o.Store.Load(clockFile, &m); err == nil {
		r.clock.set(m.High)
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("the time of the last run is lost: rules that ended may be back until the clock is right", "err", err)
	}
	if o, err := r.o.Store.Last(); err == nil {
		r.outcome = &o
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("what became of the last change is lost", "err", err)
	}
	r.loadPins()
	if err := r.o.Store.Load(isolatedFile, &r.isolated); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("which machines are isolated is lost: none is", "err", err)
	}
	if r.o.Setup && r.fresh() {
		r.target = target{cfg: nothing(), closed: errNone.Error(), setup: true}
		return
	}
	t, err := r.loadConfirmed()
	if err != nil {
		r.target = r.rescue(err.Error())
		return
	}
	r.target = t
	for _, d := range r.o.Store.Damage() {
		r.o.Log.Error("history", "damage", d) // the status shows it as long as it lasts
	}
	if h := r.newest(); h != nil {
		r.target.confirmed = confirmedBy(h)
	}
}

// fresh reports whether the box certainly never had a configuration. With any trace of
// one, or a disk in doubt, it has an owner, whose way in is the rescue.
func (r *Reconciler) fresh() bool {
	var v any
	return r.noState == nil && r.o.Store.Untouched() && errors.Is(r.o.Store.Load(rescueFile, &v), fs.ErrNotExist)
}

var errNone = errors.New("no configuration has been applied yet")

// mend looks whether the state directory can be written by now.
func (r *Reconciler) mend(out *outcome) {
	if r.noState == nil || r.o.Volatile {
		return
	}
	if r.noState = r.o.Store.Settle(); r.noState != nil {
		out.trouble("nothing can be confirmed, as the state directory cannot be written: %w", r.noState)
	}
}

// confirmedName stands for the file's name where that is not known.
const confirmedName = "confirmed.yaml"

func (r *Reconciler) loadConfirmed() (target, error) {
	name := confirmedName
	if h := r.newest(); h != nil && h.Name != "" {
		name = h.Name // positions are those of the file that its author knows
	}
	data, err := r.o.Store.Confirmed()
	if errors.Is(err, fs.ErrNotExist) {
		return target{}, errNone
	}
	if err != nil {
		return target{}, fmt.Errorf("the confirmed configuration cannot be read: %w", err)
	}
	cfg, problems, err := parse(conf.ParseConfirmed, api.File{Name: name, Data: data}, r.clock.now())
	if err != nil {
		return target{}, fmt.Errorf("the confirmed configuration cannot be used: %w", err)
	}
	if cfg == nil {
		errs := slices.DeleteFunc(problems.Sorted(), func(p *diag.Problem) bool { return p.Severity == diag.Warning })
		more := ""
		if len(errs) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(errs)-1)
		}
		first := *errs[0]
		first.Hint = ""
		return target{}, fmt.Errorf("the confirmed configuration cannot be used: %s%s", first.Error(), more)
	}
	return target{cfg: cfg, warnings: problems.Warnings(), digest: digestOf(data)}, nil
}

// parse reads a file with [conf.Parse] or its like. Without an error, cfg is nil if the
// problems hold errors.
func parse(by func(string, []byte, time.Time) (*model.Config, diag.List), f api.File, now time.Time) (cfg *model.Config, problems diag.List, err error) {
	err = safely(func() { cfg, problems = by(f.Name, f.Data, now) })
	if err == nil && cfg == nil && problems.Err() == nil {
		err = errors.New("it was refused without a reason")
	}
	return cfg, problems, err
}
