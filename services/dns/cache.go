package dns

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the cache, over all shards.
const (
	cacheEntries = 20000
	cacheBytes   = 16 << 20
	cacheShards  = 16
)

// entryOverhead is what an entry takes besides its key and its reply: the struct,
// its place in the map, the headers of strings and slices. Bytes, roughly.
const entryOverhead = 200

// entry is the reply to one question, ready to be copied. It is immutable, but for
// its place in the cache.
type entry struct {
	wire   []byte // a reply without EDNS; its name is in lower case, its ID zero
	ttls   []uint16
	stored time.Time
	life   time.Duration // counted from stored; 0: not to be kept

	key        string
	visited    atomic.Bool
	prev, next *entry
}

func (e *entry) bytes() int { return len(e.wire) + 2*len(e.ttls) + len(e.key) + entryOverhead }

// rcode is the response code of the reply.
func (e *entry) rcode() int { return int(e.wire[3] & rcodeMask) }

// reply writes e over buf as the reply to q, whose ID, spelling and EDNS it takes on.
// Times to live are what is left of them at now. The AD bit is never set: nobody
// here has validated anything, and the way to the resolver is not secured.
func (e *entry) reply(buf []byte, q *question, limit int, now time.Time) []byte {
	if len(e.wire)+optBytes > limit {
		return q.finish(q.begin(buf, e.rcode(), flagTruncated), e.rcode(), limit)
	}
	buf = q.begin(buf, e.rcode(), 0)
	copy(buf[4:headerBytes], e.wire[4:headerBytes])
	buf = append(buf, e.wire[len(buf):]...)
	age := uint32(max(now.Sub(e.stored), 0) / time.Second)
	for _, at := range e.ttls {
		b := buf[at : at+4]
		ttl := binary.BigEndian.Uint32(b)
		binary.BigEndian.PutUint32(b, ttl-min(ttl, age))
	}
	return q.finish(buf, e.rcode(), limit)
}

// cache keeps replies for as long as they live. It is bounded in entries and bytes;
// when it is full, what nobody has asked for again goes first (SIEVE: a hit marks an
// entry, and a hand that goes from the oldest to the newest spares it once).
//
// It holds what came from outside only, so that every zone may see all of it.
type cache struct {
	seed    maphash.Seed // of this process: clients cannot choose one shard for all
	evicted atomic.Uint64
	shards  [cacheShards]shard
}

type shard struct {
	mu                   sync.RWMutex
	entries              map[string]*entry
	newest, oldest, hand *entry
	bytes                int
	maxEntries, maxBytes int
}

func newCache(entries, bytes int) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i] = shard{
			entries:    make(map[string]*entry),
			maxEntries: entries / cacheShards,
			maxBytes:   bytes / cacheShards,
		}
	}
	return c
}

func (c *cache) shard(key []byte) *shard {
	return &c.shards[maphash.Bytes(c.seed, key)%cacheShards]
}

// get returns the reply to a question that is alive at now, or nil. Dead entries stay
// until they are evicted or replaced, so that a later version may serve them while no
// resolver answers (RFC 8767).
func (c *cache) get(key []byte, now time.Time) *entry {
	s := c.shard(key)
	s.mu.RLock()
	e := s.entries[string(key)]
	s.mu.RUnlock()
	if e == nil || now.Sub(e.stored) >= e.life {
		return nil
	}
	if !e.visited.Load() { // a shared cache line is not written without need
		e.visited.Store(true)
	}
	return e
}

// put keeps e under key, unless it has no life or is too large.
func (c *cache) put(key []byte, e *entry) {
	s := c.shard(key)
	e.key = string(key)
	if e.life <= 0 || e.bytes() > s.maxBytes {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[e.key]; old != nil {
		s.remove(old)
	}
	for len(s.entries) > 0 && (len(s.entries) >= s.maxEntries || s.bytes+e.bytes() > s.maxBytes) {
		s.evict()
		c.evicted.Add(1)
	}
	s.entries[e.key] = e
	s.bytes += e.bytes()
	e.next = s.newest
	if s.newest != nil {
		s.newest.prev = e
	} else {
		s.oldest = e
	}
	s.newest = e
}

// evict removes one entry. There must be one.
func (s *shard) evict() {
	e := s.hand
	for {
		if e == nil {
			e = s.oldest
		}
		if !e.visited.Swap(false) {
			break
		}
		e = e.prev
	}
	s.hand = e
	s.remove(e)
}

func (s *shard) remove(e *entry) {
	if s.hand == e {
		s.hand = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		s.newest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		s.oldest = e.prev
	}
	delete(s.entries, e.key)
	s.bytes -= e.bytes()
	e.prev, e.next = nil, nil
}

// size returns how many entries and bytes there are.
func (c *cache) size() (entries, bytes int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		entries += len(s.entries)
		bytes += s.bytes
		s.mu.RUnlock()
	}
	return entries, bytes
}

// clear forgets everything.
func (c *cache) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.entries)
		s.newest, s.oldest, s.hand, s.bytes = nil, nil, nil, 0
		s.mu.Unlock()
	}
}
