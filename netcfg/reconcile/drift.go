//go:build linux

package reconcile

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// driftFile keeps the record of drift over reboots.
const driftFile = "drift.json"

// Bounds on the record of drift. What is changed is put right whatever they say: they
// keep somebody who changes things again and again from filling the disk, and from
// pushing out of the record what else there was.
const (
	driftKept   = 100         // entries
	driftSame   = time.Hour   // the same, found again within that, is no new entry
	driftBurst  = 40          // new entries at once; after that, one for each
	driftRefill = time.Minute // of these
	driftSave   = time.Minute // between two writes
	driftLog    = time.Second // between two lines in the log; doubled after each, up to
	driftLogMax = 10 * time.Minute
)

// tooMany stands for all that the record has no place for.
const tooMany = "more things than are recorded one by one"

// drift is the record of what others did to what is ours.
type drift struct {
	list []api.Drift // oldest first
	open bool        // some of it is not put right yet

	spent    int       // of driftBurst
	refilled time.Time // when a part of it was last given back

	unsaved bool
	saved   time.Time // when it was last tried
	trouble string    // with saving

	logAt  time.Time     // when the next line may be logged
	logGap time.Duration // after that
	unsaid int           // findings since the last line
}

// culprit says who did what was found.
type culprit func(plan.Finding) string

// found notes what is not as it was left, at a time. What was open and is not among it
// any more has been put right.
func (d *drift) found(list []plan.Finding, by culprit, now time.Time) {
	d.close(now, func(e api.Drift) bool {
		return e.What != tooMany && !slices.ContainsFunc(list, func(f plan.Finding) bool { return f.What == e.What })
	})
	for _, f := range list {
		e := d.entry(f.What, now)
		if e == nil {
			if e = d.begin(f.What, now); e == nil {
				continue
			}
		} else if !e.Repaired.IsZero() {
			e.Times, e.Last, e.Repaired = e.Times+1, now, time.Time{}
		}
		if who := by(f); e.What != tooMany && who != "" {
			e.By = who
		}
		d.open, d.unsaved = true, true
	}
}

// entry returns the entry that stands for the same, or nil.
func (d *drift) entry(what string, now time.Time) *api.Drift {
	for i := range d.list {
		if e := &d.list[i]; e.What == what && (e.Repaired.IsZero() || now.Sub(e.Last) < driftSame) {
			return e
		}
	}
	return nil
}

// begin returns a new entry, or the one that stands for too many.
func (d *drift) begin(what string, now time.Time) *api.Drift {
	since := time.Since(d.refilled)
	if back := int(min(since/driftRefill, driftBurst)); back > 0 {
		d.spent, d.refilled = max(0, d.spent-back), time.Now()
	}
	if d.spent >= driftBurst {
		if e := d.entry(tooMany, now); e != nil {
			e.Times, e.Last = e.Times+1, now
			e.Repaired = time.Time{}
			return e
		}
		what = tooMany
	}
	d.spent++
	d.list = append(d.list, api.Drift{What: what, Noticed: now, Last: now, Times: 1})
	if more := len(d.list) - driftKept; more > 0 {
		d.list = slices.Delete(d.list, 0, more)
	}
	return &d.list[len(d.list)-1]
}

// close notes what was put right by a time.
func (d *drift) close(now time.Time, which func(api.Drift) bool) {
	d.open = false
	for i := range d.list {
		e := &d.list[i]
		switch {
		case !e.Repaired.IsZero():
		case which(*e):
			e.Repaired, d.unsaved = now, true
		default:
			d.open = true
		}
	}
}

// loggable reports whether the log may have another line, for n findings, and how many
// findings it has not been told of before. Who goes on and on is told of less and less.
func (d *drift) loggable(n int) (before int, ok bool) {
	now := time.Now()
	if now.Before(d.logAt) {
		d.unsaid += n
		return 0, false
	}
	if d.logGap == 0 || now.Sub(d.logAt) > driftLogMax {
		d.logGap = driftLog
	}
	d.logAt = now.Add(d.logGap)
	d.logGap = min(2*d.logGap, driftLogMax)
	before, d.unsaid = d.unsaid, 0
	return before, true
}

// newestFirst is the record as it is shown.
func (d *drift) newestFirst() []api.Drift {
	list := slices.Clone(d.list)
	slices.SortStableFunc(list, func(a, b api.Drift) int { return b.Last.Compare(a.Last) })
	if list == nil {
		list = []api.Drift{}
	}
	return list
}

// loadDrift reads the record of earlier runs.
func (r *Reconciler) loadDrift() {
	err := r.o.Store.Load(driftFile, &r.drift.list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Warn("the record of drift is lost", "err", err)
		r.drift.list = nil
	}
}

// saveDrift writes the record if there is something new, but not all the time unless
// it is now or never.
func (r *Reconciler) saveDrift(last bool) {
	d := &r.drift
	if !d.unsaved || r.noState != nil || !last && !d.saved.IsZero() && time.Since(d.saved) < driftSave {
		return
	}
	d.saved = time.Now()
	trouble := ""
	if err := r.o.Store.Save(driftFile, d.list); err != nil {
		trouble = err.Error()
	}
	d.unsaved = trouble != ""
	if trouble != "" && trouble != d.trouble {
		r.o.Log.Warn("save the record of drift", "err", trouble)
	}
	d.trouble = trouble
}

// left reports whether the state that the last round left behind is known.
func (r *Reconciler) left() bool { return r.settled.Ruleset.Present() }

// settles reports whether a state is the one left behind, and so nothing else is asked
// for than was before.
func (r *Reconciler) settles(want state.State) bool {
	want.Ruleset.Table = nil // the digest says as much
	return reflect.DeepEqual(want, r.settled)
}

// findDrift notes what of the observed state is somebody else's doing.
func (r *Reconciler) findDrift(observed, want state.State) {
	if !r.left() {
		return
	}
	list := plan.Drift(r.settled, want, observed)
	r.drift.found(list, r.o.Kernel.Culprit, r.clock.now())
	r.found = append(r.found, list...)
}

// noteRepair notes that all that was found is put right, by some steps.
func (r *Reconciler) noteRepair(steps []string) {
	now := r.clock.now()
	r.drift.close(now, func(api.Drift) bool { return true })
	if len(steps) == 0 {
		return
	}
	var found []string
	for _, f := range r.found {
		if len(found) < repairShown {
			found = append(found, f.What)
		}
	}
	r.repairs += uint64(len(steps))
	r.repaired = &api.Repair{Time: now, Steps: steps, Found: found}
	before, ok := r.drift.loggable(len(r.found))
	if !ok {
		return
	}
	args := []any{"steps", len(steps), "first", steps[0]}
	if len(r.found) > 0 {
		args = append(args, "found", r.found[0].What, "by", r.o.Kernel.Culprit(r.found[0]))
	}
	if before > 0 {
		args = append(args, "unsaid", before)
	}
	r.o.Log.Warn("drift put right", args...)
}

// repairShown bounds what the status shows of one repair.
const repairShown = 10

// look runs a round if there is something to do for one. It is far cheaper than a
// round, which compiles everything anew: that is why it can come often.
func (r *Reconciler) look() {
	told := r.told
	r.told, r.lookAt = false, time.Now().Add(lookEvery)
	if !told && r.retry > 0 {
		return // a round is due anyway, at its own pace
	}
	if r.disturbed() {
		r.round()
	}
}

// lookIn makes sure that a look comes within d, for somebody has told of a change.
func (r *Reconciler) lookIn(d time.Duration) {
	r.told = true
	if at := time.Now().Add(d); at.Before(r.lookAt) {
		r.lookAt = at
	}
}

// disturbed reports whether the network cards or the kernel's state are not those that
// the last round left behind.
func (r *Reconciler) disturbed() bool {
	if !r.left() {
		return true
	}
	links, _, err := r.o.Kernel.Facts()
	if err != nil || !slices.Equal(links, r.last.facts.Links) {
		return true
	}
	observed, err := r.o.Kernel.Observe(r.settled)
	return err != nil || len(plan.Make(observed, r.settled).Steps) > 0
}
