// Package dns is the resolver that each zone's clients ask: it answers local names
// itself, and everything else out of a cache or by asking the configured resolvers.
//
// It never resolves from the root by itself, never validates DNSSEC, never hands a
// question about local names or private addresses to anybody, and never answers a
// client from outside the zone it listens in. Isolated machines do not get to it: package
// notice, which runs beside it, answers them.
//
// The meaning is in pure functions (a zone's view answers a query out of bytes, a
// cache and the time); sockets are a thin edge around them.
package dns

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/metrics"
	"bulkhead/services/notice"
	"bulkhead/services/probe"
	"bulkhead/services/run"
)

// Port is where clients ask, RFC 1035 section 4.2.
const Port = 53

// leasePause is how long a new version of the leases must wait for the next: a zone
// that boots after a power cut brings many, and each means building all names anew.
const leasePause = 100 * time.Millisecond

// Serve answers the zones named in dnsd's configuration below dirs until ctx ends.
// It takes new configurations and new DHCP leases as they appear, without closing
// the sockets of zones that stay.
//
// It returns ctx's error; what is wrong with one configuration or one link is
// logged, and the rest goes on.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	s := newServer(log, Port, newTeller(dirs.Run))
	defer s.close()
	notices := notice.New(log, svcconf.NoticeHTTP, svcconf.NoticeDNS)
	defer notices.Wait()
	leases := filepath.Join(dirs.RunDir(svcconf.Dhcpd.Name), svcconf.LeasesFile)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(svcconf.Dnsd.Name), func(c svcconf.DNS) error {
			notices.Follow(ctx, c.Notices)
			return s.configure(c)
		})
	})
	g.Go(func() error {
		return run.WatchFile(ctx, log, leases, func(l svcconf.Leases) error {
			defer func() {
				select {
				case <-ctx.Done():
				case <-time.After(leasePause):
				}
			}()
			return s.setLeases(l)
		})
	})
	g.Go(func() error {
		return probe.Serve(ctx, log, filepath.Join(dirs.RunDir(svcconf.Dnsd.Name), svcconf.ProbeSocket), s.probe)
	})
	g.Go(func() error { return s.teller.run(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, svcconf.Dnsd.Name, s.metrics) })
	return g.Wait()
}
