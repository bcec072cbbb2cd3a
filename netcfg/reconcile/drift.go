//go:build linux

package reconcile

import (
	"errors"
	"io/fs"
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

// close notes what was put right by a time, and returns it.
func (d *drift) close(now time.Time, which func(api.Drift) bool) (put []api.Drift) {
	d.open = false
	for i := range d.list {
		e := &d.list[i]
		switch {
		case !e.Repaired.IsZero():
		case which(*e):
			e.Repaired, d.unsaved = now, true
			put = append(put, *e)
		default:
			d.open = true
		}
	}
	return put
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

// findDrift notes what of the observed state is somebody else's doing.
func (r *Reconciler) findDrift(observed, want state.State) {
	if !r.left() {
		return
	}
	r.drift.found(plan.Drift(r.settled, want, observed), r.o.Kernel.Culprit, r.clock.now())
}

// noteRepair notes that all that was found is put right, by some steps.
func (r *Reconciler) noteRepair(steps []string) {
	now := r.clock.now()
	put := r.drift.close(now, func(api.Drift) bool { return true })
	if len(steps) == 0 {
		return
	}
	r.repairs += uint64(len(steps))
	r.repaired = &api.Repair{Time: now, Steps: steps}
	for _, e := range put[:min(len(put), repairShown)] {
		r.repaired.Found = append(r.repaired.Found, e.What)
	}
	before, ok := r.drift.loggable(len(put))
	if !ok {
		return
	}
	args := []any{"steps", len(steps), "first", steps[0]}
	if len(put) > 0 {
		args = append(args, "found", put[0].What, "by", put[0].By)
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
	switch disturbed, urgent := r.disturbed(); {
	case !disturbed:
	case !urgent && time.Now().Before(r.calmAt):
		r.lookAt = r.calmAt
	default:
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

// calm lets drift that opens no door wait after a round, so that who fights cannot have
// the box do rounds for more than a fifth of its time: with 5,000 rules each takes a
// quarter of a second of CPU.
func (r *Reconciler) calm(round time.Duration) {
	r.calmAt = time.Now().Add(min(4*round, lookEvery))
}

// disturbed reports whether the network cards or the kernel's state are not those that
// the last round left behind, and whether that has to be put right at once whatever it
// costs: rules and settings are the doors.
func (r *Reconciler) disturbed() (disturbed, urgent bool) {
	if !r.left() {
		return true, true
	}
	links, _, err := r.o.Kernel.Facts()
	if err != nil || !slices.Equal(links, r.last.facts.Links) {
		return true, true
	}
	observed, err := r.o.Kernel.Observe(r.settled)
	if err != nil {
		return true, true
	}
	steps := plan.Make(observed, r.settled).Steps
	return len(steps) > 0, slices.ContainsFunc(steps, func(s plan.Step) bool {
		return loadsRules(s) || s.Change.Op() == plan.OpSetSysctl
	})
}
