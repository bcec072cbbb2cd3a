package dhcp

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/lease"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func hw(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// testConf is two zones: iot with a pool of four and two reservations, one of them in
// the pool, and guest.
func testConf() svcconf.DHCP {
	return svcconf.DHCP{Zones: []svcconf.DHCPZone{
		{
			Zone: "iot", Link: "trunk.40", Address: netip.MustParsePrefix("192.168.40.1/24"),
			First: addr("192.168.40.100"), Last: addr("192.168.40.103"), Lease: svcconf.Duration(time.Hour),
			Router: addr("192.168.40.1"), Resolvers: []netip.Addr{addr("192.168.40.1")},
			Domain: "home.arpa", NTP: []netip.Addr{addr("192.168.40.1")},
			Reservations: []svcconf.Reservation{
				{Name: "tv", MAC: model.MAC(hw(0x12)), Address: addr("192.168.40.12")},
				{Name: "lamp", MAC: model.MAC(hw(0x13)), Address: addr("192.168.40.103")},
			},
		},
		{
			Zone: "guest", Link: "trunk.50", Address: netip.MustParsePrefix("192.168.50.1/24"),
			First: addr("192.168.50.128"), Last: addr("192.168.50.254"), Lease: svcconf.Duration(time.Hour),
			Router: addr("192.168.50.1"),
		},
	}}
}

func newCore(t testing.TB, conf svcconf.DHCP) *core {
	t.Helper()
	c := &core{count: new(Counters)}
	if err := c.configure(start, conf); err != nil {
		t.Fatal(err)
	}
	return c
}

// packet is a client's message. Modifiers are applied in order.
func packet(t testing.TB, n byte, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) []byte {
	t.Helper()
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw(n)), dhcpv4.WithMessageType(kind)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p.ToBytes()
}

func wanted(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func server(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func ciaddr(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }

func giaddr(a string) dhcpv4.Modifier { return dhcpv4.WithGatewayIP(net.ParseIP(a)) }

func withID(id string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte(id)))
}

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
	release  = dhcpv4.MessageTypeRelease
	decline  = dhcpv4.MessageTypeDecline
	inform   = dhcpv4.MessageTypeInform
	silence  = dhcpv4.MessageTypeNone
)

const iot, box = "trunk.40", "192.168.40.1"

// obtain makes client n have an address, and fails unless it is want.
func obtain(t testing.TB, c *core, now time.Time, n byte, want string) {
	t.Helper()
	r := c.handle(now, iot, packet(t, n, request, wanted(want), server(box)), nil)
	if r.reply.kind != ack {
		t.Fatalf("client %d asked for %s and got %s", n, want, r.reply.kind)
	}
}

// TestExchange goes through RFC 2131 sections 4.1 and 4.3: what is answered to each
// message in each state, and where the answer goes. Client 1 has .100; clients 0x12
// and 0x13 have reservations for .12 and .103.
func TestExchange(t *testing.T) {
	const bcast = "255.255.255.255"
	flag := dhcpv4.WithBroadcast(true)
	tests := []struct {
		name   string
		client byte
		kind   dhcpv4.MessageType
		mods   []dhcpv4.Modifier

		want   dhcpv4.MessageType
		yiaddr string
		dst    string // "" with silence
		raw    bool   // in a frame to the client's MAC
		record lease.State
		writes bool
	}{
		{name: "discover", client: 2, kind: discover, want: offer, yiaddr: "192.168.40.101", dst: "192.168.40.101", raw: true},
		{name: "discover, cannot take unicast", client: 2, kind: discover, mods: mods(flag), want: offer, yiaddr: "192.168.40.101", dst: bcast},
		{name: "discover, would like one", client: 2, kind: discover, mods: mods(wanted("192.168.40.102")), want: offer, yiaddr: "192.168.40.102", dst: "192.168.40.102", raw: true},
		{name: "discover, would like another's", client: 2, kind: discover, mods: mods(wanted("192.168.40.100")), want: offer, yiaddr: "192.168.40.101", dst: "192.168.40.101", raw: true},
		{name: "discover, has one", client: 1, kind: discover, want: offer, yiaddr: "192.168.40.100", dst: "192.168.40.100", raw: true},
		{name: "discover, reserved", client: 0x12, kind: discover, mods: mods(flag), want: offer, yiaddr: "192.168.40.12", dst: bcast},
		{name: "discover with a ciaddr, which it should not have", client: 2, kind: discover, mods: mods(ciaddr("8.8.8.8"), flag), want: offer, yiaddr: "192.168.40.101", dst: bcast},
		{name: "discover, relayed", client: 2, kind: discover, mods: mods(giaddr("192.168.40.5")), want: offer, yiaddr: "192.168.40.101", dst: "192.168.40.5"},
		{name: "discover, relayed from elsewhere", client: 2, kind: discover, mods: mods(giaddr("192.168.50.5")), want: silence},
		{name: "discover, relayed by ourselves", client: 2, kind: discover, mods: mods(giaddr(box)), want: silence},

		{name: "selecting", client: 2, kind: request, mods: mods(server(box), wanted("192.168.40.101")), want: ack, yiaddr: "192.168.40.101", dst: "192.168.40.101", raw: true, writes: true, record: lease.Bound},
		{name: "selecting, broadcast", client: 2, kind: request, mods: mods(server(box), wanted("192.168.40.101"), flag), want: ack, yiaddr: "192.168.40.101", dst: bcast, writes: true, record: lease.Bound},
		{name: "selecting, relayed", client: 2, kind: request, mods: mods(server(box), wanted("192.168.40.101"), giaddr("192.168.40.5")), want: ack, yiaddr: "192.168.40.101", dst: "192.168.40.5", writes: true, record: lease.Bound},
		{name: "selecting what another has", client: 2, kind: request, mods: mods(server(box), wanted("192.168.40.100")), want: nak, dst: bcast},
		{name: "selecting nothing", client: 2, kind: request, mods: mods(server(box)), want: silence},
		{name: "selecting another server", client: 2, kind: request, mods: mods(server("192.168.40.66"), wanted("192.168.40.101")), want: silence},

		{name: "rebooting", client: 1, kind: request, mods: mods(wanted("192.168.40.100")), want: ack, yiaddr: "192.168.40.100", dst: "192.168.40.100", raw: true, writes: true, record: lease.Bound},
		{name: "rebooting with another's", client: 2, kind: request, mods: mods(wanted("192.168.40.100")), want: nak, dst: bcast},
		{name: "rebooting, unknown, free", client: 2, kind: request, mods: mods(wanted("192.168.40.102")), want: ack, yiaddr: "192.168.40.102", dst: "192.168.40.102", raw: true, writes: true, record: lease.Bound},
		{name: "rebooting in the wrong network", client: 2, kind: request, mods: mods(wanted("10.1.1.1")), want: nak, dst: bcast},
		{name: "rebooting, wrong network, relayed", client: 2, kind: request, mods: mods(wanted("10.1.1.1"), giaddr("192.168.40.5")), want: nak, dst: "192.168.40.5"},

		{name: "renewing", client: 1, kind: request, mods: mods(ciaddr("192.168.40.100")), want: ack, yiaddr: "192.168.40.100", dst: "192.168.40.100", writes: true, record: lease.Bound},
		{name: "renewing another's", client: 2, kind: request, mods: mods(ciaddr("192.168.40.100")), want: nak, dst: bcast},
		{name: "renewing outside the pool", client: 2, kind: request, mods: mods(ciaddr("192.168.40.20")), want: nak, dst: bcast},
		{name: "renewing what is reserved", client: 2, kind: request, mods: mods(ciaddr("192.168.40.103")), want: nak, dst: bcast},
		{name: "renewing outside the subnet", client: 2, kind: request, mods: mods(ciaddr("203.0.113.7")), want: nak, dst: bcast},
		{name: "renewing an address of the pool, reserved elsewhere", client: 0x12, kind: request, mods: mods(ciaddr("192.168.40.101")), want: nak, dst: bcast},

		{name: "release", client: 1, kind: release, mods: mods(ciaddr("192.168.40.100"), server(box)), want: silence, writes: true, record: lease.Free},
		{name: "release of another's", client: 2, kind: release, mods: mods(ciaddr("192.168.40.100"), server(box)), want: silence},
		{name: "release to another server", client: 1, kind: release, mods: mods(ciaddr("192.168.40.100"), server("192.168.40.66")), want: silence},

		{name: "decline", client: 1, kind: decline, mods: mods(wanted("192.168.40.100"), server(box)), want: silence, writes: true, record: lease.Declined},
		{name: "decline of another's", client: 2, kind: decline, mods: mods(wanted("192.168.40.100"), server(box)), want: silence},
		{name: "decline to nobody", client: 1, kind: decline, mods: mods(wanted("192.168.40.100")), want: silence},

		{name: "inform", client: 2, kind: inform, mods: mods(ciaddr("192.168.40.77")), want: ack, dst: "192.168.40.77"},
		{name: "inform from outside", client: 2, kind: inform, mods: mods(ciaddr("203.0.113.7")), want: silence},
		{name: "inform from nowhere", client: 2, kind: inform, want: silence},

		{name: "an answer", client: 2, kind: offer, want: silence},
		{name: "lease query", client: 2, kind: dhcpv4.MessageType(10), want: silence},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCore(t, testConf())
			obtain(t, c, start, 1, "192.168.40.100")
			r := c.handle(start.Add(time.Minute), iot, packet(t, tt.client, tt.kind, tt.mods...), nil)

			if tt.want == silence {
				if r.reply.data != nil {
					t.Fatalf("got %s, want silence", r.reply.kind)
				}
			} else {
				p := decodeReply(t, r)
				if p.MessageType() != tt.want || addrFrom(p.YourIPAddr) != parsed(tt.yiaddr) {
					t.Errorf("got %s of %s, want %s of %q", p.MessageType(), p.YourIPAddr, tt.want, tt.yiaddr)
				}
				if r.reply.to.dst != parsed(tt.dst) || !r.reply.to.mac.IsZero() != tt.raw {
					t.Errorf("sent to %+v, want %s, raw %v", r.reply.to, tt.dst, tt.raw)
				}
				if !p.ServerIdentifier().Equal(net.ParseIP(box)) {
					t.Errorf("server identifier is %s", p.ServerIdentifier())
				}
			}
			if r.record.Addr.IsValid() != tt.writes || tt.writes && r.record.State != tt.record {
				t.Errorf("got record %+v, want %v, %s", r.record, tt.writes, tt.record)
			}
		})
	}
}

func mods(m ...dhcpv4.Modifier) []dhcpv4.Modifier { return m }

func parsed(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

func decodeReply(t testing.TB, r result) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.FromBytes(r.reply.data)
	if err != nil {
		t.Fatalf("reply %x: %v", r.reply.data, err)
	}
	if p.OpCode != dhcpv4.OpcodeBootReply || p.MessageType() != r.reply.kind || len(r.reply.data) < minSize {
		t.Fatalf("bad reply: %s", p.Summary())
	}
	return p
}

// options returns the options of an answer as text by code.
func options(t *testing.T, p *dhcpv4.DHCPv4) map[uint8]string {
	t.Helper()
	got := map[uint8]string{}
	for code, value := range p.Options {
		got[code] = string(value)
	}
	return got
}

const ip1 = "\xc0\xa8\x28\x01" // the box

func TestReplyTellsEverythingUnlessAskedForLess(t *testing.T) {
	full := map[uint8]string{
		53: "\x02", 54: ip1, 51: "\x00\x00\x0e\x10", 58: "\x00\x00\x07\x08", 59: "\x00\x00\x0c\x4e",
		1: "\xff\xff\xff\x00", 3: ip1, 6: ip1, 15: "home.arpa", 42: ip1, 28: "\xc0\xa8\x28\xff",
		119: "\x04home\x04arpa\x00",
	}
	less := map[uint8]string{}
	for _, code := range []uint8{53, 54, 51, 58, 59, 1, 3, 6, 42} {
		less[code] = full[code]
	}
	tests := []struct {
		name string
		mods []dhcpv4.Modifier
		want map[uint8]string
	}{
		{"asks for nothing in particular", nil, full},
		{"asks for NTP", mods(dhcpv4.WithRequestedOptions(dhcpv4.OptionNTPServers)), less},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCore(t, testConf())
			p := decodeReply(t, c.handle(start, iot, packet(t, 1, discover, tt.mods...), nil))
			if diff := cmp.Diff(tt.want, options(t, p)); diff != "" {
				t.Errorf("options differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNakAndInformCarryNoLease(t *testing.T) {
	c := newCore(t, testConf())
	p := decodeReply(t, c.handle(start, iot, packet(t, 1, request, wanted("10.0.0.1")), nil))
	if diff := cmp.Diff(map[uint8]string{53: "\x06", 54: ip1}, options(t, p)); diff != "" {
		t.Errorf("NAK's options differ (-want +got):\n%s", diff)
	}
	p = decodeReply(t, c.handle(start, iot, packet(t, 1, inform, ciaddr("192.168.40.9"),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainName)), nil))
	want := map[uint8]string{53: "\x05", 54: ip1, 1: "\xff\xff\xff\x00", 3: ip1, 6: ip1, 15: "home.arpa"}
	if diff := cmp.Diff(want, options(t, p)); diff != "" {
		t.Errorf("INFORM's answer differs (-want +got):\n%s", diff)
	}
	if addrFrom(p.ClientIPAddr) != addr("192.168.40.9") {
		t.Errorf("ciaddr is %s", p.ClientIPAddr)
	}
}

func TestReplyRepeatsWhatTheClientAndTheRelayNeed(t *testing.T) {
	c := newCore(t, testConf())
	agent := dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte("\x01\x04port"))
	relayed := mods(withID("\xffduid"), agent, giaddr("192.168.40.5"), wanted("10.0.0.1"))
	for _, kind := range []dhcpv4.MessageType{discover, request} {
		in := packet(t, 1, kind, relayed...)
		r := c.handle(start, iot, in, nil)
		p := decodeReply(t, r)
		if !bytes.Equal(p.TransactionID[:], in[4:8]) || !bytes.Equal(p.ClientHWAddr, hw(1)) ||
			addrFrom(p.GatewayIPAddr) != addr("192.168.40.5") {
			t.Errorf("%s: header is not the client's: %s", p.MessageType(), p.Summary())
		}
		got := options(t, p)
		if got[61] != "\xffduid" || got[82] != "\x01\x04port" {
			t.Errorf("%s: got identifier %q, agent %q", p.MessageType(), got[61], got[82])
		}
		if p.MessageType() == nak && !p.IsBroadcast() {
			t.Error("the relay is not told to broadcast a NAK")
		}
		if !bytes.HasSuffix(bytes.TrimRight(r.reply.data, "\x00"), []byte("\x52\x06\x01\x04port\xff")) {
			t.Errorf("%s: agent information is not last", p.MessageType())
		}
	}
	p := decodeReply(t, c.handle(start, iot, packet(t, 2, discover, agent), nil))
	if p.RelayAgentInfo() != nil {
		t.Error("agent information went to a client")
	}
}

func TestReservedDeviceIsToldItsName(t *testing.T) {
	c := newCore(t, testConf())
	ask := dhcpv4.WithRequestedOptions(dhcpv4.OptionHostName)
	for n, want := range map[byte]string{0x12: "tv", 1: ""} {
		p := decodeReply(t, c.handle(start, iot, packet(t, n, discover, ask), nil))
		if p.HostName() != want {
			t.Errorf("client %#x is called %q, want %q", n, p.HostName(), want)
		}
	}
}

func TestReplyFitsTheClientsMessageSize(t *testing.T) {
	conf := testConf()
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60)
	conf.Zones[0].Domain = long
	for range 20 {
		conf.Zones[0].Resolvers = append(conf.Zones[0].Resolvers, addr("192.168.40.2"))
	}
	tests := []struct {
		name   string
		size   []byte
		max    int
		search bool
	}{
		{"default", nil, 548, false},
		{"less than allowed", []byte{0, 100}, 548, false},
		{"large", []byte{5, 0xdc}, 1472, true},
		{"absurd", []byte{0xff, 0xff}, 1472, true},
		{"not a number", []byte{5}, 548, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mods(withID(strings.Repeat("i", 60)))
			if tt.size != nil {
				m = append(m, dhcpv4.WithGeneric(dhcpv4.OptionMaximumDHCPMessageSize, tt.size))
			}
			r := newCore(t, conf).handle(start, iot, packet(t, 1, discover, m...), nil)
			p := decodeReply(t, r)
			if len(r.reply.data) > tt.max {
				t.Errorf("got %d bytes, want at most %d", len(r.reply.data), tt.max)
			}
			if got := p.Options.Has(dhcpv4.OptionDNSDomainSearchList); got != tt.search {
				t.Errorf("search list is there: %v, want %v", got, tt.search)
			}
			if p.SubnetMask() == nil || len(p.DNS()) != 16 || len(p.Router()) != 1 || p.DomainName() != long {
				t.Error("something essential was left out")
			}
		})
	}
}

func TestUselessPacketsAreCountedAndDropped(t *testing.T) {
	good := packet(t, 1, discover)
	edit := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":          {},
		"short":          good[:200],
		"a reply":        edit(0, 2),
		"not Ethernet":   edit(1, 6),
		"short address":  edit(2, 4),
		"too many hops":  edit(3, 17),
		"group address":  edit(28, 3),
		"no address":     append(append(bytes.Clone(good[:28]), make([]byte, 6)...), good[34:]...),
		"no cookie":      edit(236, 0),
		"cut option":     append(bytes.Clone(good[:240]), 53, 1),
		"foreign cookie": edit(239, 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, testConf())
			if r := c.handle(start, iot, b, nil); r.reply.data != nil || c.count.Malformed.Load() != 1 {
				t.Errorf("answered %s, counted %d", r.reply.kind, c.count.Malformed.Load())
			}
		})
	}
	c := newCore(t, testConf())
	if r := c.handle(start, "eth0", good, nil); r.reply.data != nil {
		t.Error("answered on a link that is no zone's")
	}
	bootp := append(bytes.Clone(good[:240]), 255)
	if r := c.handle(start, iot, bootp, nil); r.reply.data != nil || c.count.Unsupported.Load() != 1 {
		t.Errorf("answered BOOTP by %s, counted %d", r.reply.kind, c.count.Unsupported.Load())
	}
}

func TestHostNamesBecomeLabels(t *testing.T) {
	for in, want := range map[string]string{
		"laptop": "laptop", "Alex-Laptop": "alex-laptop", "host.example.com": "host", "zero\x00": "zero",
		"Pixel 7": "pixel-7", "my_box": "my-box", "": "", "-x": "", "x-": "", ".": "", "a\nb": "",
		"<script>": "", "jürgen": "", "wpad": "", "WPAD.home.arpa": "", "localhost": "", "\x00": "",
		strings.Repeat("a", 63): strings.Repeat("a", 63), strings.Repeat("a", 64): "",
	} {
		if got := label([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestReloadKeepsLeasesThatFit(t *testing.T) {
	c := newCore(t, testConf())
	for n, a := range []string{"192.168.40.100", "192.168.40.101", "192.168.40.102"} {
		obtain(t, c, start, byte(n+1), a)
	}
	conf := testConf()
	conf.Zones[0].First, conf.Zones[0].Last = addr("192.168.40.101"), addr("192.168.40.110")
	conf.Zones[0].Reservations = append(conf.Zones[0].Reservations,
		svcconf.Reservation{Name: "new", MAC: model.MAC(hw(7)), Address: addr("192.168.40.102")})
	now := start.Add(time.Minute)
	if err := c.configure(now, conf); err != nil {
		t.Fatal(err)
	}
	for n, tt := range []struct {
		addr string
		want dhcpv4.MessageType
	}{
		{"192.168.40.100", nak}, // out of the pool
		{"192.168.40.101", ack},
		{"192.168.40.102", nak}, // kept for another
	} {
		r := c.handle(now, iot, packet(t, byte(n+1), request, ciaddr(tt.addr)), nil)
		if r.reply.kind != tt.want {
			t.Errorf("renewing %s: got %s, want %s", tt.addr, r.reply.kind, tt.want)
		}
	}
	// Whoever has .102 may not have heard the NAK: the device waits for its address.
	r := c.handle(now, iot, packet(t, 7, discover), nil)
	if got := addrFrom(decodeReply(t, r).YourIPAddr); got == addr("192.168.40.102") {
		t.Errorf("offered %s, which is still leased to another", got)
	}
}

func TestZoneComesBackWithItsLeases(t *testing.T) {
	c := newCore(t, testConf())
	obtain(t, c, start, 1, "192.168.40.100")
	conf := testConf()
	conf.Zones = conf.Zones[1:]
	for _, conf := range []svcconf.DHCP{conf, {}, testConf()} {
		if err := c.configure(start.Add(time.Minute), conf); err != nil {
			t.Fatal(err)
		}
	}
	r := c.handle(start.Add(time.Minute), iot, packet(t, 2, request, wanted("192.168.40.100")), nil)
	if r.reply.kind != nak {
		t.Errorf("got %s for another's lease, want NAK", r.reply.kind)
	}
}

func TestBrokenConfigurationChangesNothing(t *testing.T) {
	tests := map[string]func(*svcconf.DHCP){
		"pool outside":         func(c *svcconf.DHCP) { c.Zones[0].Last = addr("192.168.41.1") },
		"pool reversed":        func(c *svcconf.DHCP) { c.Zones[0].Last = addr("192.168.40.99") },
		"no address":           func(c *svcconf.DHCP) { c.Zones[0].Address = netip.Prefix{} },
		"no router":            func(c *svcconf.DHCP) { c.Zones[0].Router = netip.Addr{} },
		"IPv6":                 func(c *svcconf.DHCP) { c.Zones[0].Address = netip.MustParsePrefix("fd00::1/64") },
		"no lease":             func(c *svcconf.DHCP) { c.Zones[0].Lease = 0 },
		"endless lease":        func(c *svcconf.DHCP) { c.Zones[0].Lease = svcconf.Duration(maxLease + time.Second) },
		"reserved outside":     func(c *svcconf.DHCP) { c.Zones[0].Reservations[0].Address = addr("192.168.50.9") },
		"reserved the box":     func(c *svcconf.DHCP) { c.Zones[0].Reservations[0].Address = addr(box) },
		"reserved twice":       func(c *svcconf.DHCP) { c.Zones[0].Reservations[0].Address = addr("192.168.40.103") },
		"device twice":         func(c *svcconf.DHCP) { c.Zones[0].Reservations[0].MAC = model.MAC(hw(0x13)) },
		"two zones, one link":  func(c *svcconf.DHCP) { c.Zones[1].Link = c.Zones[0].Link },
		"overlapping zones":    func(c *svcconf.DHCP) { c.Zones[0].Address = netip.MustParsePrefix("192.168.40.1/16") },
		"no link":              func(c *svcconf.DHCP) { c.Zones[0].Link = "" },
		"link name too long":   func(c *svcconf.DHCP) { c.Zones[0].Link = "abcdefghijklmnop" },
		"domain of empty part": func(c *svcconf.DHCP) { c.Zones[0].Domain = "home..arpa" },
		"domain too long":      func(c *svcconf.DHCP) { c.Zones[0].Domain = strings.Repeat("abc.", 70) + "x" },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, testConf())
			obtain(t, c, start, 1, "192.168.40.100")
			conf := testConf()
			spoil(&conf)
			if err := c.configure(start, conf); err == nil {
				t.Error("no error")
			}
			r := c.handle(start, iot, packet(t, 1, request, ciaddr("192.168.40.100")), nil)
			if r.reply.kind != ack {
				t.Errorf("then a client got %s, want ACK", r.reply.kind)
			}
		})
	}
}

func TestPublishedLeasesAreThoseInForce(t *testing.T) {
	c := newCore(t, testConf())
	name := dhcpv4.WithOption(dhcpv4.OptHostName("Phone"))
	c.handle(start, iot, packet(t, 1, request, wanted("192.168.40.100"), name, withID("\xff\x01")), nil)
	c.handle(start, iot, packet(t, 0x12, request, wanted("192.168.40.12")), nil)
	c.handle(start, iot, packet(t, 3, discover), nil)
	c.handle(start, iot, packet(t, 4, request, wanted("192.168.40.102")), nil)
	c.handle(start, iot, packet(t, 4, release, ciaddr("192.168.40.102")), nil)
	want := []svcconf.Lease{
		{Zone: "iot", Address: addr("192.168.40.12"), MAC: model.MAC(hw(0x12)), Device: "tv",
			Granted: start, Expires: start.Add(time.Hour)},
		{Zone: "iot", Address: addr("192.168.40.100"), MAC: model.MAC(hw(1)), ClientID: "ff01", Hostname: "phone",
			Granted: start, Expires: start.Add(time.Hour)},
	}
	s := Server{core: *c}
	if diff := cmp.Diff(want, s.leases(start.Add(time.Minute)).Leases, cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("leases differ (-want +got):\n%s", diff)
	}
	if got := s.leases(start.Add(time.Hour)).Leases; len(got) != 0 {
		t.Errorf("run out, and still there: %v", got)
	}
}

func TestPublishedFileIsJSON(t *testing.T) {
	at := start.Truncate(time.Second)
	for _, want := range []svcconf.Leases{
		{Leases: []svcconf.Lease{}},
		{Leases: []svcconf.Lease{
			{Zone: "iot", Address: addr("192.168.40.1"), MAC: model.MAC{1, 2, 0xff}, Granted: at, Expires: at},
			{Zone: "<\"\\\n\x00ü", Address: addr("10.0.0.1"), ClientID: "ff00", Hostname: "a-1", Device: "&", Granted: at, Expires: at},
		}},
	} {
		text := appendLeases(nil, want)
		var got svcconf.Leases
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("leases differ (-want +got):\n%s", diff)
		}
		std, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(string(text), "\n", ""); got != string(std) {
			t.Errorf("got %s\nwant %s", got, std)
		}
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }
