package lease

import (
	"container/heap"
	"iter"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
)

// Table is the state of one zone's addresses.
//
// Every entry is in exactly one of two queues: waiting, ordered by the time at which
// its state ends, or free, in the order in which they became free.
type Table struct {
	cfg      Config
	keptFor  map[netip.Addr]model.MAC // cfg.Reserved the other way round
	byAddr   map[netip.Addr]*entry
	byClient map[string]*entry // the entry that a client is to get again
	waiting  queue
	free     list
	next     netip.Addr // no address of the pool before it is without an entry
	declined int        // entries in state Declined
}

// entry is a Lease in a table.
type entry struct {
	Lease
	key        string // identity of Client in this table
	index      int    // in waiting, if not Free
	prev, next *entry // in free, if Free
}

// New returns an empty table. cfg must be sound: the pool and all reservations lie
// in the subnet.
func New(cfg Config) *Table {
	t := &Table{
		cfg:      cfg,
		keptFor:  make(map[netip.Addr]model.MAC, len(cfg.Reserved)),
		byAddr:   make(map[netip.Addr]*entry),
		byClient: make(map[string]*entry),
		next:     cfg.First,
	}
	for mac, addr := range cfg.Reserved {
		t.keptFor[addr] = mac
	}
	return t
}

// Restore enters what is known about an address of the subnet, over what was known
// before. Leases must come in the order of their Until, for the oldest to be
// given to others first.
func (t *Table) Restore(now time.Time, l Lease) {
	if e := t.byAddr[l.Addr]; e != nil {
		t.remove(e)
	}
	if l.State != Free && !l.Until.After(now) {
		l.State = Free
	}
	e := &entry{Lease: l, key: t.key(l.Client)}
	t.byAddr[l.Addr] = e
	known := t.byClient[e.key]
	if l.State != Declined && (known == nil || known.Granted.Before(e.Granted)) {
		t.byClient[e.key] = e
	}
	if l.State == Free {
		t.setFree(e, l.Until)
		return
	}
	t.wait(e)
}

// Offer chooses an address for a client and holds it for [OfferHold]. want is what
// the client would like, if valid. It reports false if there is none left.
//
// In the order of RFC 2131 section 4.3.1: the client's reservation, the address it
// has or had, the one it would like, one that nobody ever had, and the one that has
// been free for longest.
func (t *Table) Offer(now time.Time, c Client, want netip.Addr) (netip.Addr, bool) {
	t.Expire(now)
	key := t.key(c)
	addr, ok := t.preferred(c.MAC, key, want)
	if !ok {
		addr, ok = t.unused()
	}
	if !ok {
		return netip.Addr{}, false
	}
	e := t.byAddr[addr]
	if e != nil && e.State == Bound {
		return addr, true // the client's own: an offer takes nothing away from it
	}
	e = t.take(addr, c, key)
	e.State, e.Until = Offered, now.Add(OfferHold)
	t.wait(e)
	return addr, true
}

// Bind gives addr to a client, anew or for another lease time. It reports false,
// and changes nothing, if that is not the address this client is to have. An empty
// host name leaves the one that the client gave before.
//
// A client that the table does not know may have any address that Offer would give
// it if asked for it: the zone has no other server whose lease it could be, and a
// client whose lease was lost keeps its address that way.
func (t *Table) Bind(now time.Time, c Client, addr netip.Addr, hostname string) (Lease, bool) {
	t.Expire(now)
	key := t.key(c)
	if a, ok := t.preferred(c.MAC, key, addr); !ok || a != addr {
		return Lease{}, false
	}
	e := t.take(addr, c, key)
	e.State, e.Granted, e.Until = Bound, now, now.Add(t.cfg.Lease)
	if hostname != "" { // not every client repeats it when it renews
		e.Hostname = hostname
	}
	t.wait(e)
	return e.Lease, true
}

// Release takes addr back from the client that has it. It reports false if that
// client does not have it.
func (t *Table) Release(now time.Time, c Client, addr netip.Addr) (Lease, bool) {
	t.Expire(now)
	e := t.byAddr[addr]
	if e == nil || e.key != t.key(c) || e.State != Bound {
		return Lease{}, false
	}
	t.setFree(e, now)
	return e.Lease, true
}

// Withdraw takes back an offer, because the client has taken another server's.
func (t *Table) Withdraw(now time.Time, c Client) {
	if e := t.byClient[t.key(c)]; e != nil && e.State == Offered {
		t.setFree(e, now)
	}
}

// Decline puts addr into quarantine, because the client that was given it found
// somebody else using it. It reports false if that client was not given it.
//
// A quarter of the pool at most is in quarantine, or one bad client could decline
// its way through all of it. What is beyond that is free, but last in the queue.
func (t *Table) Decline(now time.Time, c Client, addr netip.Addr) (Lease, bool) {
	t.Expire(now)
	e := t.byAddr[addr]
	key := t.key(c)
	if e == nil || e.key != key || e.State != Bound && e.State != Offered {
		return Lease{}, false
	}
	t.forget(e)
	if t.declined >= max(1, t.poolSize()/4) {
		t.setFree(e, now)
		return e.Lease, true
	}
	t.unqueue(e)
	e.State, e.Until = Declined, now.Add(Quarantine)
	t.wait(e)
	return e.Lease, true
}

// Expire frees what has run out and returns how many leases that ended.
func (t *Table) Expire(now time.Time) (ended int) {
	for len(t.waiting) > 0 && !t.waiting[0].Until.After(now) {
		e := t.waiting[0]
		if e.State == Bound {
			ended++
		}
		t.setFree(e, e.Until)
	}
	return ended
}

// All returns every lease known, in no order.
func (t *Table) All() iter.Seq[Lease] {
	return func(yield func(Lease) bool) {
		for _, e := range t.byAddr {
			if !yield(e.Lease) {
				return
			}
		}
	}
}

// Get returns what is known about an address.
func (t *Table) Get(addr netip.Addr) (Lease, bool) {
	if e := t.byAddr[addr]; e != nil {
		return e.Lease, true
	}
	return Lease{}, false
}

// preferred returns the address that a client is to have, if there is one that does
// not depend on what others left over: the first three kinds of [Table.Offer].
func (t *Table) preferred(mac model.MAC, key string, want netip.Addr) (netip.Addr, bool) {
	// A reservation waits while somebody else still has a lease on its address.
	if addr, ok := t.cfg.Reserved[mac]; ok && t.open(addr, key) {
		return addr, true
	}
	if e := t.byClient[key]; e != nil && t.inPool(e.Addr) {
		return e.Addr, true
	}
	if !t.inPool(want) {
		return netip.Addr{}, false
	}
	if e := t.byAddr[want]; e == nil && t.room() || e != nil && e.State == Free {
		return want, true
	}
	return netip.Addr{}, false
}

// open reports whether the client with the given key could have addr at once.
func (t *Table) open(addr netip.Addr, key string) bool {
	e := t.byAddr[addr]
	return e == nil && t.room() || e != nil && (e.State == Free || e.State != Declined && e.key == key)
}

// unused returns an address of the pool that nobody has.
func (t *Table) unused() (netip.Addr, bool) {
	for t.room() && t.next.IsValid() && !t.cfg.Last.Less(t.next) {
		addr := t.next
		t.next = addr.Next()
		if t.inPool(addr) && t.byAddr[addr] == nil {
			return addr, true
		}
	}
	if t.free.first != nil {
		return t.free.first.Addr, true
	}
	return netip.Addr{}, false
}

// take makes the entry of addr the client's, out of all queues. The caller sets a
// state and queues it.
func (t *Table) take(addr netip.Addr, c Client, key string) *entry {
	e := t.byAddr[addr]
	switch {
	case e == nil:
		e = &entry{Lease: Lease{Addr: addr}}
		t.byAddr[addr] = e
	case e.key == key:
		t.unqueue(e)
	default:
		t.unqueue(e)
		t.forget(e)
		e.Lease = Lease{Addr: addr}
	}
	e.Client, e.key = c, key
	t.byClient[key] = e
	return e
}

// setFree moves an entry to the end of the free list, or removes it if the address
// is not for everybody: then nobody could be given it from there.
func (t *Table) setFree(e *entry, since time.Time) {
	if !t.inPool(e.Addr) {
		t.remove(e)
		e.State, e.Until = Free, since
		return
	}
	t.unqueue(e)
	e.State, e.Until = Free, since
	t.free.push(e)
}

func (t *Table) remove(e *entry) {
	t.unqueue(e)
	t.forget(e)
	delete(t.byAddr, e.Addr)
}

// forget makes an entry's client start from nothing when it asks again.
func (t *Table) forget(e *entry) {
	if t.byClient[e.key] == e {
		delete(t.byClient, e.key)
	}
}

func (t *Table) wait(e *entry) {
	if e.State == Declined {
		t.declined++
	}
	heap.Push(&t.waiting, e)
}

// unqueue takes an entry out of the queue it is in, if any.
func (t *Table) unqueue(e *entry) {
	if e.index < len(t.waiting) && t.waiting[e.index] == e {
		heap.Remove(&t.waiting, e.index)
		if e.State == Declined {
			t.declined--
		}
		return
	}
	t.free.remove(e)
}

// inPool reports whether addr is one for everybody.
func (t *Table) inPool(addr netip.Addr) bool {
	if !addr.Is4() || addr.Less(t.cfg.First) || t.cfg.Last.Less(addr) || !t.assignable(addr) {
		return false
	}
	_, kept := t.keptFor[addr]
	return !kept
}

// assignable reports whether a host can have addr: not the box's own, nor the
// subnet's network and broadcast address (which a /31 does not have, RFC 3021).
func (t *Table) assignable(addr netip.Addr) bool {
	if addr == t.cfg.Box || !t.cfg.Subnet.Contains(addr) {
		return false
	}
	return t.cfg.Subnet.Bits() >= 31 ||
		t.cfg.Subnet.Contains(addr.Prev()) && t.cfg.Subnet.Contains(addr.Next())
}

func (t *Table) room() bool { return len(t.byAddr) < MaxLeases }

// poolSize returns the number of addresses from First to Last.
func (t *Table) poolSize() int {
	return int(number(t.cfg.Last)) - int(number(t.cfg.First)) + 1
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// key returns the identity of a client (RFC 2131 section 4.2): its identifier if it
// sends one, and its MAC otherwise. A device with a reservation is its MAC in any
// case, because that is what the configuration knows it by; it stays the same device
// when its boot loader and its operating system identify themselves differently. An
// identifier made of the MAC (type 1) is no more than the MAC.
func (t *Table) key(c Client) string {
	_, reserved := t.cfg.Reserved[c.MAC]
	if reserved || c.ID == "" || len(c.ID) == 7 && c.ID[0] == 1 && c.ID[1:] == string(c.MAC[:]) {
		return "m" + string(c.MAC[:])
	}
	return "i" + c.ID // never equal to anybody's MAC
}
