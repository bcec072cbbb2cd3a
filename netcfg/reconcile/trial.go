//go:build linux

package reconcile

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/txn"
)

// The paces of a trial.
const (
	ackEvery    = 50 * time.Millisecond // how often is looked whether services took the change
	ackPatience = 10 * time.Second      // how long they may take
)

// trial is a change that is in force without being confirmed, and what it takes to go
// back. All of it is gone with the process: a new one begins with the confirmed
// configuration.
type trial struct {
	pending api.Pending
	token   string
	plan    *api.Plan

	owing []string     // services that took what they were told before
	told  time.Time    // when they were told
	reply chan verdict // to who asked for the change; nil once they know

	// What was before: r.target, r.confirmed, r.rescued, the clock, and the texts of the
	// last round's errors.
	target    target
	confirmed *target
	rescued   bool
	mark      instant
	errs      []string
}

// verdict is what who asked for a change is told.
type verdict struct {
	trial *api.Trial
	err   error
}

// proposal is a change that is to be tried.
type proposal struct {
	change   txn.Change
	terms    api.Terms
	number   int // of the change in the history whose file it is; 0: it is new
	restores int // changes of the history that was set aside, which come before it
}

// usedBefore says what to do about a file of the history that cannot be used any more:
// the box has learnt to find secrets and other mistakes since, or is another one.
func (p *proposal) usedBefore(err error) error {
	if refused, ok := errors.AsType[*api.Refused](err); ok && p.number > 0 {
		refused.Hint = fmt.Sprintf("that is the file of change %d, which cannot be used again as it is: write it with \"bulkhead history show %d > FILE\", mend FILE, and try it with \"bulkhead apply FILE\"", p.number, p.number)
	}
	return err
}

// ready reports what keeps a change from being tried, whatever it is.
func (r *Reconciler) ready() error {
	switch {
	case r.noState != nil:
		return fmt.Errorf("nothing can be confirmed, as it would not survive a reboot: %w", r.noState)
	case r.trial != nil:
		return &api.Busy{Pending: r.pendingNow()}
	}
	return nil
}

// begin puts a file into force on trial. Whether it stays for its author to confirm is
// told over the channel, when the services have taken it.
func (r *Reconciler) begin(p proposal) (<-chan verdict, error) {
	if err := check(p.terms); err != nil {
		return nil, err
	}
	// Whoever applies a configuration says with it that the clock is right. If it
	// stays, that is: what has ended does not begin again for a change that failed.
	mark := r.clock.mark
	r.clock.reset()
	t, next, err := r.propose(p)
	if err != nil {
		r.clock.mark = mark
		return nil, err
	}
	t.mark = mark
	r.trial = t
	reply := t.reply
	r.target, r.confirmed, r.rescued, r.unloaded = next, nil, false, 0
	r.o.Log.Info("change on trial", "id", t.pending.ID, "author", p.change.Author, "via", p.change.Via, "why", p.change.Why, "window", t.pending.Left)
	out := r.round()
	t.told = time.Now()
	if failed := news(out.errs, t.errs); out.unloaded || len(failed) > 0 {
		// Errors that were there before do not count: a port that is broken anyway
		// must not keep its owner from changing the rest.
		if len(failed) == 0 {
			failed = out.errs
		}
		r.undo(txn.Failed, "", errors.Join(failed...))
		return reply, nil
	}
	r.tend()
	return reply, nil
}

// check reports what is wrong with the terms of a change.
func check(t api.Terms) error {
	if t.Token != "" && len(t.Token) < api.MinToken {
		return api.Tell(api.ErrInvalid, fmt.Errorf("the token of a change has at least %d characters", api.MinToken))
	}
	if w := time.Duration(t.Window); w != 0 && (w < txn.MinWindow || w > txn.MaxWindow) {
		return api.Tell(api.ErrInvalid, fmt.Errorf("the window, which is the time to confirm a change, is from %s to %s, not %s", api.Window(txn.MinWindow), api.Window(txn.MaxWindow), t.Window))
	}
	for _, name := range t.Ignore {
		if !slices.ContainsFunc(audiences, func(a audience) bool { return a.owner.Name == name }) {
			return api.Unknown(fmt.Errorf("no service is called %q", name))
		}
	}
	return nil
}

// propose works out what a change does, arms the clock and makes it durable as what it
// is: not confirmed.
func (r *Reconciler) propose(p proposal) (*trial, target, error) {
	f := api.Proposal{File: api.File{Name: p.change.Name, Data: p.change.Config}, Origin: p.terms.Origin}
	plan, next, err := r.preview(f, r.clock.now())
	switch {
	case err != nil:
		return nil, target{}, p.usedBefore(err)
	case plan.Lockout != "" && !p.terms.AcceptLockout:
		return nil, target{}, &api.Refused{Problems: next.warnings, Lockout: plan.Lockout}
	}
	if err := r.setAside(p.restores); err != nil {
		return nil, target{}, err
	}
	next.confirmed = r.target.confirmed // until there is another
	c := &p.change
	c.Time = r.clock.now()
	c.Reach, c.MoreReach = summary(plan.Reach)
	t := &trial{
		token: p.terms.Token, plan: plan, reply: make(chan verdict, 1),
		owing: r.owing(p.terms.Ignore), target: r.target, confirmed: r.confirmed, rescued: r.rescued, errs: texts(r.last.errs),
	}
	if t.token == "" {
		t.token = rand.Text() + rand.Text()
	}
	moves := movesOf(r.target.cfg, next.cfg)
	window := time.Duration(p.terms.Window)
	switch {
	case window != 0:
	case len(moves) > 0, plan.Path != nil && plan.Path.Moves: // the box or its author has a way to go
		window = txn.MovedWindow
	default:
		window = txn.UsualWindow
	}
	t.pending = api.Pending{
		ID: txn.IDOf(t.token), Author: c.Author, Via: api.Via(c.Via), Why: c.Why, Name: c.Name,
		Since: c.Time, Deadline: c.Time.Add(window), Left: api.Window(window), Moves: moves, Steps: len(plan.Steps),
	}
	const few = 20
	t.pending.Reach = plan.Reach[:min(few, len(plan.Reach))]
	t.pending.More = len(plan.Reach) - len(t.pending.Reach)
	err = r.tx.Begin(txn.Trial{
		ID: t.pending.ID, Change: *c, Identity: p.terms.Origin.Identity, Token: txn.Hash(t.token), Deadline: t.pending.Deadline,
		Restores: p.restores > 0,
	}, window)
	return t, next, err
}

// movesOf are the admin zones in which the box is elsewhere: at another address, or
// behind another port or VLAN.
func movesOf(old, new *model.Config) []api.Move {
	var moves []api.Move
	find := func(cfg *model.Config, name string) *model.Zone {
		i := slices.IndexFunc(cfg.Zones, func(z *model.Zone) bool { return z.Admin && z.Name == name })
		if i < 0 {
			return nil
		}
		return cfg.Zones[i]
	}
	for _, z := range old.Zones {
		if !z.Admin {
			continue
		}
		to := find(new, z.Name)
		switch {
		case to == nil:
			moves = append(moves, api.Move{Zone: z.Name, From: z.Gateway})
		case to.Gateway != z.Gateway || to.VLAN != z.VLAN || to.Port.MAC != z.Port.MAC:
			moves = append(moves, api.Move{Zone: z.Name, From: z.Gateway, To: to.Gateway})
		}
	}
	for _, z := range new.Zones {
		if z.Admin && find(old, z.Name) == nil {
			moves = append(moves, api.Move{Zone: z.Name, To: z.Gateway})
		}
	}
	return moves
}

// owing lists the services that serve what they were told, and so are expected to
// take what they are told next. One that does not now, perhaps because it does not
// run, cannot stand in the way of a change, nor one that the author ignores.
func (r *Reconciler) owing(ignore []string) []string {
	late := untaken(r.o.Run, r.handed)
	var names []string
	for _, a := range audiences {
		if n := a.owner.Name; !slices.Contains(late, n) && !slices.Contains(ignore, n) {
			names = append(names, n)
		}
	}
	return names
}

// tend looks how the trial is going, if there is one.
func (r *Reconciler) tend() {
	t := r.trial
	switch {
	case t == nil:
	case r.last.unloaded:
		r.undo(txn.Failed, "", r.last.err())
	case r.tx.Overdue():
		r.undo(txn.Unconfirmed, "", nil)
	case r.tx.Phase() == txn.Trying:
		late := untaken(r.o.Run, r.handed)
		late = slices.DeleteFunc(late, func(name string) bool { return !slices.Contains(t.owing, name) })
		switch {
		case len(late) == 0:
			r.tx.InForce(r.o.Uptime())
			r.publish()
			t.answer(verdict{trial: &api.Trial{Pending: r.pendingNow(), Token: t.token, Plan: t.plan}})
		case time.Since(t.told) >= ackPatience:
			r.undo(txn.Failed, "", fmt.Errorf("%s did not take the new configuration within %s", strings.Join(late, ", "), ackPatience))
		}
	}
}

// tending is how long it is until the trial needs another look.
func (r *Reconciler) tending() time.Duration {
	switch {
	case r.trial == nil:
		return tick
	case r.tx.Phase() == txn.Trying:
		return ackEvery
	}
	return r.tx.Left()
}

func (t *trial) answer(v verdict) {
	if t.reply != nil {
		t.reply <- v // has room for it
		t.reply = nil
	}
}

// pendingNow is the trial as it is now.
func (r *Reconciler) pendingNow() api.Pending {
	p := r.trial.pending
	p.Phase = api.Waiting
	if r.tx.Phase() == txn.Trying {
		p.Phase = api.Trying
	}
	p.Left = api.Window(r.tx.Left())
	return p
}

// undo puts what was before the trial into force again, and says why. It goes the way
// of every round: what fails of it is tried again until it is done, and shown as long
// as it is not.
func (r *Reconciler) undo(end txn.End, by string, cause error) *txn.Outcome {
	began := time.Now()
	t := r.trial
	o := r.tx.Trial().Outcome(end, r.clock.now())
	o.By = by
	if cause != nil {
		o.Detail = cause.Error()
	}
	if err := r.tx.Undo(o); err != nil {
		r.o.Log.Error("keep why a change is undone", "err", err)
	}
	r.trial, r.outcome = nil, &o
	r.target, r.confirmed, r.rescued, r.unloaded = t.target, t.confirmed, t.rescued, 0
	r.clock.mark = t.mark
	r.trialPins = trialPins{}
	r.round()
	if err := r.tx.Undone(); err != nil {
		r.o.Log.Error("forget the change that was undone", "err", err) // the next change does, or the next start
	}
	left := news(r.last.errs, t.errs)
	r.o.Log.Error("change undone", "id", o.ID, "author", o.Author, "end", o.End, "by", o.By, "err", cause,
		"took", time.Since(began).Round(time.Millisecond), "steps", len(r.last.steps), "left", len(left))
	if cause == nil {
		cause = errors.New(outcomeOf(&o).String())
	}
	if len(left) > 0 {
		cause = errors.Join(cause, fmt.Errorf("go back to the configuration before: %w", errors.Join(left...)))
	}
	t.answer(verdict{err: cause})
	r.publish()
	return &o
}

// outcomeOf is an outcome as the API tells it.
func outcomeOf(o *txn.Outcome) *api.Outcome {
	if o == nil {
		return nil
	}
	return &api.Outcome{
		ID: o.ID, Author: o.Author, Via: api.Via(o.Via), Why: o.Why, Name: o.Name, Time: o.Time, End: api.End(o.End), By: o.By, Detail: o.Detail,
	}
}

// confirm makes the trial the confirmed configuration, if c is its author's word.
func (r *Reconciler) confirm(c api.Confirm) (*api.Confirmed, error) {
	err := r.tx.Confirm(txn.Confirmation{Token: c.Token, Identity: c.Origin.Identity, Connected: c.Origin.Connected}, r.clock.now())
	switch {
	case err == nil:
	case errors.Is(err, txn.ErrNone):
		return nil, r.noTrial(err)
	case errors.Is(err, txn.ErrOver):
		return nil, api.Tell(api.ErrNothing, err)
	case errors.Is(err, txn.ErrNotYet):
		return nil, api.Tell(api.ErrTooEarly, err)
	case errors.Is(err, txn.ErrToken), errors.Is(err, txn.ErrIdentity), errors.Is(err, txn.ErrConnection):
		return nil, api.Tell(api.ErrDenied, err)
	default:
		r.undo(txn.Failed, "", err)
		return nil, err
	}
	t := r.trial
	o := r.tx.Trial().Outcome(txn.Confirmed, r.clock.now())
	r.trial, r.outcome = nil, &o
	r.kept()
	r.o.Log.Info("change confirmed", "id", o.ID, "author", o.Author, "via", o.Via, "why", o.Why, "steps", t.pending.Steps)
	return r.target.confirmed, nil
}

// noTrial says that there is none, and what became of the last.
func (r *Reconciler) noTrial(err error) error {
	if o := outcomeOf(r.outcome); o != nil {
		err = fmt.Errorf("%w; the last one by %s: %s", err, cmp.Or(o.Author, "somebody"), o)
	}
	return api.Tell(api.ErrNothing, err)
}

// cancel undoes the trial because somebody wants it.
func (r *Reconciler) cancel(c api.Cancel) (*api.Outcome, error) {
	switch {
	case r.trial != nil && (c.ID == "" || c.ID == r.trial.pending.ID):
		return outcomeOf(r.undo(txn.Canceled, c.Author, nil)), nil
	case c.ID != "":
		return nil, r.noTrial(errors.New("the change is not pending any more"))
	}
	return nil, r.noTrial(txn.ErrNone)
}
