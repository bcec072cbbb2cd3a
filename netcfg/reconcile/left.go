//go:build linux

package reconcile

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
	"bulkhead/services/file"
)

// leftFile is in the run directory, where it is gone after a reboot together with the
// state of the kernel that it tells of.
const leftFile = "netcfgd/left.json"

// left reports whether the state that the last rounds left behind is known.
func (r *Reconciler) left() bool { return r.settled.Ruleset.Present() }

// settles reports whether a state is the one left behind, and so nothing else is asked
// for than was before.
func (r *Reconciler) settles(want state.State) bool {
	want.Ruleset.Table = nil // the digest says as much
	return reflect.DeepEqual(want, r.settled)
}

// leave notes that the kernel is as is wanted now, for this process and the next one:
// what others change between the two is drift as well.
func (r *Reconciler) leave(want state.State) {
	if r.settles(want) {
		return
	}
	want.Ruleset.Table = nil
	r.settled = want
	data, err := json.Marshal(want)
	if err == nil {
		err = file.Replace(r.leftPath(), data, 0o600, -1)
	}
	if err != nil {
		r.o.Log.Warn("what is changed while netcfgd does not run will not be recorded", "err", err)
	}
}

// unsettle notes that the kernel is about to be changed to something else, and may
// become anything.
func (r *Reconciler) unsettle() {
	r.settled = state.State{}
	if err := os.Remove(r.leftPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Warn("forget what was left behind", "err", err)
	}
}

// recall reads what an earlier process has left behind. Without it, nothing is taken
// for drift in the first round.
func (r *Reconciler) recall() {
	data, err := os.ReadFile(r.leftPath())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, &r.settled)
	}
	if err != nil {
		r.settled = state.State{}
		r.o.Log.Warn("read what was left behind", "err", err)
	}
	if r.lockedDown { // the rules are others by now, and forwarding is off: by us
		if r.left() {
			gone := r.settled
			gone.Ruleset = state.Ruleset{}
			r.drift.found(plan.Drift(r.settled, r.settled, gone), r.o.Kernel.Culprit, r.clock.now())
		}
		r.unsettle()
	}
}

func (r *Reconciler) leftPath() string { return filepath.Join(r.o.Run, leftFile) }
