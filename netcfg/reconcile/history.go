//go:build linux

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime/debug"
	"unicode/utf8"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/textdiff"
	"bulkhead/netcfg/txn"
)

// What is kept with a change of what it made possible and impossible: lines, and bytes
// of each.
const (
	reachLines = 40
	reachBytes = 240
)

// summary is the first lines of what a change makes possible and impossible, and how
// many there are beside.
func summary(reach []api.Reach) (lines []string, more int) {
	for _, r := range reach[:min(len(reach), reachLines)] {
		lines = append(lines, cut(r.String(), reachBytes))
	}
	return lines, len(reach) - len(lines)
}

// cut shortens a text to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "…"
	for n -= len(dots); !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + dots
}

// History implements [api.Backend].
func (r *Reconciler) History(ctx context.Context) (list []api.Entry, err error) {
	list = []api.Entry{}
	err = r.do(ctx, func() {
		for h := range r.o.Store.Entries() {
			list = append(list, api.Entry{Confirmed: *confirmedBy(&h), Name: h.Name})
		}
	})
	return list, err
}

// Entry implements [api.Backend].
func (r *Reconciler) Entry(ctx context.Context, number int) (*api.Entry, error) {
	h, err := r.entry(ctx, number)
	if err != nil {
		return nil, err
	}
	return &api.Entry{
		Confirmed: *confirmedBy(h), Name: h.Name, Data: h.Config, Reach: h.Reach, MoreReach: h.MoreReach, Sum: h.Sum, Parent: h.Parent,
	}, nil
}

// entry reads the store, which has one user at a time.
func (r *Reconciler) entry(ctx context.Context, number int) (*txn.Entry, error) {
	var h txn.Entry
	var err error
	if ask := r.do(ctx, func() { h, err = r.o.Store.Entry(number) }); ask != nil {
		return nil, ask
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Unknown(fmt.Errorf("the history has no change %d: it keeps the last %d, and those of a year", number, txn.HistoryLimit))
	}
	return &h, err
}

// Diff implements [api.Backend].
func (r *Reconciler) Diff(ctx context.Context, from, to int) (*api.Diff, error) {
	defer debug.FreeOSMemory() // see Apply
	old, err := r.entry(ctx, from)
	if err != nil {
		return nil, err
	}
	new, err := r.entry(ctx, to)
	if err != nil {
		return nil, err
	}
	d := &api.Diff{From: from, To: to, Reach: []api.Reach{}}
	d.Text = textdiff.Unified(fileOf(old), fileOf(new), string(old.Config), string(new.Config))
	v, err := r.looked()
	if err != nil {
		return nil, err
	}
	before, err1 := v.meaning(old)
	after, err2 := v.meaning(new)
	if err := errors.Join(err1, err2); err != nil {
		d.Untold = err.Error()
		return d, nil
	}
	d.Reach = api.ReachOf(before, after)
	return d, nil
}

// fileOf names a change's file for people who compare it with another.
func fileOf(h *txn.Entry) string {
	name := h.Name
	if name == "" {
		name = confirmedName
	}
	return fmt.Sprintf("change %d: %s", h.Number, name)
}

// meaning is what a change of the history would mean today.
func (v *view) meaning(h *txn.Entry) (*policy.Policy, error) {
	cfg, problems, err := parse(conf.ParseConfirmed, api.File{Name: h.Name, Data: h.Config}, v.facts.Now)
	if err == nil && cfg == nil {
		err = problems.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("change %d: %w", h.Number, err)
	}
	f := v.facts
	f.Devices = compile.Pin(cfg, f.Devices, func(netip.Addr) bool { return false })
	result, err := compileWith(target{cfg: cfg}, f)
	if err != nil {
		return nil, fmt.Errorf("change %d: %w", h.Number, err)
	}
	return result.Policy, nil
}

func confirmedBy(h *txn.Entry) *api.Confirmed {
	return &api.Confirmed{Number: h.Number, Time: h.Time, Author: h.Author, Via: api.Via(h.Via), Why: h.Why}
}

// newest returns the newest change of the history, which is the one confirmed.
func (r *Reconciler) newest() *txn.Entry {
	if h, ok := r.o.Store.Newest(); ok {
		return &h
	}
	return nil
}
