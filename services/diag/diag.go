//go:build linux

// Package diag is the service that looks for what goes wrong: whether hosts answer, over
// which hops they are reached, and what is on a zone's link.
//
// It answers root alone, which asks it on behalf of people whom it has found out; it
// changes nothing, and sends nothing but ICMP echo requests.
package diag

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// How much goes on at once: what comes on top of that is refused.
const (
	maxProbes   = 4 // pings and traceroutes
	maxCaptures = 2
)

// daemon is the running service.
type daemon struct {
	log      *slog.Logger
	conf     atomic.Pointer[svcconf.Diag] // nil: there is none yet
	probes   chan struct{}                // holds one for each that goes on
	captures chan struct{}
	count    counters
}

type counters struct {
	probes, captures, frames, bytes, missed, refused atomic.Uint64
}

func newDaemon(log *slog.Logger) *daemon {
	return &daemon{log: log, probes: make(chan struct{}, maxProbes), captures: make(chan struct{}, maxCaptures)}
}

// Serve runs the service until ctx ends and returns ctx's error then.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	d := newDaemon(log)
	me := svcconf.Diagd
	l, err := sock.Listen(filepath.Join(dirs.RunDir(me.Name), svcconf.DiagSocket), -1)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return ctx.Err()
	})
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(me.Name), func(c svcconf.Diag) error {
			d.conf.Store(&c)
			return nil
		})
	})
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, me.Name, d.metrics) })
	return g.Wait()
}

func (d *daemon) metrics(p *metrics.Page) {
	c := &d.count
	p.Counter("probes_total", "Pings and traceroutes.", metrics.Of(c.probes.Load()))
	p.Counter("captures_total", "Captures of packets.", metrics.Of(c.captures.Load()))
	p.Counter("captured_packets_total", "Packets that were captured.", metrics.Of(c.frames.Load()))
	p.Counter("captured_bytes_total", "Bytes of capture files.", metrics.Of(c.bytes.Load()))
	p.Counter("missed_packets_total", "Packets that there was no room for in a capture.", metrics.Of(c.missed.Load()))
	p.Counter("refused_total", "Requests that were refused because enough goes on.", metrics.Of(c.refused.Load()))
	metrics.Process(p)
}
