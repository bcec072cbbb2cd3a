package dhcp4_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/services/wan/dhcp4"
)

// offered returns the lease that a client takes from a server which offers and
// acknowledges the same, or why it takes none.
func offered(t *testing.T, mods ...dhcpv4.Modifier) (*dhcp4.Lease, string) {
	t.Helper()
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	c.answer(dhcpv4.MessageTypeOffer, mods...)
	if s, _ := c.m.State(); s == dhcp4.Selecting {
		why, _ := c.m.Trouble()
		return nil, why
	}
	c.answer(dhcpv4.MessageTypeAck, mods...)
	c.wait(time.Second)
	return c.m.Lease(), ""
}

func mask(bits int) dhcpv4.Modifier { return dhcpv4.WithNetmask(net.CIDRMask(bits, 32)) }

func TestRefusesBadLeases(t *testing.T) {
	tests := []struct {
		name string
		mod  dhcpv4.Modifier
		why  string // part of
	}{
		{"unspecified address", yours("0.0.0.0"), "0.0.0.0 is not a host's address"},
		{"loopback address", yours("127.1.2.3"), "not a host's address"},
		{"multicast address", yours("224.0.0.1"), "not a host's address"},
		{"former class E", yours("240.0.0.1"), "not a host's address"},
		{"broadcast address", yours("255.255.255.255"), "not a host's address"},
		{"link-local address", yours("169.254.3.4"), "not a host's address"},
		{"server's own address", yours("192.0.2.1"), "the server's own"},
		{"subnet's address", yours("192.0.2.0"), "192.0.2.0/24 is no host's address"},
		{"subnet's broadcast", yours("192.0.2.255"), "no host's address in its subnet"},
		{"no mask", without(dhcpv4.OptionSubnetMask), "no subnet mask"},
		{"short mask", option(1, 255, 255), "no subnet mask"},
		{"mask with holes", option(1, 255, 0, 255, 0), "subnet mask 255.0.255.0"},
		{"mask of /7", mask(7), "subnet mask 254.0.0.0 is not between /8 and /32"},
		{"mask of /0", mask(0), "subnet mask 0.0.0.0"},
		{"no router", without(dhcpv4.OptionRouter), "no default gateway"},
		{"router elsewhere", dhcpv4.WithRouter(net.IP{198, 51, 100, 1}), "gateway 198.51.100.1 cannot be reached"},
		{"router is ourselves", dhcpv4.WithRouter(addr.AsSlice()), "cannot be reached"},
		{"router is the broadcast", dhcpv4.WithRouter(net.IP{192, 0, 2, 255}), "cannot be reached"},
		{"routes without default", option(121, 24, 10, 0, 0, 192, 0, 2, 1), "no default gateway"},
		{"default route on the link", option(121, 0, 0, 0, 0, 0), "gateway 0.0.0.0 cannot be reached"},
		{"routes cut short", option(121, 24, 10, 0), "classless static routes"},
		{"route to /33", option(121, 33, 10, 0, 0, 0, 0, 192, 0, 2, 1), "classless static routes"},
		{"no lease time", without(dhcpv4.OptionIPAddressLeaseTime), "no lease time"},
		{"lease of nothing", leaseTime(0), "lease of 0s is shorter than 10s"},
		{"no server", without(dhcpv4.OptionServerIdentifier), "no option 54"},
		{"server is multicast", from("224.0.0.9"), "not a host's address"},
		{"server is a name", option(54, 'd', 'h', 'c', 'p', '1'), "option 54"},
		{"overload of 4", option(52, 4), "option overload 04"},
		{"overload of nonsense", option(52, 1), "options in the file field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := func(d *dhcpv4.DHCPv4) { d.BootFileName = "\x01\xff" } // an option longer than its field
			l, why := offered(t, tt.mod, file)
			if l != nil || !strings.Contains(why, tt.why) {
				t.Errorf("lease %v, refused because %q, want %q", l, why, tt.why)
			}
		})
	}
}

func TestTakesWhatProvidersSend(t *testing.T) {
	type lease struct {
		address, gateway, resolvers string
		mtu                         uint16
		lease, renew, rebind        time.Duration
	}
	hour := lease{"192.0.2.7/24", "192.0.2.1", "[]", 0, time.Hour, 30 * time.Minute, 52*time.Minute + 30*time.Second}
	with := func(f func(*lease)) lease { l := hour; f(&l); return l }
	far := dhcpv4.WithRouter(net.IP{169, 254, 1, 1})
	times := func(t1, t2 time.Duration) []dhcpv4.Modifier {
		return []dhcpv4.Modifier{
			dhcpv4.WithGeneric(dhcpv4.OptionRenewTimeValue, be32(t1)),
			dhcpv4.WithGeneric(dhcpv4.OptionRebindingTimeValue, be32(t2)),
		}
	}
	tests := []struct {
		name string
		mods []dhcpv4.Modifier
		want lease
	}{
		{"nothing special", nil, hour},
		{"second router, as the first is far", []dhcpv4.Modifier{dhcpv4.WithRouter(net.IP{198, 51, 100, 1}, net.IP{192, 0, 2, 2})},
			with(func(l *lease) { l.gateway = "192.0.2.2" })},
		{"lone address and gateway on the link", []dhcpv4.Modifier{mask(32), far},
			with(func(l *lease) { l.address, l.gateway = "192.0.2.7/32", "169.254.1.1" })},
		{"point to point", []dhcpv4.Modifier{mask(31), dhcpv4.WithRouter(net.IP{192, 0, 2, 6})},
			with(func(l *lease) { l.address, l.gateway = "192.0.2.7/31", "192.0.2.6" })},
		{"default route wins over router", []dhcpv4.Modifier{option(121, 0, 192, 0, 2, 3)},
			with(func(l *lease) { l.gateway = "192.0.2.3" })},
		{"gateway told to be on the link", []dhcpv4.Modifier{option(121, 32, 198, 51, 100, 1, 0, 0, 0, 0, 0, 198, 51, 100, 1)},
			with(func(l *lease) { l.gateway = "198.51.100.1" })},
		{"other routes are ignored", []dhcpv4.Modifier{option(121, 1, 0, 192, 0, 2, 66, 1, 128, 192, 0, 2, 66, 0, 192, 0, 2, 1)}, hour},
		{"resolvers, only good ones and once", []dhcpv4.Modifier{dhcpv4.WithDNS(
			net.IP{9, 9, 9, 9}, net.IP{127, 0, 0, 1}, net.IP{0, 0, 0, 0}, net.IP{9, 9, 9, 9}, net.IP{192, 0, 2, 7}, net.IP{1, 1, 1, 1})},
			with(func(l *lease) { l.resolvers = "[9.9.9.9 1.1.1.1]" })},
		{"MTU", []dhcpv4.Modifier{option(26, 5, 212)}, with(func(l *lease) { l.mtu = 1492 })},
		{"MTU too small", []dhcpv4.Modifier{option(26, 0, 68)}, hour},
		{"MTU too large", []dhcpv4.Modifier{option(26, 0xff, 0xff)}, hour},
		{"lease of centuries", []dhcpv4.Modifier{leaseTime(0xfffffffe * time.Second)}, with(func(l *lease) {
			l.lease, l.renew, l.rebind = 8760*time.Hour, 4380*time.Hour, 7665*time.Hour
		})},
		{"times", times(10*time.Minute, 20*time.Minute), with(func(l *lease) { l.renew, l.rebind = 10*time.Minute, 20*time.Minute })},
		{"times upside down", times(20*time.Minute, 10*time.Minute), hour},
		{"times beyond the lease", times(time.Hour, 2*time.Hour), hour},
		{"renew all the time", times(0, time.Minute), hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, why := offered(t, tt.mods...)
			if l == nil {
				t.Fatalf("refused: %s", why)
			}
			got := lease{
				l.Address.String(), l.Gateway.String(), fmt.Sprint(l.Resolvers), l.MTU,
				l.Expires.Sub(l.Obtained), l.Renew.Sub(l.Obtained), l.Rebind.Sub(l.Obtained),
			}
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func be32(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))
}

func TestAtMostEightResolvers(t *testing.T) {
	var many []net.IP
	for i := range 60 {
		many = append(many, net.IP{198, 51, 100, byte(i + 1)})
	}
	l, why := offered(t, dhcpv4.WithDNS(many...))
	if l == nil || len(l.Resolvers) != 8 {
		t.Errorf("got %v (%s), want eight resolvers", l, why)
	}
}

// The library knows nothing of option overload, and these fields may hold zeros.
func TestReadsOverloadedOptions(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	b := reply(t, c.last, dhcpv4.MessageTypeOffer,
		without(dhcpv4.OptionIPAddressLeaseTime), without(dhcpv4.OptionRouter), option(52, 3))
	copy(b[108:], []byte{51, 4, 0, 0, 0, 120, 255})
	copy(b[44:], []byte{0, 0, 3, 4, 192, 0, 2, 5, 255})
	c.step(dhcp4.Packet{From: router, Data: b})
	if s, _ := c.m.State(); s != dhcp4.Requesting {
		why, _ := c.m.Trouble()
		t.Errorf("state %s: %s", s, why)
	}
}

// FuzzServerPacket gives a client in each of its states arbitrary bytes, with the
// header of an answer to it or without, and checks that it neither panics nor
// spins nor puts a lease in force that no kernel should get.
func FuzzServerPacket(f *testing.F) {
	probe := func() *client {
		c := newClient(&testing.T{}, dhcp4.Saved{}, nil)
		c.up()
		return c
	}()
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		f.Add(reply(f, probe.last, kind), true)
		f.Add(reply(f, probe.last, kind, option(52, 3), option(121, 32, 198, 51, 100, 1, 0, 0, 0, 0, 0, 198, 51, 100, 1)), true)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, data []byte, ours bool) {
		for _, in := range states {
			c := in.make(t)
			if s, _ := c.m.State(); s != in.state {
				t.Fatalf("state %s, want %s", s, in.state)
			}
			if c.last != nil && ours {
				data = disguise(data, c.last)
			}
			c.step(dhcp4.Packet{From: router, Data: data})
			checkLease(t, c.m.Lease(), c.now)
			c.wait(time.Minute)
			checkLease(t, c.m.Lease(), c.now)
			if c.last != nil {
				c.step(dhcp4.Packet{From: router, Data: disguise(data, c.last)})
			}
			c.wait(time.Minute)
			checkLease(t, c.m.Lease(), c.now)
		}
	})
}

// states make a client in each state. (Not a map: the fuzzer wants to see the same
// thing twice.)
var states = []struct {
	state dhcp4.State
	make  func(*testing.T) *client
}{
	{dhcp4.Init, func(t *testing.T) *client { return newClient(t, dhcp4.Saved{}, nil) }},
	{dhcp4.Selecting, func(t *testing.T) *client {
		c := newClient(t, dhcp4.Saved{}, nil)
		c.up()
		return c
	}},
	{dhcp4.Requesting, func(t *testing.T) *client {
		c := newClient(t, dhcp4.Saved{}, nil)
		c.up()
		c.answer(dhcpv4.MessageTypeOffer)
		return c
	}},
	{dhcp4.Rebooting, func(t *testing.T) *client {
		c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, nil)
		c.up()
		return c
	}},
	{dhcp4.Probing, func(t *testing.T) *client {
		c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, nil)
		c.up()
		c.answer(dhcpv4.MessageTypeAck)
		return c
	}},
	{dhcp4.Bound, func(t *testing.T) *client { return bound(t) }},
	{dhcp4.Renewing, func(t *testing.T) *client { c := bound(t); c.wait(40 * time.Minute); return c }},
	{dhcp4.Rebinding, func(t *testing.T) *client { c := bound(t); c.wait(55 * time.Minute); return c }},
}

// disguise gives bytes the header of an answer to a message.
func disguise(data []byte, to *dhcpv4.DHCPv4) []byte {
	b := slices.Clone(data)
	if len(b) < 241 {
		b = append(b, make([]byte, 241-len(b))...)
		b[240] = 255
	}
	header := to.ToBytes()
	b[0], b[1], b[2] = 2, 1, 6
	copy(b[4:8], header[4:8])
	copy(b[28:34], header[28:34])
	copy(b[236:240], header[236:240])
	return b
}

// checkLease repeats, in other words, what a lease must be.
func checkLease(t *testing.T, l *dhcp4.Lease, now time.Time) {
	t.Helper()
	if l == nil {
		return
	}
	host := func(a netip.Addr) bool {
		return a.Is4() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a.As4()[0] < 240
	}
	a := l.Address
	inside := a.Contains(l.Gateway) || a.IsSingleIP()
	if !host(a.Addr()) || a.Bits() < 8 || !host(l.Gateway) || l.Gateway == a.Addr() || !host(l.Server) || !inside && l.Gateway.IsPrivate() {
		t.Errorf("address %s, gateway %s, server %s", a, l.Gateway, l.Server)
	}
	if len(l.Resolvers) > 8 || slices.ContainsFunc(l.Resolvers, func(r netip.Addr) bool { return !host(r) }) {
		t.Errorf("resolvers %s", l.Resolvers)
	}
	if l.MTU != 0 && (l.MTU < 576 || l.MTU > 9000) {
		t.Errorf("MTU %d", l.MTU)
	}
	if l.Link != "wan" {
		t.Errorf("link %q", l.Link)
	}
	if l.Expires.IsZero() {
		return
	}
	d := l.Expires.Sub(l.Obtained)
	ordered := l.Obtained.Before(l.Renew) && l.Renew.Before(l.Rebind) && l.Rebind.Before(l.Expires)
	if d < 10*time.Second || d > 365*24*time.Hour || !ordered || !now.Before(l.Expires.Add(time.Nanosecond)) {
		t.Errorf("lease of %s, renewed at %s, rebound at %s, now %s", d, l.Renew, l.Rebind, now)
	}
}
