//go:build linux

package reconcile

import (
	"bytes"
	"errors"
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
	t := target{cfg: cfg, warnings: problems.Warnings(), trial: true, digest: digestOf(f.Data)}
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
	err = safely(func() { p = api.PlanOf(r.policyBefore(), change, steps, t.warnings) })
	return p, t, err
}

// policyBefore is what the box does now: what was confirmed, or nothing.
func (r *Reconciler) policyBefore() *policy.Policy {
	if r.last.result != nil && r.target.closed == "" {
		return r.last.result.Policy
	}
	return policy.New(nothing(), policy.Env{Now: r.clock.now()})
}

// undo puts the configuration before the last change into force, as a change that
// takes the same path as any other. Changes that changed nothing are passed over.
func (r *Reconciler) undo(u api.Undo) (*api.Plan, error) {
	last := r.newest()
	for before := range r.o.Store.Entries() {
		if !bytes.Equal(before.Config, last.Config) {
			return r.apply(api.Change{
				File: api.File{Name: before.Name, Data: before.Config}, Author: u.Author, Why: fmt.Sprintf("undo of change %d", last.Number), Origin: u.Origin,
			})
		}
	}
	return nil, fmt.Errorf("%w: the history has no other configuration", api.ErrNothing)
}

// apply puts a file into force, or leaves everything as it was.
func (r *Reconciler) apply(c api.Change) (*api.Plan, error) {
	if r.noState != nil {
		return nil, fmt.Errorf("nothing can be confirmed, as it would not survive a reboot: %w", r.noState)
	}
	// Whoever applies a configuration says with it that the clock is right. If it
	// stays, that is: what has ended does not begin again for a change that failed.
	mark := r.clock.mark
	r.clock.reset()
	p, err := r.tryAndKeep(c, mark)
	if err != nil {
		r.clock.mark = mark
	}
	return p, err
}

// tryAndKeep is apply after the clock was reset, from mark.
func (r *Reconciler) tryAndKeep(c api.Change, mark instant) (*api.Plan, error) {
	p, next, err := r.preview(api.Proposal{File: c.File, Origin: c.Origin}, r.clock.now())
	switch {
	case err != nil:
		return nil, err
	case p.Lockout != "" && !c.AcceptLockout:
		return nil, &api.Refused{Problems: next.warnings, Lockout: p.Lockout}
	}
	change := txn.Change{
		Time: r.clock.now(), Author: c.Author, Why: c.Why, Name: c.File.Name, Config: c.File.Data,
	}
	change.Reach, change.MoreReach = summary(p.Reach)
	old, waiting, rescued, before := r.target, r.confirmed, r.rescued, texts(r.last.errs)
	err = txn.Commit(r.o.Store, change, func() error {
		return r.try(next, before)
	}, func() error {
		r.target, r.confirmed, r.rescued = old, waiting, rescued
		r.clock.mark = mark
		r.round()
		return errors.Join(news(r.last.errs, before)...)
	})
	if err != nil {
		r.o.Log.Error("change undone", "author", c.Author, "err", err)
		return nil, err
	}
	r.kept()
	r.o.Log.Info("change confirmed", "author", c.Author, "why", c.Why, "steps", len(p.Steps))
	return p, nil
}

// try brings the box to t. It fails for errors that were not there before: a port
// that is broken anyway must not keep its owner from changing the rest.
func (r *Reconciler) try(t target, before []string) error {
	r.target, r.confirmed, r.rescued, r.unloaded = t, nil, false, 0
	out := r.round()
	if out.unloaded {
		return out.err()
	}
	return errors.Join(news(out.errs, before)...)
}

// news are the errors whose texts are not among those before.
func news(errs []error, before []string) []error {
	return slices.DeleteFunc(slices.Clone(errs), func(err error) bool {
		return slices.Contains(before, err.Error())
	})
}

// kept makes the target that was on trial the confirmed one.
func (r *Reconciler) kept() {
	r.target.trial = false
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
	r.pins = r.last.facts.Devices // those of devices that are gone are free again
	if err := r.o.Store.Save(pinsFile, r.pins); err != nil {
		r.o.Log.Error("save the addresses given to devices", "err", err)
	}
	r.publish()
}
