//go:build linux

package reconcile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/txn"
)

// preview works out what putting a file into force would do at a time. It changes
// nothing. The error is an [*api.Refused] if the file cannot be used; one that locks
// out has a plan that says so.
func (r *Reconciler) preview(f api.Proposal, now time.Time) (*api.Plan, target, error) {
	cfg, problems, err := parse(conf.Parse, f.File, now)
	if err != nil {
		return nil, target{}, err
	}
	if cfg == nil {
		return nil, target{}, &api.Refused{Problems: problems.Sorted()}
	}
	if bad := r.unusable(cfg); len(bad) > 0 {
		return nil, target{}, &api.Refused{Problems: append(bad, problems...).Sorted()}
	}
	t := target{cfg: cfg, warnings: problems.Warnings(), digest: digestOf(f.Data)}
	out := new(outcome)
	r.compile(t, now, r.pinned(cfg), out)
	if out.result == nil {
		return nil, target{}, out.err()
	}
	if failed := api.Failures(out.result.Policy); len(failed) > 0 {
		return nil, target{}, &api.Refused{Problems: t.warnings, Failed: failed}
	}
	steps, err := r.plan(out.result.State)
	if err != nil {
		return nil, target{}, err
	}
	change := r.impact(out.result, now, f.Origin)
	var p *api.Plan
	err = safely(func() {
		p = api.PlanOf(r.policyBefore(), change, steps, t.warnings)
		if f.Ruleset {
			p.Ruleset = api.RulesetDiffOf(change)
		}
	})
	return p, t, err
}

// policyBefore is what the box does now: what was confirmed, or nothing.
func (r *Reconciler) policyBefore() *policy.Policy {
	if r.last.result != nil && r.target.closed == "" {
		return r.last.result.Policy
	}
	return policy.New(nothing(), policy.Env{Now: r.clock.now()})
}

// before is the change that undoes the last one: it puts the configuration before that
// into force, by the same path as any other. Changes that changed nothing are passed
// over.
func (r *Reconciler) before(u api.Undo) (proposal, error) {
	last := r.newest()
	for before := range r.o.Store.Entries() {
		if !bytes.Equal(before.Config, last.Config) {
			c := txn.Change{Author: u.Author, Via: string(cmp.Or(u.Via, api.ViaAPI)), Why: fmt.Sprintf("undo of change %d", last.Number), Name: before.Name, Config: before.Config}
			return proposal{change: c, terms: u.Terms, number: before.Number}, nil
		}
	}
	return proposal{}, fmt.Errorf("%w: the history has no other configuration", api.ErrNothing)
}

// news are the errors whose texts are not among those before.
func news(errs []error, before []string) []error {
	return slices.DeleteFunc(slices.Clone(errs), func(err error) bool {
		return slices.Contains(before, err.Error())
	})
}

// kept makes the target that was on trial the confirmed one, which it is on disk.
func (r *Reconciler) kept() {
	r.clock.save = time.Time{} // it may have been set back
	if err := r.keepMark(); err != nil {
		r.o.Log.Error("save the time", "err", err) // the next round tries again, and shows it
	}
	if h := r.newest(); h != nil {
		r.target.confirmed = confirmedBy(h)
	}
	if err := r.saveRescue(); err != nil {
		r.o.Log.Error("after a change", "err", err) // likewise
	}
	pins := r.last.facts.Devices // those of devices that are gone are free again
	if err := r.o.Store.Save(pinsFile, pins); err != nil {
		r.o.Log.Error("save the addresses given to devices", "err", err) // likewise; until then they are where the trial's are
	} else {
		r.pins, r.trialPins = pins, trialPins{}
	}
	r.publish()
	if r.target.cfg.System.Push != nil {
		r.wakeIn(0) // to tell pushd
	}
}
