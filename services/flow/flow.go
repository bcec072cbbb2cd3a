//go:build linux

// Package flow records who spoke with whom: it listens to the kernel, makes records of
// what that tells, keeps them, and answers questions about them.
//
// It never changes what becomes of a packet, and sends nothing to anybody.
package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/lookout"
	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
	"bulkhead/services/flow/track"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// The pace of things.
const (
	beat     = time.Second // at most so long until a record is with the store
	minute   = time.Minute // of refusals
	look     = time.Minute // at long connections
	marksTry = 5 * time.Second
)

// marksFile keeps the names of marks, of rules that are gone as well.
const marksFile = "marks.json"

// daemon is the running service.
type daemon struct {
	log     *slog.Logger
	dirs    run.Dirs
	store   *store.Store
	lookout *lookout.Lookout
	live    live

	mu      sync.Mutex
	tracker *track.Tracker
	zones   map[string]bool
	marks   uint64 // track.Tracker.MarksVersion of what is on the disk
	lost    uint64
	unread  uint64
	dropped uint64 // names that dnsd had no room for
	trouble string
	known   bool // what was recorded of connections that are open
}

// Serve runs the service until ctx ends and returns ctx's error then.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	state := dirs.StateDir(svcconf.Flowd.Name)
	d := &daemon{log: log, dirs: dirs}
	var err error
	if d.lookout, err = lookout.Open(log, dirs); err != nil {
		return err
	}
	d.tracker = track.New(time.Now(), d.lookout.Holder)
	d.tracker.Recall()
	d.recall(state)
	// How much is kept is in the configuration, which may come later.
	c, ready := make(chan svcconf.Flow, 1), make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(svcconf.Flowd.Name), func(f svcconf.Flow) error {
			select {
			case c <- f:
			default:
			}
			return d.configure(ctx, f, ready)
		})
	})
	select {
	case <-ctx.Done():
		return g.Wait()
	case f := <-c:
		d.store, err = store.Open(filepath.Join(state, "flows"), store.Options{
			Age: time.Duration(f.Keep.Age), Bytes: f.Keep.Size, Log: log, Collect: d.hand,
		})
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	close(ready)
	// Those who keep records end after those who make them.
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error {
		defer stop()
		return d.observe(ctx, state)
	})
	g.Go(func() error { return ended(keeping, d.store.Run(keeping)) })
	g.Go(func() error { return ended(keeping, d.lookout.Run(keeping)) })
	g.Go(func() error { return d.answer(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, svcconf.Flowd.Name, d.metrics) })
	return g.Wait()
}

// ended returns what made something end before it was to.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// observe makes records until ctx ends, and hands on the last of them.
func (d *daemon) observe(ctx context.Context, state string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.listen(ctx) })
	g.Go(func() error { return d.watch(ctx) })
	g.Go(func() error { return d.count(ctx) })
	g.Go(func() error { return d.hear(ctx) })
	g.Go(func() error { return d.flush(ctx, state) })
	err := g.Wait()
	d.mu.Lock()
	d.tracker.Sum(time.Now())
	d.mu.Unlock()
	d.hand()
	d.keepMarks(state)
	return err
}

// configure follows a configuration.
func (d *daemon) configure(ctx context.Context, f svcconf.Flow, ready <-chan struct{}) error {
	zones := map[string]bool{}
	for _, z := range f.Zones {
		zones[z.Zone] = true
	}
	d.mu.Lock()
	d.zones = zones
	d.tracker.Configure(f)
	d.mu.Unlock()
	d.lookout.Configure(f)
	select {
	case <-ready:
		d.store.Keep(time.Duration(f.Keep.Age), f.Keep.Size)
	case <-ctx.Done():
	default: // the store begins with it
	}
	return nil
}

func (d *daemon) isZone(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.zones[name]
}

// listen follows connections until ctx ends.
func (d *daemon) listen(ctx context.Context) error {
	events, err := capture.OpenEvents(0)
	if err != nil {
		return err
	}
	defer events.Close()
	if err := d.resync(ctx, events); err != nil {
		return err
	}
	d.recorded(ctx)
	for ctx.Err() == nil {
		switch err := d.read(events, time.Now().Add(beat)); {
		case errors.Is(err, capture.ErrLost):
			d.log.Warn("the kernel had no room for events of connections: looking at all of them")
			if err := d.resync(ctx, events); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
	_ = d.drain(context.WithoutCancel(ctx), events) // more than that nobody will hear
	return ctx.Err()
}

// read takes in what the kernel has to tell by a time.
func (d *daemon) read(events *capture.Events, until time.Time) error {
	locked := false
	err := events.Read(until, func(change capture.Change, c *capture.Conn) {
		if !locked { // once for all that are there
			d.mu.Lock()
			locked = true
		}
		if now := time.Now(); change == capture.Begun {
			d.tracker.Begin(c, now)
		} else {
			d.tracker.End(c, now)
		}
	})
	if !locked {
		d.mu.Lock()
	}
	d.unread = events.Unread
	if errors.Is(err, capture.ErrLost) {
		d.lost++
	}
	d.mu.Unlock()
	return err
}

// drain takes in all that waits to be told.
func (d *daemon) drain(ctx context.Context, events *capture.Events) error {
	for ctx.Err() == nil {
		err := d.read(events, time.Now().Add(10*time.Millisecond))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case events.Drained:
			return nil
		}
	}
	return ctx.Err()
}

// resync looks at all connections there are, and then at what the kernel told meanwhile.
//
// What waits is taken in before that: it tells of connections whose end may be lost, and
// as long as it waits the kernel drops all that comes without another word.
func (d *daemon) resync(ctx context.Context, events *capture.Events) error {
	for {
		err := d.drain(ctx, events)
		if err == nil {
			err = d.list(ctx, events)
		}
		if !errors.Is(err, capture.ErrLost) {
			return err
		}
	}
}

// list looks at all connections. With [capture.ErrLost] it was for nothing.
func (d *daemon) list(ctx context.Context, events *capture.Events) error {
	d.mu.Lock()
	d.tracker.Resync()
	d.mu.Unlock()
	err := capture.List(ctx, 0, func(c *capture.Conn) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tracker.Begin(c, time.Now())
	})
	if err != nil {
		return err
	}
	if err := d.drain(ctx, events); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tracker.Resynced(time.Now())
	return nil
}

// recorded finds what was recorded of connections that are open, before this process
// began.
func (d *daemon) recorded(ctx context.Context) {
	d.mu.Lock()
	oldest := d.tracker.Oldest(time.Now())
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tracker.Recalled()
		d.known = true
	}()
	if time.Since(oldest) < track.Part {
		return
	}
	f := record.Filter{Since: oldest, Verdict: record.Allowed}
	err := d.store.Find(ctx, f, 0, func(r *record.Record) bool {
		if r.Ended == record.Continues {
			d.mu.Lock()
			d.tracker.Recorded(r)
			d.mu.Unlock()
		}
		return true
	})
	if err != nil {
		d.log.Warn("parts of long connections may be recorded twice", "err", err)
	}
}

// watch shows refused packets to who watches, until ctx ends.
func (d *daemon) watch(ctx context.Context) error {
	packets, err := capture.OpenLog(0)
	if err != nil {
		return err
	}
	defer packets.Close()
	for ctx.Err() == nil {
		err := packets.Read(time.Now().Add(beat), func(p capture.Packet) {
			d.mu.Lock()
			r := d.tracker.Saw(p, time.Now())
			d.mu.Unlock()
			d.live.tell(r)
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return ctx.Err()
}

// count takes the counts of refusals, every minute of the clock, and looks at long
// connections.
func (d *daemon) count(ctx context.Context) error {
	rules, err := capture.OpenRuleset(0)
	if err != nil {
		return err
	}
	defer rules.Close()
	from := time.Now()
	d.refusals(rules, from, from) // what was counted before
	for {
		next := from.Truncate(minute).Add(minute)
		select {
		case <-ctx.Done():
			// What was counted of this minute must not be taken for the next one's.
			d.refusals(rules, from, time.Now())
			return ctx.Err()
		case <-time.After(time.Until(next)):
		}
		d.refusals(rules, from, next)
		from = next
		d.cut(ctx)
	}
}

func (d *daemon) refusals(rules *capture.Ruleset, from, to time.Time) {
	counters, err := rules.Counters() // before the refusals: see there
	var list []capture.Refusal
	if err == nil {
		list, err = rules.Refusals()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = ""
	if err != nil {
		d.trouble = err.Error()
	}
	if counters != nil {
		d.tracker.Refused(list, counters, from, to)
	}
}

// cut records parts of long connections.
func (d *daemon) cut(ctx context.Context) {
	d.mu.Lock()
	due := d.known && d.tracker.Due(time.Now()) // or a part would be recorded twice
	d.mu.Unlock()
	if !due {
		return
	}
	err := capture.List(ctx, 0, func(c *capture.Conn) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tracker.Cut(c, time.Now())
	})
	if err != nil && ctx.Err() == nil {
		d.log.Warn("look at long connections", "err", err)
	}
}

// flush hands records on until ctx ends.
func (d *daemon) flush(ctx context.Context, state string) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		d.hand()
		d.keepMarks(state)
	}
}

// hand hands records to the store, to the lookout, and to those who watch.
func (d *daemon) hand() {
	d.mu.Lock()
	list := d.tracker.Take(time.Now())
	d.mu.Unlock()
	if len(list) == 0 {
		return
	}
	_ = d.store.Append(list) // what is lost is counted there
	d.lookout.Records(list)
	for i := range list {
		if list[i].Verdict == record.Allowed { // refusals were told as they came
			d.live.tell(list[i])
		}
	}
}

// recall takes back the names of marks.
func (d *daemon) recall(state string) {
	data, err := file.Read(filepath.Join(state, marksFile), 4<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var marks map[uint32]string
	if err == nil {
		err = json.Unmarshal(data, &marks)
	}
	if err != nil {
		d.log.Warn("rules that are gone have no names in records", "err", err)
		return
	}
	d.tracker.Remember(marks)
}

// keepMarks keeps the names of marks once there are others.
func (d *daemon) keepMarks(state string) {
	d.mu.Lock()
	version := d.tracker.MarksVersion()
	if version == d.marks {
		d.mu.Unlock()
		return
	}
	marks := d.tracker.Marks()
	d.mu.Unlock()
	data, err := json.Marshal(marks)
	if err == nil {
		err = file.Replace(filepath.Join(state, marksFile), data, 0o600, -1)
	}
	if err != nil {
		d.log.Warn("keep the names of marks", "err", err)
	}
	d.marks = version // and not again at once
}

// answer serves the API until ctx ends: all of it to root and webuid, and to exportd what
// comes.
func (d *daemon) answer(ctx context.Context) error {
	own := filepath.Join(d.dirs.RunDir(svcconf.Flowd.Name), svcconf.FlowsSocket)
	feed := filepath.Join(d.dirs.RunDir(svcconf.FeedDir), svcconf.FlowsSocket)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.serve(ctx, own, svcconf.Webuid.ID, d.handler()) })
	g.Go(func() error { return d.serve(ctx, feed, svcconf.Exportd.ID, d.feed()) })
	return g.Wait()
}

// serve answers one user, and root, at a socket.
func (d *daemon) serve(ctx context.Context, path string, user int, h http.Handler) error {
	l, err := sock.Listen(path, user, user)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: h, ConnContext: sock.ConnContext,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("answer at %s: %w", path, err)
	}
	return ctx.Err()
}
