package compile_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
)

// TestOpenConnectionsDoNotLeaveByTheUplink takes the link of a zone away under an
// open connection. The zone's route goes with it, and the default route would send
// what belongs into the zone out to the internet.
func TestOpenConnectionsDoNotLeaveByTheUplink(t *testing.T) {
	w := newTown(t)
	toBob, toWan := netip.MustParseAddrPort("192.168.20.5:9000"), netip.MustParseAddrPort("203.0.113.1:9000")
	sender, _ := w.connect(t)
	onWan := sniffer(t, w.wan, 0)
	nstest.Exec(t, w.box, "ip", "link", "del", "lanb")
	for range 5 {
		send(t, sender, toBob)
	}
	send(t, sender, toWan) // allowed, and after the others: when it is there they have been
	for {
		switch p := onWan(); netip.AddrFrom4([4]byte(p[16:20])) {
		case toBob.Addr():
			t.Fatal("a packet for bob left by the uplink")
		case toWan.Addr():
			return
		}
	}
}

// TestErrorsComeFromThoseWhoHaveAPart sends ICMP messages about connections: from
// the uplink, what reports an error about a connection with the internet passes, and
// nothing that is about a connection between zones. Redirects pass from nobody.
func TestErrorsComeFromThoseWhoHaveAPart(t *testing.T) {
	w := newTown(t)
	w.connect(t)
	var sender *net.UDPConn
	nstest.Run(t, w.alice, func() { sender = listen(t, "192.168.10.5:6000") })
	const closed = 4711
	send(t, sender, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), closed)) // masqueraded as 203.0.113.2:6000

	atAlice := sniffer(t, w.alice, model.ProtoICMP)
	const unreachable, redirect = 3, 5
	inner := func(src, dst string) []byte {
		return udpHeader(netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	}
	for _, m := range []struct {
		from  int
		to    string
		typ   byte
		about []byte
	}{
		{w.wan, "192.168.10.5", unreachable, inner("192.168.10.5:5000", "192.168.20.5:9000")},
		{w.wan, "192.168.10.5", redirect, inner("192.168.10.5:5000", "192.168.20.5:9000")},
		{w.bob, "192.168.10.5", redirect, inner("192.168.10.5:5000", "192.168.20.5:9000")},
		{w.wan, "203.0.113.2", redirect, inner("203.0.113.2:6000", "203.0.113.1:4711")},
		{w.wan, "203.0.113.2", unreachable, inner("203.0.113.2:6000", "203.0.113.1:4711")}, // the only good one, and last
	} {
		nstest.Run(t, m.from, func() { sendICMP(t, m.to, m.typ, m.about) })
	}
	for {
		p := atAlice()
		about := netip.AddrFrom4([4]byte(p[20+8+16 : 20+8+20]))
		switch typ := p[20]; {
		case typ == redirect, about == netip.MustParseAddr("192.168.20.5"):
			t.Fatalf("ICMP type %d about a connection with %s came through", typ, about)
		case typ == unreachable && p[21] == 13:
			return
		}
	}
}

// town is a box between alice's zone, bob's zone and the uplink, with the compiled
// ruleset of a policy by which alice may reach all.
type town struct{ box, alice, bob, wan int }

func newTown(t *testing.T) town {
	t.Helper()
	w := town{nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)}
	for _, l := range []struct {
		ns                 int
		link, ours, theirs string
	}{
		{w.alice, "lana", "192.168.10.1", "192.168.10.5"},
		{w.bob, "lanb", "192.168.20.1", "192.168.20.5"},
		{w.wan, "wan", "203.0.113.2", "203.0.113.1"},
	} {
		nstest.Veth(t, w.box, l.link, l.ns, "eth0")
		nstest.Exec(t, w.box, "ip", "addr", "add", l.ours+"/24", "dev", l.link)
		nstest.Exec(t, l.ns, "ip", "addr", "add", l.theirs+"/24", "dev", "eth0")
		nstest.Exec(t, l.ns, "ip", "route", "add", "default", "via", l.ours)
	}
	nstest.Exec(t, w.box, "ip", "route", "add", "default", "via", "203.0.113.1")
	nstest.Exec(t, w.box, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	rulesets, err := apply.OpenRulesets(w.box)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rulesets.Close() })
	if _, err := rulesets.Load(aliceMayReachAll().State.Ruleset.Table); err != nil {
		t.Fatal(err)
	}
	return w
}

// connect opens a connection from alice to bob that both have sent over.
func (w town) connect(t *testing.T) (alice, bob *net.UDPConn) {
	t.Helper()
	nstest.Run(t, w.bob, func() { bob = listen(t, "192.168.20.5:9000") })
	nstest.Run(t, w.alice, func() { alice = listen(t, "192.168.10.5:5000") })
	send(t, alice, netip.MustParseAddrPort("192.168.20.5:9000"))
	buf := make([]byte, 16)
	_, from, err := bob.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	send(t, bob, from)
	if _, _, err := alice.ReadFromUDPAddrPort(buf); err != nil {
		t.Fatal(err)
	}
	return alice, bob
}

// udpHeader is the start of a datagram, as ICMP errors quote it.
func udpHeader(src, dst netip.AddrPort) []byte {
	b := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, model.ProtoUDP, 0, 0}
	b = append(b, src.Addr().AsSlice()...)
	b = append(b, dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	return append(b, 0, 9, 0, 0)
}

// sendICMP sends a message about a datagram. Code 13 tells ours from the kernel's.
func sendICMP(t *testing.T, to string, typ byte, about []byte) {
	c, err := net.Dial("ip4:icmp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	b := append([]byte{typ, 13, 0, 0, 0, 0, 0, 0}, about...)
	if typ == 5 {
		b[1] = 1
	}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	if _, err := c.Write(b); err != nil {
		t.Error(err)
	}
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func aliceMayReachAll() *compile.Result {
	port := func(name string) *model.Port { return &model.Port{Name: name} }
	zone := func(name, subnet, gateway string) *model.Zone {
		return &model.Zone{Name: name, Port: port(name), Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParseAddr(gateway)}
	}
	a, b := zone("a", "192.168.10.0/24", "192.168.10.1"), zone("b", "192.168.20.0/24", "192.168.20.1")
	cfg := &model.Config{
		Zones:  []*model.Zone{a, b},
		Uplink: &model.Uplink{Port: port("wan"), IPv4: model.Family{Mode: model.ModeDHCP}},
		Allow: []*model.Rule{{
			Name: "all", From: []model.Endpoint{{Kind: model.KindZone, Zone: a}},
			To:       []model.Endpoint{{Kind: model.KindZone, Zone: b}, {Kind: model.KindInternet}},
			Services: []model.Service{model.AnyService},
		}},
	}
	return compile.Compile(cfg, facts.Facts{
		Now:      now,
		Provided: []facts.Provided{{Port: "a", Link: "lana"}, {Port: "b", Link: "lanb"}, {Port: "wan", Link: "wan"}},
		Uplink:   &facts.Lease{Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1")},
	})
}

// deadline is far beyond what anything here takes; it ends a test that hangs.
const deadline = 10 * time.Second

func listen(t *testing.T, addr string) *net.UDPConn {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	return c
}

func send(t *testing.T, c *net.UDPConn, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte("x"), to); err != nil {
		t.Fatal(err)
	}
}

// sniffer returns a function that waits for the next IPv4 packet that comes into a
// namespace, of a protocol or any, and returns it from its IP header on.
func sniffer(t *testing.T, ns int, proto uint8) func() []byte {
	t.Helper()
	var f *os.File
	nstest.Run(t, ns, func() {
		const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, ipv4)
		if err != nil {
			t.Error(err)
			return
		}
		f = os.NewFile(uintptr(fd), "sniffer")
	})
	if f == nil {
		t.FailNow()
	}
	t.Cleanup(func() { f.Close() })
	f.SetReadDeadline(time.Now().Add(deadline))
	return func() []byte {
		for {
			b := make([]byte, 256)
			n, err := f.Read(b)
			if err != nil || n < 20 {
				t.Fatalf("sniff: %d bytes: %v", n, err)
			}
			if proto == 0 || b[9] == proto {
				return b
			}
		}
	}
}
