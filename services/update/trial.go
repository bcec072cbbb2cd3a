//go:build linux

package update

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/gate"
)

// TrialTime is how long a trial waits for the box to be as good as before. In init,
// boot.Guard waits a little longer, in case that this does not run at all.
const TrialTime = 3 * time.Minute

// lookAgain is how long it is between two looks.
const lookAgain = 2 * time.Second

// settle finds out what became of the last update. It returns what is left to do, which
// may take as long as a trial. Nobody may be listened to before: they would not be told
// that the running slot has yet to prove itself.
func (u *updater) settle() (rest func(context.Context) error, err error) {
	var own, other boot.Status
	err = u.esp(func(e *boot.ESP) error {
		var err error
		if own, err = e.Status(u.box.slot); err != nil {
			return err
		}
		if other, err = e.Status(u.other()); err != nil {
			u.log.Warn("there is no other slot", "err", err) // nor will be: but this one may be well
			other.State = boot.Disabled
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if u.box.info.Version == "" {
		u.box.info.Version = own.Entry.Version
		u.box.info.Built, _ = time.Parse(time.RFC3339, own.Entry.Built) // zero if the entry does not say
	}
	switch v := judge(u.box.slot, u.box.bootID, own.State, other.State, u.store.get().Pending); v.next {
	case onTrial:
		u.trial = true
		return func(ctx context.Context) error { return u.hold(ctx, other.State == boot.Good) }, nil
	case goOn:
		u.log.Info("the update is armed: go on where we were interrupted")
		u.restartSoon()
	case over:
		return nothingLeft, u.over(u.store.get().Pending, v.outcome, v.why)
	case nothing:
		if s := u.store.get(); u.box.info.Built.After(s.Newest) {
			u.note(func(s *state) { s.Newest = later(s.Newest, u.box.info.Built) })
		}
	}
	return nothingLeft, nil
}

func nothingLeft(context.Context) error { return nil }

// note changes what is remembered, if it can. On a full disk the box goes on without.
func (u *updater) note(f func(*state)) {
	if err := u.store.update(func(s *state) error { f(s); return nil }); err != nil {
		u.log.Error("note how an update went", "err", err)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// next is what follows from how the slots are found at start.
type next int

const (
	nothing next = iota
	onTrial      // the running slot has to prove itself
	goOn         // the other slot is armed, and this boot is the one that armed it
	over         // the update has ended: with an outcome
)

type verdict struct {
	next
	outcome, why string
}

// diedSilently is why an update is undone that left no word.
const diedSilently = "it was started and did not get to its health check: its kernel panicked, its init ended, or it hung until the watchdog or somebody restarted the box"

// judge says how an update went, by the slots' states and what was noted when it was
// armed.
func judge(running boot.Slot, bootID string, own, other boot.State, p *pending) verdict {
	switch {
	case own != boot.Good:
		return verdict{next: onTrial}
	case p == nil:
		return verdict{}
	case p.Slot == running: // blessed, and the power went before that was noted
		return verdict{over, api.Kept, ""}
	case other == boot.Good: // likewise, and somebody chose this one in the boot menu
		return verdict{over, api.Kept, ""}
	case other == boot.Armed && p.BootID == bootID:
		return verdict{next: goOn}
	case other == boot.Armed:
		return verdict{over, api.Abandoned, "the boot loader did not try it: its menu, the firmware, or a loader.conf chose another entry"}
	case other == boot.Disabled:
		return verdict{over, api.Abandoned, "the power went, or updated ended, before it was complete"}
	case p.Why != "":
		return verdict{over, api.Undone, p.Why}
	}
	return verdict{over, api.Undone, diedSilently}
}

// over notes how an update ended.
func (u *updater) over(p *pending, outcome, why string) error {
	if outcome == api.Abandoned {
		// So that no later boot tries it, of which nobody thinks any more.
		if err := u.esp(func(e *boot.ESP) error { return e.Disable(u.other()) }); err != nil {
			return err
		}
	}
	u.log.Info("an update has ended", "version", p.Version, "outcome", outcome, "why", why)
	u.note(func(s *state) {
		s.Last = &api.Outcome{Outcome: outcome, Why: why, Version: p.Version, Author: p.Author, Time: time.Now().UTC()}
		s.Pending = nil
		if s.Newest = later(s.Newest, u.box.info.Built); outcome == api.Kept {
			s.Newest = later(s.Newest, p.Built)
		}
	})
	return nil
}

// hold waits until the running system is as good as the one before, and keeps it. If
// that takes too long and there is a way back, it goes that way.
func (u *updater) hold(ctx context.Context, wayBack bool) error {
	p := u.store.get().Pending
	if p == nil || p.Slot != u.box.slot {
		// It was armed without a note, as by hand: it has to be well by itself.
		p = &pending{Slot: u.box.slot, Version: u.box.info.Version, Built: u.box.info.Built}
	}
	u.log.Info("this system is on trial", "version", p.Version, "for", u.trialTime)
	for {
		bad := u.prove(ctx, p.Before)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(bad) == 0 {
			err := u.esp(func(e *boot.ESP) error { return e.Bless(u.box.slot) })
			if err == nil {
				break
			}
			bad = []string{err.Error()}
		}
		if wayBack {
			return u.undo(strings.Join(bad, "; "))
		}
		u.log.Error("this system is not well, and there is no other to go back to", "why", strings.Join(bad, "; "))
	}
	u.mu.Lock()
	u.trial, u.waiting = false, nil
	u.mu.Unlock()
	return u.over(p, api.Kept, "")
}

// prove looks until all is well, twice in a row, or the time of a trial is over. It
// returns what is not.
func (u *updater) prove(ctx context.Context, before gate.Before) []string {
	ctx, cancel := context.WithTimeout(ctx, u.trialTime) // by the monotonic clock
	defer cancel()
	bad, well := []string{"there was no time to look"}, 0
	for {
		look := u.look.Look(ctx)
		if ctx.Err() != nil {
			return bad // what was cut short says nothing
		}
		if bad = gate.Judge(before, look); len(bad) > 0 {
			well = 0
		} else if well++; well == 2 {
			return nil
		}
		u.mu.Lock()
		u.waiting = bad
		u.mu.Unlock()
		select {
		case <-ctx.Done():
			if len(bad) == 0 {
				bad = []string{"it was well only when the time was over"}
			}
			return bad
		case <-time.After(u.lookAgain):
		}
	}
}

// undo notes why and goes back to the other slot, which the boot loader prefers since
// this one's try is spent.
func (u *updater) undo(why string) error {
	u.log.Error("the update did not prove itself: back to the system before", "why", why)
	u.note(func(s *state) {
		if s.Pending != nil {
			p := *s.Pending
			p.Why = why
			s.Pending = &p
		}
	})
	if err := u.esp(func(e *boot.ESP) error { return e.MarkTried(u.box.slot) }); err != nil {
		u.log.Error("spend the try", "err", err)
	}
	u.restartSoon()
	return nil
}

// status says how all of it is.
func (u *updater) status() (api.Status, error) {
	st := api.Status{Arch: u.box.arch, Slot: u.box.slot.String(), Kernel: u.box.kernel}
	err := u.esp(func(e *boot.ESP) error {
		other, err := e.Status(u.other())
		if err != nil {
			st.Other.State = "missing"
			return nil
		}
		st.Other = api.Other{Version: other.Entry.Version, State: other.State.String()}
		if other.State == boot.Tried {
			st.Other.State = "failed"
		}
		st.Other.Built, _ = time.Parse(time.RFC3339, other.Entry.Built)
		if other.State == boot.Disabled {
			st.Other.Version, st.Other.Built = "", time.Time{} // of what was there before
		}
		return nil
	})
	if err != nil {
		return st, fmt.Errorf("read the boot partition: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	st.Version, st.Built = u.box.info.Version, u.box.info.Built
	st.Trial, st.Waiting = u.trial, u.waiting
	if u.staging != nil {
		st.Staging = u.staging.status()
	}
	st.Last = u.store.get().Last
	return st, nil
}
