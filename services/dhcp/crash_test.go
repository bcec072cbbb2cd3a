package dhcp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/journal"
	"bulkhead/services/dhcp/lease"
)

// world is a server on a disk that loses what was not synced, and the clients' view
// of it. Only the journal's file format is shared with the real server's committing;
// that is tested with kill -9 in its own process.
type world struct {
	t    testing.TB
	r    *rand.Rand
	now  time.Time
	core *core
	conf svcconf.DHCP
	// The journal: what is on the disk for sure, and what was written since.
	synced, unsynced []byte
	waiting          []result // answers that wait for the sync
	held             map[netip.Addr]held
	// The history on the disk, and one that was never anywhere but in memory: noted are
	// the changes that are not in that yet, by where their records end.
	saved []history.Spell
	past  history.Log
	noted []change
}

// change is a record in the part of the journal that is not synced.
type change struct {
	end   int
	lease lease.Lease
}

// held is what a client was told: an address is its own until then.
type held struct {
	client lease.Client
	until  time.Time
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 2)), now: start, conf: testConf(),
		core: newCore(t, testConf()), held: make(map[netip.Addr]held),
	}
	w.synced = []byte("bhlease1")
	return w
}

func (w *world) send(p []byte) result {
	r := w.core.handle(w.now, iot, p, nil)
	if !r.record.Addr.IsValid() {
		return r
	}
	w.unsynced = journal.AppendRecord(w.unsynced, r.record)
	w.noted = append(w.noted, change{len(w.unsynced), r.record})
	if r.record.State != lease.Bound {
		// The client gave it back, and listens to no more answers.
		delete(w.held, r.record.Addr)
		w.waiting = slices.DeleteFunc(w.waiting, func(a result) bool { return a.record.Addr == r.record.Addr })
	} else {
		w.waiting = append(w.waiting, r)
	}
	return r
}

// sync makes the disk hold everything, and then lets the clients hear.
func (w *world) sync() {
	w.synced = append(w.synced, w.unsynced...)
	w.kept(len(w.unsynced))
	w.unsynced = nil
	for _, r := range w.waiting {
		w.hear(r)
	}
	w.waiting = nil
}

// kept is told how much of what was not synced is on the disk.
func (w *world) kept(size int) {
	for _, c := range w.noted {
		if c.end <= size {
			w.past.Note("iot", c.lease)
		}
	}
	w.noted = nil
}

// hear is a client that gets an ACK.
func (w *world) hear(r result) {
	l := r.record
	h, ok := w.held[l.Addr]
	if ok && h.until.After(w.now) && h.client != l.Client {
		w.t.Fatalf("%s was acknowledged to %+v, and is %+v's until %s (now %s)",
			l.Addr, l.Client, h.client, h.until, w.now)
	}
	w.held[l.Addr] = held{l.Client, l.Until}
}

// crash loses a random part of what was not synced and starts a new server.
func (w *world) crash() {
	size := w.r.IntN(len(w.unsynced) + 1)
	w.synced = append(w.synced, w.unsynced[:size]...)
	w.kept(size)
	w.unsynced, w.waiting = nil, nil

	dir := w.t.TempDir()
	writeFile(w.t, dir+"/leases", w.synced)
	leases, past := w.load(dir)
	for w.r.IntN(4) == 0 { // and again, before the journal is replaced
		w.saved = slices.Collect(past.All(w.now))
		leases, past = w.load(dir)
	}
	w.core = &core{count: new(Counters), past: past}
	for _, l := range leases {
		w.core.orphans = append(w.core.orphans, l.Rebase(w.now))
	}
	w.compact()
	if err := w.core.configure(w.now, w.conf); err != nil {
		w.t.Fatal(err)
	}
	for n := range byte(0x14) {
		mac := model.MAC(hw(n))
		if d := cmp.Diff(w.past.Of(mac, w.now), w.core.past.Of(mac, w.now), cmpopts.EquateComparable(netip.Addr{})); d != "" {
			w.t.Fatalf("after a crash the history of %s is another (-want +got):\n%s", mac, d)
		}
	}
}

// load is how a server begins.
func (w *world) load(dir string) ([]lease.Lease, history.Log) {
	var past history.Log
	for _, s := range w.saved {
		past.Restore(s)
	}
	leases, damage, err := journal.Load(dir, past.Replay)
	if err != nil || damage.Middle != 0 {
		w.t.Fatalf("damage %+v, error %v", damage, err)
	}
	return leases, past
}

// compact replaces the history, and then the journal by the leases known.
func (w *world) compact() {
	w.saved = slices.Collect(w.core.past.All(w.now))
	w.synced, w.unsynced = []byte("bhlease1"), nil
	for _, l := range w.core.leases() {
		if l.State != lease.Offered {
			w.synced = journal.AppendRecord(w.synced, l)
		}
	}
}

// act is one thing that a client does, or that happens to the server.
func (w *world) act() {
	w.now = w.now.Add(time.Duration(w.r.Int64N(int64(time.Minute))))
	n := byte(1 + w.r.IntN(10))
	if w.r.IntN(10) == 0 {
		n = 0x12 + byte(w.r.IntN(2)) // with a reservation
	}
	a := fmt.Sprintf("192.168.40.%d", 98+w.r.IntN(8))
	id := withID(fmt.Sprintf("id%d", n)) // one client, one identifier
	switch w.r.IntN(24) {
	case 0:
		w.send(packet(w.t, n, release, ciaddr(a), id))
	case 1:
		w.send(packet(w.t, n, decline, wanted(a), server(box), id))
	case 2:
		w.crash()
	case 3:
		w.sync()
		w.compact()
	case 4:
		w.conf.Zones[0].First = addr(fmt.Sprintf("192.168.40.%d", 98+w.r.IntN(4)))
		w.conf.Zones[0].Last = addr(fmt.Sprintf("192.168.40.%d", 102+w.r.IntN(4)))
		if err := w.core.configure(w.now, w.conf); err != nil {
			w.t.Fatal(err)
		}
	case 5, 6, 7:
		w.send(packet(w.t, n, request, ciaddr(a), id))
	case 8, 9:
		w.send(packet(w.t, n, request, wanted(a), id))
	case 10, 11, 12, 13:
		w.sync()
	default:
		r := w.send(packet(w.t, n, discover, wanted(a), id))
		if r.reply.data == nil || w.r.IntN(4) == 0 {
			return // no answer, or no interest in it
		}
		got, err := dhcpv4.FromBytes(r.reply.data)
		if err != nil {
			w.t.Fatal(err)
		}
		w.send(packet(w.t, n, request, wanted(got.YourIPAddr.String()), server(box), id))
	}
}

// TestNoCrashGivesAnAddressToTwo lets a crowd act on a server that crashes at any
// moment and forgets any part of what was not synced. What is on the disk is in the
// history, once and no more.
func TestNoCrashGivesAnAddressToTwo(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 1500 {
				w.act()
			}
			if len(w.held) == 0 {
				t.Error("nobody ever had an address: the test tests nothing")
			}
		})
	}
}
