package lease_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/lease"
)

var (
	start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	none  netip.Addr
)

const hour = time.Hour

func ip(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 40, last}) }

func mac(n byte) lease.Client { return lease.Client{MAC: model.MAC{2, 0, 0, 0, 0, n}} }

// small is a zone with room for four: .10 to .13, of which .12 is kept for client 9.
func small() lease.Config {
	return lease.Config{
		Subnet: netip.MustParsePrefix("192.168.40.0/24"), Box: ip(1),
		First: ip(10), Last: ip(13), Lease: hour,
		Reserved: map[model.MAC]netip.Addr{mac(9).MAC: ip(12), mac(8).MAC: ip(50)},
	}
}

// bind gives an address to a client by way of an offer, and fails unless it is want.
func bind(t *testing.T, tab *lease.Table, now time.Time, c lease.Client, want netip.Addr) {
	t.Helper()
	got, ok := tab.Offer(now, c, none)
	if !ok || got != want {
		t.Fatalf("offered %v, %s; want %s", ok, got, want)
	}
	if l, ok := tab.Bind(now, c, got, ""); !ok || l.Until != now.Add(hour) {
		t.Fatalf("bound %v, %+v", ok, l)
	}
}

func TestAddressesAreChosenInTheOrderOfRFC2131(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	bind(t, tab, start.Add(1), mac(2), ip(11))
	bind(t, tab, start.Add(2), mac(3), ip(13)) // .12 is kept
	bind(t, tab, start, mac(9), ip(12))        // for this one
	bind(t, tab, start, mac(8), ip(50))        // kept outside the pool
	if a, ok := tab.Offer(start, mac(4), none); ok {
		t.Fatalf("offered %s from a full pool", a)
	}
	later := start.Add(2 * hour) // all have run out
	bind(t, tab, later, mac(3), ip(13))
	if a, _ := tab.Offer(later, mac(4), ip(11)); a != ip(11) {
		t.Errorf("offered %s, not the one it would like", a)
	}
	bind(t, tab, later, mac(5), ip(10)) // free for longest
	if err := tab.Check(); err != nil {
		t.Error(err)
	}
}

func TestOldestFreeAddressGoesFirst(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	bind(t, tab, start, mac(2), ip(11))
	bind(t, tab, start, mac(3), ip(13))
	tab.Release(start.Add(1*time.Minute), mac(2), ip(11))
	tab.Release(start.Add(2*time.Minute), mac(3), ip(13))
	tab.Release(start.Add(3*time.Minute), mac(1), ip(10))
	now := start.Add(4 * time.Minute)
	bind(t, tab, now, mac(3), ip(13)) // comes back, and to its own
	bind(t, tab, now, mac(5), ip(11))
	bind(t, tab, now, mac(6), ip(10))
}

func TestOffersHoldAndRunOut(t *testing.T) {
	tab := lease.New(small())
	for n := range byte(100) {
		tab.Offer(start, mac(100+n), none)
	}
	if a, ok := tab.Offer(start.Add(lease.OfferHold-1), mac(1), none); ok {
		t.Errorf("offered %s, which others hold", a)
	}
	if _, ok := tab.Bind(start, mac(1), ip(10), ""); ok {
		t.Error("gave away what was offered to somebody else")
	}
	bind(t, tab, start.Add(lease.OfferHold), mac(1), ip(10))
	// A client that takes its time gets it all the same, if nobody was faster.
	if _, ok := tab.Bind(start.Add(lease.OfferHold), mac(101), ip(11), ""); !ok {
		t.Error("a late client was refused an address that is free")
	}
}

func TestOfferTakesNothingFromALease(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	if a, _ := tab.Offer(start.Add(time.Minute), mac(1), ip(11)); a != ip(10) {
		t.Errorf("offered %s to the client that has %s", a, ip(10))
	}
	if l, _ := tab.Get(ip(10)); l.State != lease.Bound || l.Until != start.Add(hour) {
		t.Errorf("got %+v", l)
	}
}

func TestHostNameStaysWithItsClient(t *testing.T) {
	tab := lease.New(small())
	for i, tt := range []struct {
		client     lease.Client
		name, want string
	}{
		{mac(1), "phone", "phone"},
		{mac(1), "", "phone"}, // a renewal without it
		{mac(1), "tablet", "tablet"},
		{mac(2), "", ""},
	} {
		if i == 3 {
			tab.Release(start, mac(1), ip(10))
		}
		if l, ok := tab.Bind(start, tt.client, ip(10), tt.name); !ok || l.Hostname != tt.want {
			t.Errorf("step %d: got %v, %q, want %q", i, ok, l.Hostname, tt.want)
		}
	}
}

func TestBindRefusesWhatIsNotTheClients(t *testing.T) {
	tests := []struct {
		name   string
		client lease.Client
		addr   netip.Addr
		ok     bool
	}{
		{"its own", mac(1), ip(10), true},
		{"somebody else's", mac(2), ip(10), false},
		{"unknown but free", mac(2), ip(11), true},
		{"a second one", mac(1), ip(11), false},
		{"kept for another", mac(2), ip(12), false},
		{"kept for it", mac(9), ip(12), true},
		{"from the pool, though it has a reservation", mac(9), ip(13), false},
		{"the box's", mac(2), ip(1), false},
		{"outside the pool", mac(2), ip(99), false},
		{"network", mac(2), ip(0), false},
		{"broadcast", mac(2), ip(255), false},
		{"another subnet's", mac(2), netip.MustParseAddr("192.168.41.10"), false},
		{"none", mac(2), none, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := lease.New(small())
			bind(t, tab, start, mac(1), ip(10))
			if _, ok := tab.Bind(start.Add(1), tt.client, tt.addr, ""); ok != tt.ok {
				t.Errorf("got %v, want %v", ok, tt.ok)
			}
			if err := tab.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWholeSubnetAsPoolLeavesOutNetworkBoxAndBroadcast(t *testing.T) {
	cfg := small()
	cfg.Subnet = netip.MustParsePrefix("192.168.40.0/29")
	cfg.First, cfg.Last, cfg.Reserved = ip(0), ip(7), nil
	tab := lease.New(cfg)
	var got []netip.Addr
	for n := range byte(9) {
		if a, ok := tab.Offer(start, mac(n+1), none); ok {
			got = append(got, a)
		}
	}
	want := []netip.Addr{ip(2), ip(3), ip(4), ip(5), ip(6)}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIdentity(t *testing.T) {
	withID := func(n byte, id string) lease.Client { c := mac(n); c.ID = id; return c }
	tests := []struct {
		name string
		a, b lease.Client
		same bool
	}{
		{"identifier wins over MAC", withID(1, "\xffduid"), withID(2, "\xffduid"), true},
		{"two systems on one MAC", withID(1, "\xffone"), withID(1, "\xfftwo"), false},
		{"identifier made of the MAC", mac(1), withID(1, "\x01\x02\x00\x00\x00\x00\x01"), true},
		{"identifier made of another's MAC", mac(1), withID(2, "\x01\x02\x00\x00\x00\x00\x01"), false},
		{"reserved device is its MAC", withID(9, "\xffone"), withID(9, "\xfftwo"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := lease.New(small())
			a, _ := tab.Offer(start, tt.a, none)
			b, _ := tab.Offer(start, tt.b, none)
			if (a == b) != tt.same {
				t.Errorf("offered %s and %s", a, b)
			}
		})
	}
}

func TestReservationWaitsForTheClientThatHasItsAddress(t *testing.T) {
	cfg := small()
	cfg.Reserved = nil
	old := lease.New(cfg)
	bind(t, old, start, mac(1), ip(10))

	cfg.Reserved = map[model.MAC]netip.Addr{mac(7).MAC: ip(10)}
	tab := lease.New(cfg)
	for l := range old.All() {
		tab.Restore(start, l)
	}
	bind(t, tab, start, mac(7), ip(11))
	if _, ok := tab.Bind(start.Add(hour/2), mac(1), ip(10), ""); ok {
		t.Error("extended a lease on an address kept for another")
	}
	if _, ok := tab.Bind(start.Add(hour/2), mac(7), ip(11), ""); !ok {
		t.Error("refused the device its substitute while it waits")
	}
	// The lease has run out: the substitute is refused, and the device moves.
	if _, ok := tab.Bind(start.Add(hour), mac(7), ip(11), ""); ok {
		t.Error("the device stays where it is")
	}
	bind(t, tab, start.Add(hour), mac(7), ip(10))
	if err := tab.Check(); err != nil {
		t.Error(err)
	}
}

func TestDeclinedAddressIsLeftAlone(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	if _, ok := tab.Decline(start, mac(2), ip(10)); ok {
		t.Error("a client declined another's address")
	}
	if l, ok := tab.Decline(start, mac(1), ip(10)); !ok || l.State != lease.Declined {
		t.Fatalf("got %v, %+v", ok, l)
	}
	bind(t, tab, start, mac(1), ip(11))
	bind(t, tab, start, mac(2), ip(13))
	if a, ok := tab.Offer(start.Add(lease.Quarantine-1), mac(3), ip(10)); ok {
		t.Errorf("offered %s", a)
	}
	bind(t, tab, start.Add(lease.Quarantine), mac(3), ip(10))
}

func TestDecliningEverythingLeavesThePoolUsable(t *testing.T) {
	cfg := small()
	cfg.Last = ip(109)
	tab := lease.New(cfg)
	for range 1000 {
		a, ok := tab.Offer(start, mac(1), none)
		if !ok {
			t.Fatal("no address left")
		}
		tab.Decline(start, mac(1), a)
		if err := tab.Check(); err != nil {
			t.Fatal(err)
		}
	}
	declined := 0
	for l := range tab.All() {
		if l.State == lease.Declined {
			declined++
		}
	}
	if declined != 25 {
		t.Errorf("%d of 100 addresses are in quarantine, want 25", declined)
	}
}

func TestReleaseAndWithdrawAreTheClientsOwn(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	if _, ok := tab.Release(start, mac(2), ip(10)); ok {
		t.Error("a client released another's address")
	}
	if l, ok := tab.Release(start, mac(1), ip(10)); !ok || l.State != lease.Free {
		t.Errorf("got %v, %+v", ok, l)
	}
	if _, ok := tab.Release(start, mac(1), ip(10)); ok {
		t.Error("released twice")
	}
	tab.Offer(start, mac(2), none)
	tab.Withdraw(start, mac(2))
	if l, _ := tab.Get(ip(11)); l.State != lease.Free {
		t.Errorf("withdrawn offer: %+v", l)
	}
}

func TestTableIsBounded(t *testing.T) {
	cfg := lease.Config{
		Subnet: netip.MustParsePrefix("10.0.0.0/8"), Box: netip.MustParseAddr("10.0.0.1"),
		First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.255.255.254"), Lease: hour,
	}
	tab := lease.New(cfg)
	offered := 0
	for n := range 2 * lease.MaxLeases {
		c := lease.Client{MAC: model.MAC{2, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}
		if _, ok := tab.Offer(start, c, none); ok {
			offered++
		}
	}
	if offered != lease.MaxLeases {
		t.Errorf("offered %d addresses, want %d", offered, lease.MaxLeases)
	}
	if _, ok := tab.Offer(start.Add(lease.OfferHold), mac(1), none); !ok {
		t.Error("the flood is over, and there is still no address")
	}
}

func TestRebaseErrsOnTheLongSide(t *testing.T) {
	bound := lease.Lease{Addr: ip(10), State: lease.Bound, Granted: start, Until: start.Add(hour)}
	declined := lease.Lease{Addr: ip(10), State: lease.Declined, Granted: start.Add(-hour), Until: start.Add(lease.Quarantine)}
	freed := lease.Lease{Addr: ip(10), State: lease.Free, Granted: start.Add(-hour), Until: start}
	day := 24 * hour
	tests := []struct {
		name string
		l    lease.Lease
		now  time.Time
		left time.Duration
	}{
		{"soon after", bound, start.Add(hour / 4), hour * 3 / 4},
		{"long after", bound, start.Add(day), hour - day},
		{"clock behind", bound, start.Add(-50 * 365 * day), hour},
		{"declined", declined, start, lease.Quarantine},
		{"declined, clock behind", declined, start.Add(-day), lease.Quarantine},
		{"free", freed, start.Add(day), -day},
		{"free, clock behind", freed, start.Add(-day), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.l.Rebase(tt.now)
			if left := got.Until.Sub(tt.now); left != tt.left {
				t.Errorf("%s are left, want %s", left, tt.left)
			}
			if got.Granted.After(tt.now) {
				t.Errorf("granted in the future: %s", got.Granted)
			}
		})
	}
}

func TestRestoredTableGoesOn(t *testing.T) {
	tab := lease.New(small())
	bind(t, tab, start, mac(1), ip(10))
	bind(t, tab, start, mac(2), ip(11))
	bind(t, tab, start, mac(9), ip(12))
	tab.Release(start, mac(2), ip(11))
	tab.Offer(start, mac(3), none)

	again := lease.New(small())
	for _, l := range oldestFirst(tab) {
		again.Restore(start, l)
	}
	if diff := gocmp.Diff(oldestFirst(tab), oldestFirst(again), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("restored table differs (-want +got):\n%s", diff)
	}
	bind(t, again, start, mac(1), ip(10))
	bind(t, again, start, mac(3), ip(13))
	bind(t, again, start, mac(2), ip(11))
}

// TestNeverTwoClientsOnOneAddress has a crowd do everything a client can, in random
// order, through changes of the configuration.
func TestNeverTwoClientsOnOneAddress(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			cfg := small()
			cfg.Last = ip(10 + byte(r.IntN(12)))
			tab := lease.New(cfg)
			held := holders{}
			now := start
			for range 3000 {
				now = now.Add(time.Duration(r.Int64N(int64(2 * time.Minute))))
				c := mac(byte(1 + r.IntN(12)))
				if r.IntN(3) == 0 {
					c.ID = fmt.Sprintf("id%d", r.IntN(6))
				}
				addr := ip(byte(8 + r.IntN(16)))
				switch r.IntN(20) {
				case 0:
					l, ok := tab.Release(now, c, addr)
					if ok {
						held.release(l.Addr)
					}
				case 1:
					if l, ok := tab.Decline(now, c, addr); ok {
						held.release(l.Addr)
					}
				case 2:
					tab.Withdraw(now, c)
				case 3:
					cfg.Reserved = map[model.MAC]netip.Addr{mac(byte(1 + r.IntN(12))).MAC: addr}
					cfg.First, cfg.Last = ip(byte(8+r.IntN(4))), ip(byte(12+r.IntN(9)))
					next := lease.New(cfg)
					for _, l := range oldestFirst(tab) {
						next.Restore(now, l)
					}
					tab = next
				default:
					if r.IntN(2) == 0 {
						addr, _ = tab.Offer(now, c, addr)
					}
					if l, ok := tab.Bind(now, c, addr, ""); ok {
						_, reserved := cfg.Reserved[c.MAC]
						if err := held.bind(now, l, reserved); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := tab.Check(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// oldestFirst returns what is in a table in the order that Restore wants.
func oldestFirst(t *lease.Table) []lease.Lease {
	return slices.SortedFunc(t.All(), func(a, b lease.Lease) int {
		return cmp.Or(a.Until.Compare(b.Until), a.Addr.Compare(b.Addr))
	})
}

// holders are who believes to have which address.
type holders map[netip.Addr]lease.Lease

func (h holders) release(a netip.Addr) { delete(h, a) }

// bind notes a lease, and complains if another client still has one. It has its own
// notion of who is another: by identifier or, of a client that sends none or has a
// reservation, by MAC.
func (h holders) bind(now time.Time, l lease.Lease, reserved bool) error {
	other, ok := h[l.Addr]
	h[l.Addr] = l
	a, b := l.Client, other.Client
	same := a.MAC == b.MAC && (reserved || a.ID == b.ID) || a.ID != "" && a.ID == b.ID
	if ok && other.Until.After(now) && !same {
		return fmt.Errorf("%s is given to %+v while it is %+v's until %s", l.Addr, a, b, other.Until)
	}
	return nil
}
