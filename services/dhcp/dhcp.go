// Package dhcp is the DHCPv4 server (RFC 2131) of all zones, in one process.
//
// What is decided is in core and the package lease, which know no clock, file or
// socket; around them are the links' sockets, the journal, and the file that tells
// other services of the leases. An address is on the disk as a client's before the
// client hears of it, so that no crash can give it to somebody else.
//
// The package never touches links, addresses or the firewall, and it never answers
// on a link that is not a zone's.
package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/journal"
	"bulkhead/services/metrics"
	"bulkhead/services/probe"
	"bulkhead/services/run"
)

// Server serves DHCP on the links of its configuration. [New] makes one.
type Server struct {
	log    *slog.Logger
	runDir string
	count  Counters

	mu      sync.Mutex
	core    core
	batch   *batch              // fills
	spare   *batch              // the other one, unless it is being written
	rewrite bool                // the journal's times are wrong
	adopted bool                // there are leases of another box that the journal has not
	quiet   map[event]time.Time // no line in the log about an event before then

	store   store         // of the goroutine that commits
	wake    chan struct{} // there may be something to commit
	dirty   chan struct{} // leases.json is out of date
	conns   sync.Map      // of sender, by link
	buffers sync.Pool     // of *[]byte, for replies
}

// sender is what the server needs of a link to answer: a [conn].
type sender interface{ send(*reply) error }

// Serve runs a server until ctx ends. Its configuration is the [svcconf.DHCP] in
// runDir, which is waited for and followed; leases are kept in stateDir and published
// in runDir as [svcconf.Leases].
func Serve(ctx context.Context, log *slog.Logger, runDir, stateDir string) error {
	s, err := New(log, runDir, stateDir)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// New returns a server that knows the leases in stateDir.
func New(log *slog.Logger, runDir, stateDir string) (*Server, error) {
	var past history.Log
	switch bad, err := journal.LoadHistory(stateDir, past.Restore); {
	case err != nil:
		log.Error("the history of leases begins anew", "err", err) // clients are worse off without a server
	case bad > 0:
		log.Error("the history of leases is damaged: some may be lost", "bytes", bad, "dir", stateDir)
	}
	leases, damage, err := journal.Load(stateDir, past.Replay)
	if err != nil {
		return nil, fmt.Errorf("load leases: %w", err)
	}
	if damage.Middle > 0 {
		log.Error("leases are damaged: some may be lost", "bytes", damage.Middle, "dir", stateDir)
	}
	if damage.Tail > 0 {
		log.Info("a write was cut off", "bytes", damage.Tail, "dir", stateDir)
	}
	s := &Server{
		log:    log,
		runDir: runDir,
		batch:  new(batch),
		spare:  new(batch),
		quiet:  make(map[event]time.Time),
		// A journal is only ever appended to after it was written by this process.
		store: store{dir: stateDir, file: journal.New(stateDir), broken: true},
		wake:  make(chan struct{}, 1),
		dirty: make(chan struct{}, 1),
	}
	s.buffers.New = func() any { return new(make([]byte, 0, maxReply)) }
	s.core.count, s.core.past = &s.count, past
	now := time.Now()
	for _, l := range leases {
		s.core.orphans = append(s.core.orphans, l.Rebase(now))
	}
	return s, nil
}

// Counters returns what the server counts.
func (s *Server) Counters() *Counters { return &s.count }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	s.commit()
	g, ctx := errgroup.WithContext(ctx)
	links := newLinks(s)
	g.Go(func() error {
		defer links.stop()
		path := filepath.Join(s.runDir, svcconf.ConfigFile)
		return run.WatchConfig(ctx, s.log, path, func(conf svcconf.DHCP) error {
			if err := s.apply(conf); err != nil {
				return err
			}
			links.set(ctx, conf)
			return nil
		})
	})
	g.Go(func() error {
		return run.WatchFile(ctx, s.log, filepath.Join(s.runDir, svcconf.RestoredFile), s.adopt)
	})
	g.Go(func() error {
		return probe.Serve(ctx, s.log, filepath.Join(s.runDir, svcconf.ProbeSocket), s.probe)
	})
	g.Go(func() error {
		return metrics.Serve(ctx, s.log, filepath.Dir(s.runDir), svcconf.Dhcpd.Name, s.metrics)
	})
	g.Go(func() error { return s.serveHistory(ctx) })
	g.Go(func() error { s.publish(ctx); return nil })
	g.Go(func() error { s.tick(ctx); return nil })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.wake:
				s.commit()
			}
		}
	})
	err := g.Wait()
	s.commit() // what came in meanwhile
	s.store.file.Close()
	return err
}

// apply takes a configuration. Clients notice nothing.
func (s *Server) apply(conf svcconf.DHCP) error {
	s.mu.Lock()
	err := s.core.configure(time.Now(), conf)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.log.Info("configured", "zones", len(conf.Zones))
	s.changed()
	return nil
}

// receive answers a packet. An answer that grants something waits for the journal;
// others go at once.
func (s *Server) receive(link string, packet []byte) {
	buf := s.buffers.Get().(*[]byte)
	s.mu.Lock()
	if s.batch.full() {
		s.mu.Unlock()
		s.buffers.Put(buf)
		s.count.Busy.Add(1)
		return
	}
	res := s.core.handle(time.Now(), link, packet, *buf)
	res.reply.buf = buf
	waits := res.record.Addr.IsValid()
	if waits {
		s.batch.add(res)
		s.count.JournalRecords.Add(1)
	}
	loud := res.event != eventNone && s.loud(res.event)
	s.mu.Unlock()

	if loud {
		s.report(link, res)
	}
	if waits {
		s.wakeUp()
	} else if res.reply.data != nil {
		s.send(&res.reply)
	}
	if !waits || res.reply.data == nil {
		s.buffers.Put(buf)
	}
}

// send sends a reply on its link, if that is still there.
func (s *Server) send(r *reply) {
	c, ok := s.conns.Load(r.link)
	if !ok || c.(sender).send(r) != nil {
		s.count.SendErrors.Add(1)
		return
	}
	s.count.Sent[r.kind].Add(1)
}

// loud reports whether an event is worth a line in the log: one a minute is.
func (s *Server) loud(e event) bool {
	now := time.Now()
	if now.Before(s.quiet[e]) {
		return false
	}
	s.quiet[e] = now.Add(time.Minute)
	return true
}

func (s *Server) report(link string, res result) {
	switch res.event {
	case eventExhausted:
		s.log.Warn("no address left", "link", link)
	case eventDeclined:
		s.log.Warn("somebody uses an address that was given to a client", "link", link,
			"address", res.record.Addr, "client", res.record.Client.MAC)
	}
}

// heardEvery is how many seconds pass before what was heard of clients is told again.
const heardEvery = 2

// tick does what has to happen without a packet, once a second until ctx ends.
func (s *Server) tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	last := time.Now()
	for beat := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		step := now.Round(0).Sub(last.Round(0)) - now.Sub(last) // clock less stopwatch
		last = now
		stepped := step.Abs() > time.Second
		s.mu.Lock()
		expired := s.core.expire(now)
		s.rewrite = s.rewrite || stepped
		s.mu.Unlock()
		if stepped {
			s.count.ClockSteps.Add(1)
			s.log.Info("the clock was set", "by", step)
		}
		if stepped || expired {
			s.changed()
		}
		if beat++; beat%heardEvery == 0 {
			s.tellHeard(now)
		}
		s.wakeUp() // after a step, or to try a disk again that failed
	}
}

func (s *Server) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // on its way already
	}
}
