//go:build linux

// Package export sends out what flowd records: flows and refusals to collectors, and
// events to who wants to hear of them. It speaks with the hosts of the configuration and
// with nobody else, and believes nothing that it hears.
//
// It keeps nothing: what waits is in memory, bounded, and what there is no room for is
// counted.
package export

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	_ "time/tzdata" // the box has no time zone database

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export/lines"
	"bulkhead/services/file"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
)

// statusEvery is how often the status file may be written.
const statusEvery = 2 * time.Second

// Serve sends what exportd's configuration below dirs asks for, until ctx ends.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	g, ctx := errgroup.WithContext(ctx)
	d := &daemon{log: log, dirs: dirs, ctx: ctx}
	d.now.Store(&outlets{})
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(svcconf.Exportd.Name), d.configure)
	})
	g.Go(func() error { return d.tellStatus(ctx) })
	g.Go(func() error { return d.answer(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, svcconf.Exportd.Name, d.metrics) })
	err := g.Wait()
	d.now.Load().stop()
	return err
}

// daemon is exportd.
type daemon struct {
	log    *slog.Logger
	dirs   run.Dirs
	ctx    context.Context // of Serve: what configure starts ends with it
	now    atomic.Pointer[outlets]
	missed atomic.Uint64

	testing sync.Mutex // held by a test of alerts
}

// outlets is all that one configuration asks for.
type outlets struct {
	conf     svcconf.Export
	targets  []*running[*target]
	alerters []*running[*alerter]
	feeds    *running[[]*feed]
}

// running is a part that runs until it is stopped.
type running[T any] struct {
	part T
	stop func() // waits until it has
}

// start runs f until it is stopped or ctx ends.
func start[T any](ctx context.Context, part T, f ...func(context.Context)) *running[T] {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	for _, f := range f {
		done.Go(func() { f(ctx) })
	}
	return &running[T]{part, func() { cancel(); done.Wait() }}
}

// configure takes a new configuration. What it leaves as it was goes on, with all that
// waits there.
func (d *daemon) configure(c svcconf.Export) error {
	zone, err := time.LoadLocation(c.Timezone)
	if err != nil {
		return fmt.Errorf("timezone: %w", err)
	}
	old := d.now.Load()
	same := old.conf.Box == c.Box && old.conf.Timezone == c.Timezone && reflect.DeepEqual(old.conf.Zones, c.Zones)
	next := &outlets{conf: c}
	kept := map[any]bool{}
	var begin []func()
	for _, t := range c.Exports {
		if r := find(old.targets, func(o *target) bool { return same && reflect.DeepEqual(o.conf, t) }); r != nil {
			next.targets, kept[r] = append(next.targets, r), true
			continue
		}
		part, err := newTarget(d.log, c.Box, c.Zones, t)
		if err != nil {
			return fmt.Errorf("export %s: %w", t.Name, err)
		}
		i := len(next.targets)
		next.targets = append(next.targets, nil)
		begin = append(begin, func() { next.targets[i] = start(d.ctx, part, part.run) })
	}
	for _, a := range c.Alerts {
		if r := find(old.alerters, func(o *alerter) bool { return same && reflect.DeepEqual(o.conf, a) }); r != nil {
			next.alerters, kept[r] = append(next.alerters, r), true
			continue
		}
		part, err := newAlerter(d.log, c.Box, zone, a)
		if err != nil {
			return fmt.Errorf("alert %s: %w", a.Name, err)
		}
		i := len(next.alerters)
		next.alerters = append(next.alerters, nil)
		begin = append(begin, func() { next.alerters[i] = start(d.ctx, part, part.run) })
	}
	for _, f := range begin { // now that nothing can be wrong any more
		f()
	}
	d.replace(old, next, kept)
	return nil
}

func find[T any](list []*running[T], is func(T) bool) *running[T] {
	for _, r := range list {
		if is(r.part) {
			return r
		}
	}
	return nil
}

// replace puts the next outlets in place of the old ones, of which some are kept. The
// streams of flowd go on if as much is wanted of them as before.
func (d *daemon) replace(old, next *outlets, kept map[any]bool) {
	feeds := old.feeds
	if feeds == nil || old.wants() != next.wants() {
		if feeds != nil {
			feeds.stop()
		}
		feeds = d.listen(next.wants())
	}
	next.feeds = feeds
	d.now.Store(next)
	for _, r := range old.targets {
		if !kept[r] {
			r.stop()
		}
	}
	for _, r := range old.alerters {
		if !kept[r] {
			r.stop()
		}
	}
}

func (o *outlets) stop() {
	if o.feeds != nil {
		o.feeds.stop()
	}
	for _, r := range o.targets {
		r.stop()
	}
	for _, r := range o.alerters {
		r.stop()
	}
}

// wanted is what is to be heard of flowd.
type wanted struct{ flows, refusals, events bool }

func (o *outlets) wants() wanted {
	w := wanted{events: len(o.conf.Alerts) > 0}
	for _, t := range o.conf.Exports {
		w.flows, w.refusals, w.events = w.flows || t.Flows, w.refusals || t.Refusals, w.events || t.Events
	}
	return w
}

// listen follows the streams that are wanted.
func (d *daemon) listen(w wanted) *running[[]*feed] {
	lost := func(n uint64) { d.missed.Add(n) }
	var feeds []*feed
	if w.flows || w.refusals {
		feeds = append(feeds, &feed{d.log, flowsPath(w.flows), d.flow, lost})
	}
	if w.events {
		feeds = append(feeds, &feed{d.log, eventsPath, d.event, lost})
	}
	var follow []func(context.Context)
	for _, f := range feeds {
		follow = append(follow, func(ctx context.Context) { f.follow(ctx, d.dirs) })
	}
	return start(d.ctx, feeds, follow...)
}

func (d *daemon) flow(line []byte) error {
	r, err := decodeFlow(line)
	if err != nil {
		return err
	}
	d.hand(lines.Item{Flow: r})
	return nil
}

func (d *daemon) event(line []byte) error {
	e, err := decodeEvent(line)
	if err != nil {
		return err
	}
	d.hand(lines.Item{Event: e})
	for _, a := range d.now.Load().alerters {
		a.part.put(*e)
	}
	return nil
}

func (d *daemon) hand(it lines.Item) {
	for _, t := range d.now.Load().targets {
		if t.part.wants(it) {
			t.part.put(it)
		}
	}
}

// status is how everything goes.
func (d *daemon) status() svcconf.ExportStatus {
	s := svcconf.ExportStatus{Targets: []svcconf.TargetStatus{}, Missed: d.missed.Load()}
	now := d.now.Load()
	for _, t := range now.targets {
		s.Targets = append(s.Targets, t.part.status())
	}
	for _, a := range now.alerters {
		s.Targets = append(s.Targets, a.part.status())
	}
	return s
}

// tellStatus keeps the status file.
func (d *daemon) tellStatus(ctx context.Context) error {
	path := filepath.Join(d.dirs.RunDir(svcconf.Exportd.Name), svcconf.StatusFile)
	var told svcconf.ExportStatus
	said := ""
	for {
		if s := d.status(); !reflect.DeepEqual(s, told) {
			data, err := json.MarshalIndent(s, "", "\t")
			if err == nil {
				err = file.Replace(path, append(data, '\n'), 0o640, -1)
			}
			if err == nil {
				told, said = s, ""
			} else if err.Error() != said {
				said = err.Error()
				d.log.Error("write the status", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(statusEvery):
		}
	}
}

// metrics writes the status.
func (d *daemon) metrics(page *metrics.Page) {
	s := d.status()
	var sent, lost, queued, failing []metrics.Sample
	for _, t := range s.Targets {
		kind := "export"
		if t.Alert {
			kind = "alert"
		}
		labels := []string{"kind", kind, "name", t.Name}
		sent = append(sent, metrics.Of(t.Sent, labels...))
		lost = append(lost, metrics.Of(t.Lost, labels...))
		queued = append(queued, metrics.Of(t.Queued, labels...))
		failing = append(failing, metrics.Of(metrics.Truth(t.Error != ""), labels...))
	}
	page.Counter("sent_total", "Records and events, or messages of an alert, that were sent.", sent...)
	page.Counter("lost_total", "Records and events that there was no room for, or that were refused.", lost...)
	page.Gauge("queued", "Records and events that wait.", queued...)
	page.Gauge("failing", "Whether the last attempt failed.", failing...)
	page.Counter("missed_total", "Records and events of flowd that could not be read, or not in time.", metrics.Of(s.Missed))
}
