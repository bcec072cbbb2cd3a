// Package alert decides which events are worth waking somebody for, and when, and writes
// what is sent then: to a webhook, to ntfy, by mail.
//
// It is told the time and sends nothing. Names in events are chosen by strangers, so
// they appear in bodies only, never where a receiver would take them for more.
package alert

import (
	"slices"
	"time"

	"bulkhead/services/flow/record"
)

// Bounds.
const (
	maxKeys = 4096 // of events that would be no news
	maxHeld = 64   // events in one notice
)

// Rules say which events somebody wants to hear of.
type Rules struct {
	Kinds []record.Kind // nil: all
	Again time.Duration // for so long the same event is no news
	Limit int           // notices in an hour
	// Quiet is when nothing is sent, in minutes since midnight in Zone; it may lie over
	// midnight. None if both are equal.
	QuietFrom, QuietTo int
	Zone               *time.Location
}

// Gate holds events back until they may be told. It may not be used by several
// goroutines.
type Gate struct {
	rules Rules
	told  map[string]time.Time // when the event with a key was first news
	order []string             // the keys, in the order of that
	sent  []time.Time          // of notices, within the last hour
	held  Notice
}

// Notice is what is sent at once: one event, or those that had to wait.
type Notice struct {
	Events []record.Event
	More   int // that there was no room for
	test   bool
}

// NewGate returns a gate for the rules.
func NewGate(r Rules) *Gate { return &Gate{rules: r, told: make(map[string]time.Time)} }

// Add takes an event, and reports whether it is news.
func (g *Gate) Add(now time.Time, e record.Event) bool {
	if g.rules.Kinds != nil && !slices.Contains(g.rules.Kinds, e.Kind) {
		return false
	}
	key := string(e.Kind) + " " + e.Key
	if at, known := g.told[key]; known && now.Sub(at) < g.rules.Again {
		return false
	}
	g.remember(now, key)
	if len(g.held.Events) == maxHeld {
		g.held.More++
	} else {
		g.held.Events = append(g.held.Events, e)
	}
	return true
}

// remember notes that an event was news. Of too many, it forgets the oldest: that one
// may be told twice.
func (g *Gate) remember(now time.Time, key string) {
	for len(g.order) > 0 && (len(g.order) == maxKeys || now.Sub(g.told[g.order[0]]) >= g.rules.Again) {
		delete(g.told, g.order[0])
		g.order = g.order[1:]
	}
	g.told[key] = now
	g.order = append(g.order, key)
}

// Waiting returns how many events wait to be told.
func (g *Gate) Waiting() int { return len(g.held.Events) + g.held.More }

// Take returns what may be told now, and otherwise when to ask again; the zero time if
// nothing waits.
func (g *Gate) Take(now time.Time) (n *Notice, next time.Time) {
	if g.Waiting() == 0 {
		return nil, time.Time{}
	}
	if end := g.quietUntil(now); !end.IsZero() {
		return nil, end
	}
	g.sent = slices.DeleteFunc(g.sent, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	if len(g.sent) >= g.rules.Limit {
		return nil, g.sent[0].Add(time.Hour)
	}
	g.sent = append(g.sent, now)
	held := g.held
	g.held = Notice{}
	return &held, time.Time{}
}

// quietUntil returns the end of the quiet hours; the zero time if these are none.
func (g *Gate) quietUntil(now time.Time) time.Time {
	from, to := g.rules.QuietFrom, g.rules.QuietTo
	local := now.In(g.rules.Zone)
	minute := 60*local.Hour() + local.Minute()
	day := 0
	switch {
	case from < to && from <= minute && minute < to, to < from && minute < to:
	case to < from && from <= minute:
		day = 1
	default:
		return time.Time{}
	}
	// The clocks may be changed meanwhile; the hour on the wall counts.
	return time.Date(local.Year(), local.Month(), local.Day()+day, 0, to, 0, 0, g.rules.Zone)
}
