//go:build linux

package lab_test

import (
	"net"
	"net/netip"
	"testing"

	"bulkhead/images/lab"
	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// few are services for attacks that no port makes better: one that some rule
// allows of each kind, and one that none does.
var few = []model.Service{
	model.OnePort(model.ProtoTCP, 22), model.OnePort(model.ProtoTCP, 2049), model.OnePort(model.ProtoTCP, 8096), model.OnePort(model.ProtoTCP, 443),
	model.OnePort(model.ProtoUDP, 53), model.OnePort(model.ProtoUDP, 51999), model.OnePort(model.ProtoUDP, 7359),
	model.ICMP(model.EchoRequest), {Proto: model.ProtoGRE},
}

// TestForgedSourcesGoNowhere sends from every zone and from the internet with
// sources that cannot be there: members and neighbours of other zones, the box
// itself, the internet, and addresses that nobody has.
func TestForgedSourcesGoNowhere(t *testing.T) {
	b := setUp(t)
	sources := []netip.Addr{b.Uplink.Addr(), b.OutsideAddr()}
	for _, a := range []string{
		"192.88.99.10", "8.8.8.8", "10.1.2.3", "172.16.9.9", "192.168.99.9", "100.64.0.9", "169.254.9.9", "198.18.0.1", "192.0.2.1",
		"127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255",
	} {
		sources = append(sources, netip.MustParseAddr(a))
	}
	for _, z := range b.Config.Zones {
		sources = append(sources, z.Gateway, addr(z, 200), policy.Broadcast(z.Subnet))
	}
	for _, c := range b.Clients {
		sources = append(sources, c.Addr)
	}
	var questions []lab.Question
	forge := func(from lab.Party, src netip.Addr) {
		for _, s := range few {
			for _, to := range b.Parties() {
				questions = append(questions, b.Question(b.policy, from.Host, policy.Flow{From: from.Name, MAC: from.MAC, Src: src, Dst: to.Addr}, s))
			}
			questions = append(questions, b.Question(b.policy, from.Host, policy.Flow{From: from.Name, MAC: from.MAC, Src: src, Dst: b.BoxAddr(from.Name)}, s))
		}
	}
	for _, from := range b.Parties() {
		if from.Host == b.Far {
			continue // its packets come the same way as those of the other
		}
		for _, src := range sources {
			z := b.Config.Zone(from.Name)
			switch {
			case z != nil && z.Subnet.Contains(src) && src != z.Gateway && src != policy.Broadcast(z.Subnet):
				continue // a neighbour's address: see the test of borrowed ones
			case z == nil && (src == b.OutsideAddr() || src == netip.MustParseAddr("192.88.99.10") || src == netip.MustParseAddr("8.8.8.8")):
				continue // can well be there
			}
			forge(from, src)
		}
	}
	for _, a := range b.ask(t, questions) {
		if a.Expect.Allow {
			t.Errorf("the policy itself believes in a forged source: %s", a)
		}
	}
}

// TestNobodyBorrowsADevicesAddress sends with a device's address from a neighbour's
// card. With the right MAC address, too, nobody could tell: that the very same
// packets arrive then shows that the test is worth something.
func TestNobodyBorrowsADevicesAddress(t *testing.T) {
	b := setUp(t)
	var borrowed []lab.Question
	arrived := 0
	for _, c := range b.Clients {
		if c.Device == nil {
			continue
		}
		var own []lab.Question
		neighbour := b.Client("evil-" + c.Zone.Name)
		for _, s := range few {
			targets := []netip.Addr{c.Zone.Gateway}
			for _, p := range b.Parties() {
				if p.Name != c.Zone.Name {
					targets = append(targets, p.Addr)
				}
			}
			for _, dst := range targets {
				flow := policy.Flow{From: c.Zone.Name, MAC: neighbour.MAC, Src: c.Addr, Dst: dst}
				borrowed = append(borrowed, b.Question(b.policy, neighbour.Host, flow, s))
				flow.MAC = c.MAC
				q := b.Question(b.policy, neighbour.Host, flow, s)
				q.MAC = c.MAC[:]
				own = append(own, q)
			}
		}
		// One after the other: the switch takes the neighbour for the device now.
		for _, a := range b.ask(t, own) {
			if a.Arrived() {
				arrived++
			}
		}
	}
	for _, a := range b.ask(t, borrowed) {
		if a.Expect.Allow {
			t.Errorf("the policy itself lends the address: %s", a)
		}
	}
	if arrived == 0 {
		t.Error("not even with the right MAC address did anything arrive")
	}
}

// TestPacketsWithoutAConnectionGoNowhere scans with TCP segments that begin no
// connection, also where one would be allowed.
func TestPacketsWithoutAConnectionGoNowhere(t *testing.T) {
	b := setUp(t)
	scans := map[string]uint8{
		"ACK": probe.ACK, "FIN": probe.FIN, "NULL": 0, "XMAS": probe.FIN | probe.PSH | probe.URG, "RST": probe.RST,
		"SYN+ACK": probe.SYN | probe.ACK, "SYN+FIN": probe.SYN | probe.FIN, "SYN+RST": probe.SYN | probe.RST,
		"FIN+ACK": probe.FIN | probe.ACK, "PSH+ACK": probe.PSH | probe.ACK, "RST+ACK": probe.RST | probe.ACK,
	}
	for name, flags := range scans {
		var shots []lab.Shot
		var questions []lab.Question
		for _, q := range b.Questions(b.policy, few) {
			if q.Service.Proto != model.ProtoTCP || q.Flow.From == model.Box {
				continue
			}
			q.Packet.Flags = flags
			shots, questions = append(shots, q.Shot), append(questions, q)
		}
		hits, err := b.Fire(b.ctx, shots)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range hits {
			if len(h.At) > 0 {
				t.Errorf("%s scan: %s", name, lab.Answer{Question: questions[i], Hit: h})
			}
		}
	}
}

// TestIPv6IsClosed tries the box's own IPv6 addresses, which the kernel gives every
// link, and forged global ones across it.
func TestIPv6IsClosed(t *testing.T) {
	b := setUp(t)
	var shots []lab.Shot
	var names []string
	for _, from := range b.Parties() {
		if from.Host == b.Far {
			continue
		}
		local, err := b.LinkLocal(from.Name)
		if err != nil {
			t.Fatal(err)
		}
		src := netip.MustParseAddr("fe80::bad")
		global := netip.MustParseAddr("fd00:bad::1")
		for _, p := range []probe.Packet{
			{Src: src, Dst: local}, {Src: global, Dst: local},
			{Src: src, Dst: netip.MustParseAddr("ff02::1")}, {Src: src, Dst: netip.MustParseAddr("ff02::2")},
			{Src: src, Dst: netip.MustParseAddr("ff02::1:2")}, {Src: src, Dst: netip.MustParseAddr("ff02::fb")},
			{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8:1::1")},
			{Src: global, Dst: netip.MustParseAddr("fd00:bad:1::1")}, {Src: netip.IPv6Loopback(), Dst: netip.IPv6Loopback()},
			{Src: netip.MustParseAddr("::ffff:192.168.10.9"), Dst: netip.MustParseAddr("::ffff:192.168.10.1")},
		} {
			for _, kind := range []probe.Packet{
				{Proto: probe.TCP, DstPort: 443, Flags: probe.SYN}, {Proto: probe.TCP, DstPort: 53, Flags: probe.SYN},
				{Proto: probe.UDP, DstPort: 53}, {Proto: probe.UDP, DstPort: 547}, {Proto: probe.ICMPv6, Type: probe.EchoRequestV6},
			} {
				kind.Src, kind.Dst, kind.SrcPort = p.Src, p.Dst, 3000
				shots = append(shots, lab.Shot{From: from.Host, Packet: kind})
				names = append(names, from.Name)
			}
		}
	}
	hits, err := b.Fire(b.ctx, shots)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hits {
		if len(h.At) > 0 {
			t.Errorf("from %s, %s → %s, protocol %d: arrived at %v", names[i], shots[i].Packet.Src, shots[i].Packet.Dst, shots[i].Packet.Proto, h.At)
		}
	}
	for _, z := range b.Config.Zones {
		err := b.Gateway.Do(func() error {
			c, err := net.Dial("udp6", net.JoinHostPort("fe80::bad%"+b.Link(z.Name), "9"))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("out"))
			return err
		})
		if err == nil {
			t.Errorf("the box sends IPv6 into %s", z.Name)
		}
	}
}

// TestFragmentsAreJudgedAsTheWhole cuts packets in two, also after eight bytes,
// where the flags of TCP are no longer in the first part.
func TestFragmentsAreJudgedAsTheWhole(t *testing.T) {
	b := setUp(t)
	for _, size := range []int{8, 24, 512} {
		var questions []lab.Question
		for _, q := range b.Questions(b.policy, few) {
			if q.Flow.From == model.Box {
				continue
			}
			q.Cut, q.Packet.Pad = size, 600
			questions = append(questions, q)
		}
		b.ask(t, questions)
	}
}

// TestLateFragmentsAloneGoNowhere sends the end of packets whose beginning never
// comes.
func TestLateFragmentsAloneGoNowhere(t *testing.T) {
	b := setUp(t)
	var shots []lab.Shot
	var questions []lab.Question
	for _, q := range b.Questions(b.policy, few) {
		if q.Flow.From == model.Box {
			continue
		}
		q.Cut, q.Packet.Pad, q.Tail = 24, 100, true
		shots, questions = append(shots, q.Shot), append(questions, q)
	}
	hits, err := b.Fire(b.ctx, shots)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hits {
		if len(h.At) > 0 {
			t.Errorf("without its beginning: %s", lab.Answer{Question: questions[i], Hit: h})
		}
	}
}
