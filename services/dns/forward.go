package dns

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what may be under way at once, so that no client takes the resolver from
// its zone, and no zone from the others. A flight takes a file descriptor and a
// goroutine, a waiter half a kilobyte.
const (
	maxFlights       = 1024 // questions upstream
	maxZoneWaiters   = 1024 // queries of one zone that wait for an answer
	maxClientWaiters = 256  // queries of one client that do
)

// forwarder asks upstream, once for all who ask the same at the same time.
type forwarder struct {
	ctx       context.Context // ends with the service
	cache     *cache
	count     *counters
	teller    *teller
	upstreams atomic.Pointer[[]*upstream]
	running   sync.WaitGroup

	mu       sync.Mutex
	flights  map[string]*flight // by cache key
	byZone   map[string]int     // waiters
	byClient map[netip.Addr]int
}

// flight is one question that is being asked, and who waits for the answer.
type flight struct{ waiters []*waiter }

// waiter is one client's query. Its question does not alias any buffer.
type waiter struct {
	question
	zone   string
	names  bool // flowd may know what is asked
	client netip.AddrPort
	tcp    bool
	send   func(reply []byte, to netip.AddrPort)
}

func newForwarder(ctx context.Context, c *cache, count *counters, t *teller) *forwarder {
	f := &forwarder{
		ctx: ctx, cache: c, count: count, teller: t,
		flights: make(map[string]*flight), byZone: make(map[string]int), byClient: make(map[netip.Addr]int),
	}
	f.upstreams.Store(new([]*upstream))
	return f
}

// ask has w answered when an answer is there. It does not block. What cannot be
// asked is answered SERVFAIL before it returns.
func (f *forwarder) ask(w *waiter) {
	ups := f.upstreams.Load()
	if len(*ups) == 0 {
		f.count.failures.Add(1)
		f.refuse(w)
		return
	}
	key := string(w.cacheKey())
	f.mu.Lock()
	fl, started := f.flights[key]
	switch {
	case started && !w.tcp && fl.has(w):
		f.mu.Unlock()
		return // asked again out of impatience
	case !started && len(f.flights) >= maxFlights,
		f.byZone[w.zone] >= maxZoneWaiters,
		f.byClient[w.client.Addr()] >= maxClientWaiters:
		f.mu.Unlock()
		f.count.overflow.Add(1)
		f.refuse(w)
		return
	}
	f.byZone[w.zone]++
	f.byClient[w.client.Addr()]++
	if !started {
		fl = new(flight)
		f.flights[key] = fl
		f.running.Go(func() { f.fly(key, &w.question, ups) })
	}
	fl.waiters = append(fl.waiters, w)
	f.mu.Unlock()
}

func (f *forwarder) refuse(w *waiter) {
	w.send(w.fail(nil, dns.RcodeServerFailure), w.client)
}

// has reports whether the same query of the same client is waiting.
func (fl *flight) has(w *waiter) bool {
	for _, v := range fl.waiters {
		if v.client == w.client && v.zone == w.zone && [2]byte(v.wire) == [2]byte(w.wire) {
			return true
		}
	}
	return false
}

// fly asks q upstream and tells all who wait for it by then.
func (f *forwarder) fly(key string, q *question, ups *[]*upstream) {
	e := resolve(f.ctx, *ups, q)
	now := time.Now()
	if e == nil {
		f.count.failures.Add(1)
		e = newFailure(q, now)
	}
	// First the cache, then the end of the flight: in between nobody asks again. What
	// resolvers say that are not the configured ones any more is not kept.
	if f.upstreams.Load() == ups {
		f.cache.put([]byte(key), e)
	}
	f.mu.Lock()
	waiters := f.flights[key].waiters
	delete(f.flights, key)
	for _, w := range waiters {
		release(f.byZone, w.zone)
		release(f.byClient, w.client.Addr())
	}
	f.mu.Unlock()
	for _, w := range waiters {
		if w.names {
			f.teller.tell(w.client.Addr().Unmap(), w.qtype, e)
		}
		w.send(e.reply(nil, &w.question, w.limit(w.tcp), now), w.client)
	}
}

func release[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
