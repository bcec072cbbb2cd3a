package dns

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/onlink"
)

// server holds the zones together: one configuration, one cache, one way upstream.
type server struct {
	log       *slog.Logger
	port      uint16
	ctx       context.Context
	cancel    context.CancelFunc
	count     *counters
	cache     *cache
	conns     *conns
	teller    *teller
	forwarder *forwarder
	roots     *x509.CertPool // who signs certificates of resolvers; nil: whom the system trusts
	running   sync.WaitGroup // listeners

	mu        sync.Mutex // of what follows
	cfg       *svcconf.DNS
	table     *table
	leases    []svcconf.Lease
	listeners map[onlink.Place]*listener
}

func newServer(log *slog.Logger, port uint16, t *teller) *server {
	s := &server{
		log: log, port: port, count: new(counters), conns: newConns(),
		cache:     newCache(cacheEntries, cacheBytes),
		teller:    t,
		listeners: make(map[onlink.Place]*listener),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.forwarder = newForwarder(s.ctx, s.cache, s.count, t)
	return s
}

// close ends everything and waits for it.
func (s *server) close() {
	s.cancel()
	s.running.Wait()
	for _, u := range *s.forwarder.upstreams.Load() {
		if u.secure != nil {
			u.secure.close()
		}
	}
	s.forwarder.running.Wait() // which only listeners add to
}

// stats returns what was counted since the start.
func (s *server) stats() Stats {
	st := s.count.snapshot()
	st.CacheEntries, st.CacheBytes = s.cache.size()
	st.CacheEvicted = s.cache.evicted.Load()
	st.NamesTold, st.NamesLost = s.teller.told.Load(), s.teller.lost.Load()
	return st
}

// configure puts cfg in force. On error, what was in force stays so.
func (s *server) configure(cfg svcconf.DNS) error {
	if err := check(&cfg); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := newTable(&cfg, s.leases, s.table, time.Now())
	if err != nil {
		return err
	}
	old := s.cfg
	s.cfg = &cfg
	if old == nil || !slices.Equal(old.Resolvers, cfg.Resolvers) {
		s.setResolvers()
	}
	s.setViews(t)
	return nil
}

// check refuses configurations that cannot be meant.
func check(cfg *svcconf.DNS) error {
	seen := make(map[netip.Addr]string)
	for _, z := range cfg.Zones {
		switch {
		case !z.Address.Is4() || !z.Subnet.IsValid() || !z.Subnet.Contains(z.Address):
			return fmt.Errorf("zone %s: address %s is no IPv4 address in subnet %s", z.Zone, z.Address, z.Subnet)
		case seen[z.Address] != "":
			return fmt.Errorf("zone %s: address %s is that of zone %s", z.Zone, z.Address, seen[z.Address])
		}
		seen[z.Address] = z.Zone
	}
	return nil
}

// setLeases takes over what DHCP clients are called.
func (s *server) setLeases(l svcconf.Leases) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases = l.Leases
	if s.cfg == nil {
		return nil
	}
	t, err := newTable(s.cfg, s.leases, s.table, time.Now())
	if err != nil {
		return err
	}
	s.setViews(t)
	return nil
}

// setViews gives every zone the new table, begins to listen in zones that are new,
// and then ends listening in those that are gone.
func (s *server) setViews(t *table) {
	s.table = t
	wanted := make(map[onlink.Place]bool)
	for _, z := range s.cfg.Zones {
		p := onlink.Place{Addr: netip.AddrPortFrom(z.Address, s.port), Link: z.Link}
		wanted[p] = true
		v := newView(z, t)
		if l := s.listeners[p]; l != nil {
			l.view.Store(v)
			continue
		}
		s.listeners[p] = s.listen(p, v)
	}
	for p, l := range s.listeners {
		if wanted[p] {
			continue
		}
		delete(s.listeners, p)
		// Where the address has only moved to another link, both listen for a moment.
		if next := s.byAddr(p.Addr, wanted); next != nil {
			s.running.Go(func() { l.stopAfter(next) })
			continue
		}
		l.cancel()
	}
}

func (s *server) byAddr(addr netip.AddrPort, wanted map[onlink.Place]bool) *listener {
	for p := range wanted {
		if p.Addr == addr {
			return s.listeners[p]
		}
	}
	return nil
}

// stopAfter stops l when next has begun to listen, or will not.
func (l *listener) stopAfter(next *listener) {
	select {
	case <-next.opened:
	case <-next.ctx.Done():
	}
	l.cancel()
}

func (s *server) listen(p onlink.Place, v *view) *listener {
	l := &listener{srv: s, place: p, opened: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	l.view.Store(v)
	s.running.Go(l.run)
	return l
}

// setResolvers takes over the resolvers of the configuration. What is known of one
// that stays is kept; what others have answered is forgotten, for who changes
// resolvers wants other answers.
func (s *server) setResolvers() {
	old := *s.forwarder.upstreams.Load()
	var ups []*upstream
	for _, r := range s.cfg.Resolvers {
		if slices.ContainsFunc(s.cfg.Zones, func(z svcconf.DNSZone) bool { return z.Address == r.Addr.Addr() }) {
			s.log.Warn("resolver ignored: it is this one", "resolver", r.Addr)
			continue
		}
		u := &upstream{addr: r.Addr, log: s.log, count: s.count}
		if r.TLS {
			u.secure = newSecure(r.Addr, r.Name, s.roots)
		}
		if i := slices.IndexFunc(old, u.same); i >= 0 {
			u = old[i]
		}
		ups = append(ups, u)
	}
	if len(ups) == 0 {
		s.log.Warn("names outside cannot be resolved: no resolvers")
	}
	for _, u := range old {
		if u.secure != nil && !slices.Contains(ups, u) {
			u.secure.close()
		}
	}
	s.forwarder.upstreams.Store(&ups)
	s.cache.clear()
}
