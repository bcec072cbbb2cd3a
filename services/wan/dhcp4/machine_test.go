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

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/services/wan/dhcp4"
)

var (
	epoch    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	own      = model.MAC{0x52, 0x54, 0, 0x10, 0, 1}
	router   = model.MAC{0x52, 0x54, 0, 0xff, 0, 1}
	stranger = model.MAC{0x52, 0x54, 0, 0xff, 0, 2}

	server = netip.MustParseAddr("192.0.2.1")
	addr   = netip.MustParseAddr("192.0.2.7")
)

// unhurried is a source of randomness that makes transaction IDs differ and every
// random duration as short as it can be: pauses of 3, 7, 15, 31 and 63 seconds.
type unhurried uint64

func (u *unhurried) Uint64() uint64 { *u++; return uint64(*u) << 32 }

// client is a machine with a clock, and a transcript of what it did.
type client struct {
	t    *testing.T
	m    *dhcp4.Machine
	now  time.Time
	last *dhcpv4.DHCPv4 // message sent
	log  []string
}

func newClient(t *testing.T, saved dhcp4.Saved, held *dhcp4.Lease) *client {
	cfg := dhcp4.Config{Link: "wan", Hostname: "gw", Rand: new(unhurried)}
	return &client{t: t, now: epoch, m: dhcp4.New(epoch, cfg, saved, held)}
}

func (c *client) step(ev dhcp4.Event) {
	c.t.Helper()
	for _, a := range c.m.Step(c.now, ev) {
		c.log = append(c.log, fmt.Sprintf("%s %s", c.now.Sub(epoch).Round(time.Millisecond), c.describe(a)))
	}
}

func (c *client) describe(a dhcp4.Action) string {
	switch a := a.(type) {
	case dhcp4.Broadcast:
		c.last = a.Message
		return message(a.Message)
	case dhcp4.Unicast:
		c.last = a.Message
		return fmt.Sprintf("%s from %s to %s", message(a.Message), a.From, a.To)
	case dhcp4.Probe:
		return "probe " + a.Address.String()
	case dhcp4.Publish:
		if a.Lease.Expires.IsZero() {
			return fmt.Sprintf("publish %s for ever", a.Lease.Address)
		}
		return fmt.Sprintf("publish %s until %s", a.Lease.Address, a.Lease.Expires.Sub(epoch).Round(time.Millisecond))
	case dhcp4.Withdraw:
		return "withdraw: " + a.Why
	case dhcp4.Remember:
		if a.Saved == (dhcp4.Saved{}) {
			return "forget"
		}
		return fmt.Sprintf("remember %s of %s", a.Saved.Address, a.Saved.MAC)
	}
	return fmt.Sprintf("%T", a)
}

func message(m *dhcpv4.DHCPv4) string {
	s := strings.ToLower(m.MessageType().String())
	if m.ClientIPAddr != nil {
		s += " has=" + m.ClientIPAddr.String()
	}
	if a := m.RequestedIPAddress(); a != nil {
		s += " asks=" + a.String()
	}
	if a := m.ServerIdentifier(); a != nil {
		s += " server=" + a.String()
	}
	return s
}

// wait lets time pass, waking the machine when it wants to be.
func (c *client) wait(d time.Duration) {
	c.t.Helper()
	end := c.now.Add(d)
	for range 10_000 {
		at := c.m.Next()
		if at.IsZero() || at.After(end) {
			c.now = end
			return
		}
		if at.After(c.now) {
			c.now = at
		}
		c.step(dhcp4.Tick{})
	}
	c.t.Fatalf("the machine spins at %s", c.now.Sub(epoch))
}

func (c *client) up() {
	c.t.Helper()
	c.step(dhcp4.Link{Up: true, MAC: own})
	c.wait(time.Millisecond) // and a random pause of nothing
}

func (c *client) down() { c.t.Helper(); c.step(dhcp4.Link{}) }

// answer is a server's answer to the last message.
func (c *client) answer(kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) {
	c.t.Helper()
	c.step(dhcp4.Packet{From: router, Data: reply(c.t, c.last, kind, mods...)})
}

// reply makes an answer to a message: by server, of addr, in a /24 for an hour.
func reply(t testing.TB, to *dhcpv4.DHCPv4, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) []byte {
	t.Helper()
	// Not dhcpv4.NewReplyFromRequest: it draws a random number in a goroutine of its
	// own, which has the fuzzer see new paths for ever.
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: to.HWType, TransactionID: to.TransactionID,
		ClientHWAddr: to.ClientHWAddr, ServerIPAddr: server.AsSlice(), Options: make(dhcpv4.Options),
	}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
	r.UpdateOption(dhcpv4.OptClientIdentifier(to.Options.Get(dhcpv4.OptionClientIdentifier))) // RFC 6842
	if kind != dhcpv4.MessageTypeNak {
		r.YourIPAddr = addr.AsSlice()
		r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
		r.UpdateOption(dhcpv4.OptRouter(server.AsSlice()))
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Hour))
	}
	for _, mod := range mods {
		mod(r)
	}
	return r.ToBytes()
}

func from(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func yours(a string) dhcpv4.Modifier { return dhcpv4.WithYourIP(net.ParseIP(a).To4()) }

func leaseTime(d time.Duration) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(d))
}

func without(code dhcpv4.OptionCode) dhcpv4.Modifier {
	return func(d *dhcpv4.DHCPv4) { d.DeleteOption(code) }
}

func option(code uint8, b ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), b)
}

// expect compares the transcript since the last call.
func (c *client) expect(state dhcp4.State, want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.log); diff != "" {
		c.t.Errorf("transcript differs (-want +got):\n%s", diff)
	}
	c.log = nil
	if got, _ := c.m.State(); got != state {
		c.t.Errorf("state %s, want %s", got, state)
	}
}

// bound returns a client with a lease of an hour, as of the start of its clock.
func bound(t *testing.T, mods ...dhcpv4.Modifier) *client {
	t.Helper()
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	c.answer(dhcpv4.MessageTypeOffer, mods...)
	c.answer(dhcpv4.MessageTypeAck, mods...)
	c.wait(time.Second)
	if s, _ := c.m.State(); s != dhcp4.Bound {
		t.Fatalf("not bound: %v", c.log)
	}
	c.log = nil
	return c
}

func TestObtainsLease(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.expect(dhcp4.Init)
	c.up()
	c.expect(dhcp4.Selecting, "0s discover")
	c.answer(dhcpv4.MessageTypeOffer)
	c.expect(dhcp4.Requesting, "1ms request asks=192.0.2.7 server=192.0.2.1")
	c.answer(dhcpv4.MessageTypeAck)
	c.expect(dhcp4.Probing, "1ms probe 192.0.2.7")
	c.wait(time.Second)
	c.expect(dhcp4.Bound,
		"251ms probe 192.0.2.7",
		"501ms probe 192.0.2.7",
		"1.001s publish 192.0.2.7/24 until 1h0m0.001s",
		"1.001s remember 192.0.2.7 of 52:54:00:10:00:01")
	want := &dhcp4.Lease{
		Lease: facts.Lease{
			Link: "wan", Address: netip.PrefixFrom(addr, 24), Gateway: server, Server: server,
			Obtained: epoch.Add(time.Millisecond), Expires: epoch.Add(time.Hour + time.Millisecond),
		},
		Renew:  epoch.Add(30*time.Minute + time.Millisecond),
		Rebind: epoch.Add(52*time.Minute + 30*time.Second + time.Millisecond),
	}
	if diff := cmp.Diff(want, c.m.Lease(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("lease differs (-want +got):\n%s", diff)
	}
}

func TestMessagesSayWhoAsks(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	m := c.last
	if m.ClientHWAddr.String() != own.String() || m.IsBroadcast() || m.HostName() != "gw" {
		t.Errorf("got %s", m.Summary())
	}
	if got, want := m.Options.Get(dhcpv4.OptionClientIdentifier), append([]byte{1}, own[:]...); !slices.Equal(got, want) {
		t.Errorf("client identifier %x, want %x", got, want)
	}
	list := m.ParameterRequestList()
	routes := slices.Index(list, dhcpv4.OptionCode(dhcpv4.OptionClasslessStaticRoute))
	if routes < 0 || routes > slices.Index(list, dhcpv4.OptionCode(dhcpv4.OptionRouter)) {
		t.Errorf("option 121 does not precede 3 in %v", list)
	}
	c.m.SetHostname("gateway")
	c.wait(4 * time.Second)
	if got := c.last.HostName(); got != "gateway" {
		t.Errorf("host name %q after it was changed", got)
	}
	if got := c.last.NumSeconds; got != 3 {
		t.Errorf("%d seconds since the search began, want 3", got)
	}
}

func TestLooksForServerEverMoreSlowly(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	c.wait(4 * time.Minute)
	c.expect(dhcp4.Selecting, "0s discover", "3s discover", "10s discover", "25s discover",
		"56s discover", "1m59s discover", "3m2s discover")
	if what, _ := c.m.Trouble(); what != "no server answers" {
		t.Errorf("trouble is %q", what)
	}
}

func TestRequestWithoutAnswerStartsAnew(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	c.answer(dhcpv4.MessageTypeOffer)
	c.wait(57 * time.Second)
	request := "request asks=192.0.2.7 server=192.0.2.1"
	c.expect(dhcp4.Selecting, "0s discover", "1ms "+request, "3.001s "+request, "10.001s "+request,
		"25.001s "+request, "56.001s discover")
}

func TestRenewsRebindsExpires(t *testing.T) {
	c := bound(t)
	c.wait(50 * time.Minute)
	c.expect(dhcp4.Renewing,
		"30m0.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"41m15.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"46m52.501s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"49m41.251s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1")
	c.wait(8*time.Minute + 10*time.Second)
	c.expect(dhcp4.Rebinding,
		"51m5.626s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"52m5.626s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"52m30.001s request has=192.0.2.7",
		"56m15.001s request has=192.0.2.7",
		"58m7.501s request has=192.0.2.7")
	c.wait(110 * time.Second)
	c.expect(dhcp4.Selecting,
		"59m7.501s request has=192.0.2.7",
		"1h0m0.001s withdraw: the lease expired",
		"1h0m0.001s discover asks=192.0.2.7")
}

func TestRenewalProlongsLease(t *testing.T) {
	c := bound(t)
	c.wait(30 * time.Minute)
	c.answer(dhcpv4.MessageTypeAck)
	c.expect(dhcp4.Bound,
		"30m0.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"30m1.001s publish 192.0.2.7/24 until 1h30m0.001s") // counted from the request
	c.wait(30 * time.Minute)
	c.expect(dhcp4.Renewing, "1h0m0.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1")
}

func TestAnotherServerTakesOverWhenRebinding(t *testing.T) {
	c := bound(t)
	c.wait(30 * time.Minute)
	c.answer(dhcpv4.MessageTypeAck, from("192.0.2.2")) // not its turn
	c.wait(23 * time.Minute)
	c.log = nil
	c.answer(dhcpv4.MessageTypeAck, from("192.0.2.2"))
	c.expect(dhcp4.Bound, "53m1.001s publish 192.0.2.7/24 until 1h52m30.001s")
	if got := c.m.Lease().Server.String(); got != "192.0.2.2" {
		t.Errorf("server %s", got)
	}
}

func TestShortLeaseIsRenewedInTime(t *testing.T) {
	c := bound(t, leaseTime(20*time.Second))
	c.wait(19*time.Second + time.Millisecond)
	c.expect(dhcp4.Selecting,
		"10.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"13.751s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"15.626s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"17.501s request has=192.0.2.7",
		"18.751s request has=192.0.2.7",
		"19.751s request has=192.0.2.7",
		"20.001s withdraw: the lease expired",
		"20.001s discover asks=192.0.2.7")
}

func TestLeaseForEverIsLeftAlone(t *testing.T) {
	c := bound(t, leaseTime(0xffffffff*time.Second))
	if at := c.m.Next(); !at.IsZero() {
		t.Errorf("wants to be woken at %s", at)
	}
	c.wait(20 * 365 * 24 * time.Hour)
	c.expect(dhcp4.Bound)
}

func TestDenialEndsLeaseAtOnce(t *testing.T) {
	c := bound(t)
	c.wait(30 * time.Minute)
	c.answer(dhcpv4.MessageTypeNak)
	c.wait(time.Millisecond)
	c.expect(dhcp4.Selecting,
		"30m0.001s request has=192.0.2.7 from 192.0.2.7 to 192.0.2.1",
		"30m1.001s withdraw: 192.0.2.1 denies 192.0.2.7",
		"30m1.001s forget",
		"30m1.001s discover")
}

func TestEndlessDenialsGetFewer(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	var sent []time.Duration
	for range 6 {
		sent = append(sent, c.now.Sub(epoch).Round(time.Second))
		c.answer(dhcpv4.MessageTypeOffer)
		c.answer(dhcpv4.MessageTypeNak)
		if s, _ := c.m.State(); s != dhcp4.Init {
			t.Fatalf("state %s after a denial", s)
		}
		c.wait(c.m.Next().Sub(c.now))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{0, 0, 3 * s, 10 * s, 25 * s, 56 * s}, sent); diff != "" {
		t.Errorf("times of discovery differ (-want +got):\n%s", diff)
	}
}

func TestLostLinkKeepsLease(t *testing.T) {
	c := bound(t)
	c.wait(time.Minute)
	c.down()
	c.down()
	c.wait(time.Minute)
	if c.m.Lease() == nil {
		t.Error("the lease is gone with the link")
	}
	c.up()
	c.expect(dhcp4.Rebooting, "2m1.001s request asks=192.0.2.7")
	c.answer(dhcpv4.MessageTypeAck) // no probe: the address is our own
	c.expect(dhcp4.Bound, "2m1.002s publish 192.0.2.7/24 until 1h2m1.001s")
}

func TestLeaseExpiresWithoutLink(t *testing.T) {
	c := bound(t)
	c.down()
	c.wait(2 * time.Hour)
	c.expect(dhcp4.Init, "1h0m0.001s withdraw: the lease expired")
	c.up()
	c.expect(dhcp4.Rebooting, "2h0m1.001s request asks=192.0.2.7")
}

func TestLinkToAnotherNetworkEndsLease(t *testing.T) {
	c := bound(t)
	c.down()
	c.up()
	c.answer(dhcpv4.MessageTypeNak, from("198.51.100.1"))
	c.wait(time.Millisecond)
	c.expect(dhcp4.Selecting,
		"1.001s request asks=192.0.2.7",
		"1.002s withdraw: 198.51.100.1 denies 192.0.2.7",
		"1.002s forget",
		"1.002s discover")
}

func TestSilentNetworkReplacesLeaseOnlyByAnother(t *testing.T) {
	c := bound(t)
	c.down()
	c.up()
	c.wait(11 * time.Second)
	c.expect(dhcp4.Selecting,
		"1.001s request asks=192.0.2.7",
		"4.001s request asks=192.0.2.7",
		"11.001s discover asks=192.0.2.7")
	other := []dhcpv4.Modifier{from("198.51.100.1"), yours("198.51.100.9"), dhcpv4.WithRouter(net.IP{198, 51, 100, 1})}
	c.answer(dhcpv4.MessageTypeOffer, other...)
	c.answer(dhcpv4.MessageTypeAck, other...)
	if got := c.m.Lease().Address.Addr(); got != addr {
		t.Errorf("lease of %s is in force before it was probed", got)
	}
	c.wait(time.Second)
	c.expect(dhcp4.Bound,
		"12.002s request asks=198.51.100.9 server=198.51.100.1",
		"12.002s probe 198.51.100.9",
		"12.252s probe 198.51.100.9",
		"12.502s probe 198.51.100.9",
		"13.002s publish 198.51.100.9/24 until 1h0m12.002s",
		"13.002s remember 198.51.100.9 of 52:54:00:10:00:01")
}

func TestDenialOfAnOfferLeavesLease(t *testing.T) {
	c := bound(t)
	c.down()
	c.up()
	c.wait(11 * time.Second)
	c.answer(dhcpv4.MessageTypeOffer, yours("192.0.2.9"))
	c.log = nil
	c.answer(dhcpv4.MessageTypeNak)
	c.expect(dhcp4.Init)
	if c.m.Lease() == nil {
		t.Error("the lease is gone, though another address was denied")
	}
}

func TestRestartChecksLeaseInForce(t *testing.T) {
	held := &dhcp4.Lease{Lease: facts.Lease{
		Link: "wan", Address: netip.PrefixFrom(addr, 24), Gateway: server, Server: server,
		Obtained: epoch.Add(-30 * time.Minute), Expires: epoch.Add(30 * time.Minute),
	}}
	c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, held)
	c.up()
	c.expect(dhcp4.Rebooting, "0s request asks=192.0.2.7")
	c.wait(31 * time.Minute)
	if want := "30m0s withdraw: the lease expired"; !slices.Contains(c.log, want) {
		t.Errorf("got %q, want among them %q", c.log, want)
	}
	if s, _ := c.m.State(); s != dhcp4.Selecting {
		t.Errorf("state %s", s)
	}
}

func TestRebootAsksForAddressAndProbesIt(t *testing.T) {
	c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, nil)
	c.up()
	c.answer(dhcpv4.MessageTypeAck)
	c.expect(dhcp4.Probing, "0s request asks=192.0.2.7", "1ms probe 192.0.2.7")
	c.wait(time.Second)
	c.expect(dhcp4.Bound, "251ms probe 192.0.2.7", "501ms probe 192.0.2.7",
		"1.001s publish 192.0.2.7/24 until 1h0m0s")
}

func TestAnotherMACKnowsNothingOfTheOldOne(t *testing.T) {
	c := newClient(t, dhcp4.Saved{MAC: stranger, Address: addr}, nil)
	c.up()
	c.expect(dhcp4.Selecting, "0s discover")
}

func TestChangedMACEndsLease(t *testing.T) {
	c := bound(t)
	c.down()
	c.step(dhcp4.Link{Up: true, MAC: stranger})
	c.wait(time.Millisecond)
	c.expect(dhcp4.Selecting, "1.001s withdraw: the interface has another MAC", "1.001s discover")
}

func TestDeclinesAddressInUse(t *testing.T) {
	tests := []struct {
		name string
		arp  dhcp4.ARP
	}{
		{"a neighbour answers", dhcp4.ARP{Sender: stranger, SenderIP: addr}},
		{"a neighbour asks for somebody from it", dhcp4.ARP{Sender: stranger, SenderIP: addr, TargetIP: server}},
		{"a neighbour probes it too", dhcp4.ARP{Sender: stranger, SenderIP: netip.IPv4Unspecified(), TargetIP: addr}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, nil)
			c.up()
			c.answer(dhcpv4.MessageTypeAck)
			c.log = nil
			c.step(tt.arp)
			c.expect(dhcp4.Init, "1ms decline asks=192.0.2.7 server=192.0.2.1", "1ms forget")
			if got := len(c.last.Options); got != 4 { // type, client identifier, address, server
				t.Errorf("%d options, want 4: %s", got, c.last.Summary())
			}
			c.wait(11 * time.Second)
			c.expect(dhcp4.Selecting, "10.001s discover")
		})
	}
}

func TestHarmlessARPIsNoConflict(t *testing.T) {
	none := netip.IPv4Unspecified()
	for name, a := range map[string]dhcp4.ARP{
		"own probe":           {Sender: own, SenderIP: none, TargetIP: addr},
		"own address":         {Sender: own, SenderIP: addr},
		"proxy of the server": {Sender: router, SenderIP: addr},
		"other conversation":  {Sender: stranger, SenderIP: server, TargetIP: addr},
		"other probe":         {Sender: stranger, SenderIP: none, TargetIP: server},
	} {
		c := newClient(t, dhcp4.Saved{MAC: own, Address: addr}, nil)
		c.up()
		c.answer(dhcpv4.MessageTypeAck)
		c.step(a)
		if s, _ := c.m.State(); s != dhcp4.Probing {
			t.Errorf("%s: state %s, want probing", name, s)
		}
	}
}

func TestIgnoresWhatWasNotAsked(t *testing.T) {
	otherXID := func(d *dhcpv4.DHCPv4) { d.TransactionID[3]++ }
	otherMAC := func(d *dhcpv4.DHCPv4) { d.ClientHWAddr = stranger[:] }
	tests := []struct {
		name string
		make func(*client)
	}{
		{"other transaction", func(c *client) { c.answer(dhcpv4.MessageTypeAck, otherXID) }},
		{"other client", func(c *client) { c.answer(dhcpv4.MessageTypeAck, otherMAC) }},
		{"other client identifier", func(c *client) { c.answer(dhcpv4.MessageTypeAck, option(61, 1, 2, 3)) }},
		{"other server", func(c *client) { c.answer(dhcpv4.MessageTypeAck, from("192.0.2.2")) }},
		{"denial of another server", func(c *client) { c.answer(dhcpv4.MessageTypeNak, from("192.0.2.2")) }},
		{"second offer", func(c *client) { c.answer(dhcpv4.MessageTypeOffer, from("192.0.2.2")) }},
		{"request of a neighbour", func(c *client) {
			c.step(dhcp4.Packet{From: stranger, Data: c.last.ToBytes()})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, dhcp4.Saved{}, nil)
			c.up()
			c.answer(dhcpv4.MessageTypeOffer)
			c.log = nil
			tt.make(c)
			c.expect(dhcp4.Requesting)
			if n := c.m.Refused(); n != 0 {
				t.Errorf("%d messages refused, want none: they were not for us", n)
			}
		})
	}
}

func TestServerMayNotChangeAddress(t *testing.T) {
	c := bound(t)
	c.wait(30 * time.Minute)
	c.log = nil
	c.answer(dhcpv4.MessageTypeAck, yours("192.0.2.8"))
	c.expect(dhcp4.Renewing)
	if c.m.Refused() != 1 {
		t.Error("not counted as refused")
	}
	want := "lease from 192.0.2.1 refused: it gives 192.0.2.8 where 192.0.2.7 was asked for"
	if got, _ := c.m.Trouble(); got != want {
		t.Errorf("trouble is %q, want %q", got, want)
	}
}

func TestBadOfferIsPassedOver(t *testing.T) {
	c := newClient(t, dhcp4.Saved{}, nil)
	c.up()
	c.answer(dhcpv4.MessageTypeOffer, yours("127.0.0.1"))
	c.answer(dhcpv4.MessageTypeOffer)
	c.expect(dhcp4.Requesting, "0s discover", "1ms request asks=192.0.2.7 server=192.0.2.1")
	if c.m.Refused() != 1 {
		t.Error("not counted as refused")
	}
}

// xidOf is the transaction ID of a message.
func xidOf(m *dhcpv4.DHCPv4) uint32 { return binary.BigEndian.Uint32(m.TransactionID[:]) }

func TestEachExchangeHasItsOwnTransaction(t *testing.T) {
	c := bound(t)
	seen := map[uint32]bool{xidOf(c.last): true}
	for range 3 {
		c.wait(c.m.Next().Sub(c.now))
		if seen[xidOf(c.last)] {
			t.Errorf("transaction %d was used before: %v", xidOf(c.last), c.log)
		}
		seen[xidOf(c.last)] = true
	}
}
