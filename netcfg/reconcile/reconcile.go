//go:build linux

// Package reconcile is the body of netcfgd: the one loop that brings the kernel's
// network state and the services' configuration to what the confirmed configuration
// and the facts ask for, and keeps them there.
//
// Each round is the same whatever caused it: learn the facts, compile, observe,
// plan, carry the steps out, tell the services, end connections that no rule allows
// any more. A new configuration, an uplink's lease, a rule that ends, a cable or a
// stranger's hand on the kernel differ only in what the round finds to do.
//
// The package never decides what a configuration means and knows nothing of
// netlink: the former is compile's duty, the latter apply's.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
	updates "bulkhead/services/update/api"
)

// The paces of the loop.
const (
	tick       = time.Second            // how often the clock on the wall is looked at
	lookEvery  = 5 * time.Second        // how often drift is looked for that nothing announced
	roundEvery = time.Minute            // how often everything is compiled and compared for nothing
	gap        = 250 * time.Millisecond // from word of a change to the look at it: it comes in swarms
	retryFirst = time.Second            // after a round with errors; doubled after each, up to
	retryLast  = 30 * time.Second
	patience   = 3 // rounds in which the confirmed rules may fail to load before the box goes to rescue
)

// kernel is what the loop needs of [apply.Kernel].
type kernel interface {
	Facts() ([]facts.Link, facts.Kernel, error)
	Observe(desired state.State) (state.State, error)
	Do(plan.Step) error
	Watch(context.Context) (<-chan struct{}, error)
	Culprit(plan.Finding) string
	Neighbours() (map[netip.Addr]model.MAC, error)
}

// conntrack is what it needs of [apply.Conntrack].
type conntrack interface {
	Each(func(apply.Conn)) error
	Sweep(judge func(apply.Conn) (keep bool, mark uint32)) (deleted, remarked int, err error)
}

// counters is what it needs of [apply.Rulesets].
type counters interface {
	Counters() (map[string]apply.Counter, error)
}

// updated is what it needs of updated's client.
type updated interface {
	Keys(context.Context) (updates.Keys, error)
}

// Options are what a [Reconciler] is made of.
type Options struct {
	Kernel    kernel
	Conntrack conntrack
	Counters  counters
	Store     *txn.Store
	Secrets   *secrets.Store
	NoState   error            // why nothing can be written to Store, as [txn.Open] said: nothing may be confirmed
	Volatile  bool             // NoState goes further: Store is a stand-in that holds nothing and is gone after a reboot
	Setup     bool             // let the owner in without a configuration, if there never was one: see [setup]
	State     string           // state directory of all services, for what is pushed; "": nothing is
	Run       string           // run directory: what services are told, and what they tell
	Provided  []facts.Provided // VLANs that come as links of their own
	Log       *slog.Logger
	Wall      func() time.Time     // the clock on the wall, which may be set at any time
	Uptime    func() time.Duration // [api.Uptime], or does as it does
	Updates   updated              // for backups; nil: there is no updated
	// WatchFile is [file.Watch], or does as it does.
	WatchFile func(ctx context.Context, path string) (<-chan struct{}, error)
}

// A Reconciler owns the network state of the box while Run runs. Its methods may
// be called by anyone; all fields but o, leases, requests and seen belong to Run.
type Reconciler struct {
	o     Options
	clock clock

	noState   error  // why nothing may be confirmed
	target    target // what is in force, or meant to be
	tx        *txn.Transaction
	trial     *trial       // the change that is on trial; nil: none is
	outcome   *txn.Outcome // of the last one
	confirmed *target      // the confirmed configuration, while it cannot be loaded and target is rescue
	setup     setup
	pins      map[string]netip.Addr // given to devices
	trialPins trialPins             // the same, for the change on trial or just confirmed
	isolated  []isolation           // the latest last
	lease     leaseFile
	leases    leasesFile
	last      outcome           // of the last round
	handed    map[string]string // digests of what services were last told, by name
	settled   state.State       // what the last rounds left behind, without a table; none: not known
	// lockedDown says that there were no rules at the start, and the box was closed.
	lockedDown bool
	drift      drift  // what others did to that
	exported   export // what pushd was last given of the history
	swept      string // digest of the rules that connections were last judged by
	rescued    bool   // the rescue file is that of target
	reason     string // why the box is closed, as last logged
	unloaded   int    // rounds in a row in which the rules could not be loaded

	retry time.Duration // after the last round; 0: it had no errors
	wake  time.Time     // when the next round is due by itself

	told   bool      // somebody has changed something since the last look
	lookAt time.Time // when the next is due
	calmAt time.Time // until when drift waits that opens no door

	started  time.Time
	cut      uint64
	repairs  uint64
	repaired *api.Repair

	requests chan func()
	seen     atomic.Pointer[view]
}

// New returns a reconciler that has not touched anything yet.
func New(o Options) *Reconciler {
	return &Reconciler{
		o: o, noState: o.NoState, clock: clock{wall: o.Wall}, started: o.Wall(),
		lease:    leaseFile{path: filepath.Join(o.Run, svcconf.Wand.Name, svcconf.UplinkFile)},
		leases:   leasesFile{path: filepath.Join(o.Run, svcconf.Dhcpd.Name, svcconf.LeasesFile)},
		requests: make(chan func()), handed: map[string]string{}, tx: txn.New(o.Store),
	}
}

// Run keeps the box as it is meant to be until ctx ends, and returns ctx's error.
// It leaves everything in force: the rules outlive the process that loaded them.
func (r *Reconciler) Run(ctx context.Context) error {
	if err := r.lockDown(); err != nil {
		// The rounds below will not open anything before rules are in, either.
		r.o.Log.Error("close the box first", "err", err)
	}
	r.prepare()
	r.load()
	r.loadDrift()
	r.recall()
	defer r.saveDrift(true)
	uplink := r.lease.path
	kernelChanged, fileChanged := make(chan struct{}, 1), make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.watch(ctx, "kernel", kernelChanged, r.o.Kernel.Watch) })
	g.Go(func() error {
		return r.watch(ctx, uplink, fileChanged, func(ctx context.Context) (<-chan struct{}, error) {
			return r.o.WatchFile(ctx, uplink)
		})
	})
	g.Go(func() error { return r.loop(ctx, kernelChanged, fileChanged) })
	return g.Wait()
}

// watch passes on what a watcher sees, and starts another whenever one gives up.
// What happened between the two is found by looking, so it tells of a change each
// time.
func (r *Reconciler) watch(ctx context.Context, what string, tell chan<- struct{}, watch func(context.Context) (<-chan struct{}, error)) error {
	said := ""
	for {
		changes, err := watch(ctx)
		if err != nil && err.Error() != said {
			said = err.Error()
			r.o.Log.Error("watch", "what", what, "err", err)
		}
		if err == nil {
			said = ""
			poke(tell)
			for range changes {
				poke(tell)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryFirst):
		}
	}
}

// poke leaves word without waiting: one word stands for any number.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loop runs rounds when they are due.
func (r *Reconciler) loop(ctx context.Context, kernelChanged, fileChanged <-chan struct{}) error {
	r.round()
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		r.tend()
		timer.Reset(max(0, min(tick, time.Until(r.wake), time.Until(r.lookAt), r.clock.left(), r.tending())))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-r.requests:
			f()
		case <-fileChanged:
			r.wakeIn(gap)
		case <-kernelChanged:
			r.lookIn(gap)
		case now := <-timer.C:
			if !now.Before(r.wake) || r.clock.due() {
				r.round()
			} else if !now.Before(r.lookAt) {
				r.look()
			}
			r.saveDrift(false)
		}
	}
}

// wakeIn makes sure that a round comes within d.
func (r *Reconciler) wakeIn(d time.Duration) {
	if at := time.Now().Add(d); r.wake.IsZero() || at.Before(r.wake) {
		r.wake = at
	}
}

// do runs f in the loop, between rounds.
func (r *Reconciler) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case r.requests <- func() { defer close(done); f() }:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done // what was begun is finished, whether or not the caller stays
	return nil
}

// safely turns a panic of f into an error. A bug in what compiles a file must not
// keep the box from being closed, or its owner from mending the file.
func safely(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	f()
	return nil
}

// texts are errors as the status shows them.
func texts(errs []error) []string {
	list := make([]string, len(errs))
	for i, err := range errs {
		list[i] = err.Error()
	}
	return list
}

var errNoResult = errors.New("there is no compiled configuration yet")
