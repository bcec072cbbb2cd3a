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
// never goes back: a rule that has ended stays ended after the wall's clock was set
// back, and after a boot with a clock that has lost its battery. Only a new
// configuration, being somebody's decision, resets it.
type clock struct {
	wall func() time.Time
	high time.Time // the latest time seen
	next time.Time // when the next rule ends; zero: none does
	save time.Time // when the mark is to be saved again
}

// mark is what is saved of a clock.
type mark struct {
	High time.Time `json:"high"`
}

// now returns the time, without the monotonic reading that would hide a step.
func (c *clock) now() time.Time {
	if t := c.wall().Round(0); t.After(c.high) {
		c.high = t
	}
	return c.high
}

// reset takes the wall's word again.
func (c *clock) reset() { c.high = c.wall().Round(0) }

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
// comes before the round that removes the rule.
func (r *Reconciler) keepMark() error {
	c := &r.clock
	now := c.now()
	if !c.due() && now.Before(c.save) {
		return nil
	}
	if err := r.o.Store.Save(clockFile, mark{now}); err != nil {
		return err
	}
	c.save = now.Add(markEvery)
	return nil
}
