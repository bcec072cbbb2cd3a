//go:build linux

package reconcile

import "time"

// clockFile keeps the [clock]'s mark over reboots.
const clockFile = "clock.json"

// markEvery is how often the mark is saved for its own sake. What matters is that
// it is saved whenever a rule ends; this bounds how far a clock without a battery
// can fall back.
const markEvery = 6 * time.Hour

// clock is the time by which rules end. It is the clock on the wall, except that it
// never goes back and never stands still: a rule that has ended stays ended after the
// wall's clock was set back, and after a boot with a clock that has lost its battery,
// and one that has not ends no later for it. Only a new configuration, being
// somebody's decision, resets it.
type clock struct {
	wall func() time.Time
	mark instant
	next time.Time // when the next rule ends; zero: none does
	save time.Time // when the mark is to be saved again
}

// instant is a time by the clock, and when it was that by the machine's own count.
type instant struct {
	time time.Time // without a monotonic reading, which would hide a step
	at   time.Time // monotonic; zero: unknown
}

// passed returns the time that it is by now, or wall if that is later.
func (i instant) passed(wall time.Time) time.Time {
	t := i.time
	if !i.at.IsZero() {
		t = t.Add(time.Since(i.at))
	}
	if wall = wall.Round(0); wall.After(t) {
		return wall
	}
	return t
}

// mark is what is saved of a clock.
type mark struct {
	High time.Time `json:"high"`
}

// set makes it t.
func (c *clock) set(t time.Time) { c.mark = instant{t.Round(0), time.Now()} }

// now returns the time.
func (c *clock) now() time.Time {
	c.set(c.mark.passed(c.wall()))
	return c.mark.time
}

// reset takes the wall's word again.
func (c *clock) reset() { c.set(c.wall()) }

// due reports whether a rule has ended since the last round.
func (c *clock) due() bool { return !c.next.IsZero() && !c.now().Before(c.next) }

// left is how long it is until the next rule ends, or until the clock is worth
// another look.
func (c *clock) left() time.Duration {
	if c.next.IsZero() {
		return tick
	}
	return c.next.Sub(c.now())
}

// keepMark saves the mark if a rule has ended since it was last saved, or it is old. It
// comes before the round that removes the rule. A change on trial may have set the
// clock back, for which nobody has decided yet: the clock from before is kept then.
func (r *Reconciler) keepMark() error {
	c := &r.clock
	now := c.now()
	if r.noState != nil || !c.due() && now.Before(c.save) {
		return nil
	}
	high := now
	if r.trial != nil {
		high = r.trial.mark.passed(c.wall())
	}
	if err := r.o.Store.Save(clockFile, mark{high}); err != nil {
		return err
	}
	c.save = now.Add(markEvery)
	return nil
}
