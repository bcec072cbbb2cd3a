package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkhead/netcfg/api"
)

// What undoing looks like, and how long it may take.
const (
	undoing   = "Undoing the last change. This takes up to a minute."
	undoLimit = 2 * time.Minute
)

// undoTask tries the configuration before the last change. Whoever stands here reaches
// the box whatever becomes of the network, but perhaps not with what they came to
// mend: they look, and say so.
var undoTask = task{
	title: "Undo the last change", daemon: "netcfgd", working: undoing,
	limit:   undoLimit,
	explain: explainUndo,
	do: func(ctx context.Context, d daemons, author string) (report, error) {
		r, err := undo(ctx, d, author, api.Terms{})
		if refused, ok := errors.AsType[*api.Refused](err); ok && refused.Lockout != "" {
			return report{[]string{"Nothing was undone: " + api.LockoutText(refused.Lockout) + "."}, &insistTask}, nil
		}
		return r, err
	},
}

// insistTask is [undoTask] for who stands here and accepts that nobody reaches the box
// over the network then.
var insistTask = task{
	title: "Undo the last change, and be locked out", daemon: "netcfgd", working: undoing,
	limit: undoLimit,
	asking: "Only this console gets you back in then. It is tried like any change: if you do not keep it, the last change comes back. " +
		"To undo the last change all the same, type three words.",
	explain: func(*world) ([]string, string) { return nil, "lock me out" },
	do: func(ctx context.Context, d daemons, author string) (report, error) {
		return undo(ctx, d, author, api.Terms{AcceptLockout: true})
	},
}

func undo(ctx context.Context, d daemons, author string, terms api.Terms) (report, error) {
	t, err := d.network.Undo(ctx, api.Undo{Author: author, Via: api.ViaConsole, Terms: terms})
	if err != nil {
		return report{}, err
	}
	return report{undone(t.Plan), keepTask(t.Token, t.Left)}, nil
}

// keepTask keeps what was tried here.
func keepTask(token string, left api.Window) *task {
	return &task{
		title: "Keep what is in force now", daemon: "netcfgd", working: "Confirming.",
		limit:  30 * time.Second,
		leave:  "The change before it comes back by itself.",
		asking: fmt.Sprintf("See whether all works again, and keep it within %s: if you do not, the last change comes back.", left),
		explain: func(*world) ([]string, string) {
			return nil, "keep"
		},
		do: func(ctx context.Context, d daemons, _ string) (report, error) {
			_, err := d.network.Confirm(ctx, api.Confirm{Token: token})
			return report{words: []string{"It stays."}}, err
		},
	}
}

// cancelTask undoes a change that nobody has confirmed.
var cancelTask = task{
	title: "Undo the change on trial", daemon: "netcfgd", working: "Undoing the change on trial. This takes up to a minute.",
	limit: 2 * time.Minute,
	explain: func(w *world) ([]string, string) {
		return []string{"A change is in force that its author has not confirmed yet. This undoes it now, instead of when its time is over.", onTrial(w.status.value)}, "undo"
	},
	do: func(ctx context.Context, d daemons, author string) (report, error) {
		_, err := d.network.Cancel(ctx, api.Cancel{Author: author})
		if errors.Is(err, api.ErrNothing) {
			return report{words: []string{"There was nothing to undo any more: " + err.Error() + "."}}, nil
		}
		return report{words: []string{"The change is undone. The configuration before it is in force."}}, err
	},
}

// pending reports whether a change is on trial.
func (w *world) pending() bool { return w.status.ok() && w.status.value.Pending != nil }

// onTrial says whose change is on trial, and until when.
func onTrial(s *api.Status) string {
	p := s.Pending
	words := fmt.Sprintf("a change by %s (%s), undone at %s unless they confirm it", orNone(p.Author), p.Via, clock(p.Deadline, s))
	if p.Why != "" {
		words += ": " + p.Why
	}
	return words
}
