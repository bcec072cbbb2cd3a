//go:build linux

// Package push takes the history of the configuration, which netcfgd keeps as a git
// repository for it, to a remote over SSH. It moves one branch forward and never back,
// talks to nobody but the host whose key the configuration holds, and never reads
// anything from there but what becomes of the push.
package push

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
)

// The pace of attempts: doubled after each that failed.
const (
	retryFirst = 10 * time.Second
	retryLast  = 15 * time.Minute
)

// Serve pushes what pushd's configuration below dirs names, as often as that changes
// and until it succeeds, until ctx ends. What waits is never more than the newest
// commit, which brings all before it along.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	p := &pusher{log: log, status: filepath.Join(dirs.RunDir(svcconf.Pushd.Name), svcconf.StatusFile), targets: make(chan *target, 1)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(svcconf.Pushd.Name), p.configure)
	})
	g.Go(func() error { return p.run(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, svcconf.Pushd.Name, p.metrics) })
	return g.Wait()
}

// pusher is the daemon.
type pusher struct {
	log     *slog.Logger
	status  string       // path of the status file
	targets chan *target // the newest one that run has not taken
	now     svcconf.PushStatus
	shown   atomic.Pointer[svcconf.PushStatus] // the same, for others to read
}

// configure leaves a new target for run, nil for none, in place of what it has not
// taken: an attempt that takes long must not keep a configuration waiting.
func (p *pusher) configure(c svcconf.Push) error {
	var t *target
	if c.Repository != "" {
		var err error
		if t, err = newTarget(c); err != nil {
			return err
		}
	}
	for {
		select {
		case p.targets <- t:
			return nil
		case <-p.targets:
		}
	}
}

func (p *pusher) run(ctx context.Context) error {
	var t *target
	var wait time.Duration
	retry := make(<-chan time.Time) // never
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t = <-p.targets:
			wait = 0
		case <-retry:
		}
		retry = nil
		if t == nil {
			p.tell(svcconf.PushStatus{})
			continue
		}
		if err := p.try(ctx, t); err != nil && ctx.Err() == nil {
			wait = min(max(2*wait, retryFirst), retryLast)
			retry = time.After(wait)
		}
	}
}

// try pushes once, and says what became of it.
func (p *pusher) try(ctx context.Context, t *target) error {
	err := t.push(ctx)
	s := p.now
	switch {
	case ctx.Err() != nil:
		return err
	case err == nil:
		s = svcconf.PushStatus{Head: t.conf.Head, At: time.Now()}
		p.log.Info("pushed", "commit", t.conf.Head, "to", t.conf.Remote)
	default:
		if s.Error == "" {
			s.Failing = time.Now()
		}
		if s.Error != err.Error() {
			p.log.Error("push", "to", t.conf.Remote, "err", err) // once: the status shows it as long as it lasts
		}
		s.Error = err.Error()
	}
	p.tell(s)
	return err
}

func (p *pusher) tell(s svcconf.PushStatus) {
	p.now = s
	p.shown.Store(&s)
	data, err := json.MarshalIndent(s, "", "\t")
	if err == nil {
		err = file.Replace(p.status, append(data, '\n'), 0o640, -1)
	}
	if err != nil {
		p.log.Error("write the status", "err", err)
	}
}
