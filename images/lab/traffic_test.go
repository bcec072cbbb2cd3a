//go:build linux

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"bulkhead/images/lab"
	"bulkhead/images/lab/probe"
	"bulkhead/services/flow/record"
)

// traffic is a generator of connections whose every packet it knows: it writes both sides
// of them itself, each side from the card of its machine, and counts what arrives. What
// it sends is told from all else by the field for type of service, by which the machines'
// kernels drop it before they answer.
type traffic struct {
	ends map[*lab.Host]*end
}

const trafficTOS = 0xb8

// end is a machine that takes part.
type end struct {
	host     *lab.Host
	wire     *probe.Wire
	gateway  net.HardwareAddr // the box's, on that segment
	tap      int              // counts the generator's packets that arrive
	expected uint64           // to arrive so far
	arrived  uint64
}

func newTraffic(t testing.TB, l *lab.Lab, parties map[*lab.Host]string) *traffic {
	t.Helper()
	g := &traffic{make(map[*lab.Host]*end)}
	for h, party := range parties {
		e := &end{host: h, gateway: macOf(t, l.Gateway, l.Link(party))}
		err := h.Do(func() (err error) {
			if e.wire, err = probe.OpenWire("eth0"); err != nil {
				return err
			}
			e.tap, err = countingTap()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		const rule = "table netdev traffic { chain in { type filter hook ingress device eth0 priority 0; ip dscp 0x2e drop; }; }"
		if _, err := h.Output("nft", rule); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, err := h.Output("nft", "delete table netdev traffic")
			if err = errors.Join(err, e.wire.Close(), unix.Close(e.tap)); err != nil {
				t.Error(err)
			}
		})
		g.ends[h] = e
	}
	return g
}

func macOf(t testing.TB, h *lab.Host, link string) (mac net.HardwareAddr) {
	t.Helper()
	err := h.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// countingTap opens a socket at which the kernel counts packets of ours that come in.
// Nobody reads from it.
func countingTap() (int, error) {
	// A socket for IPv4 alone is behind the hook that drops them.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return 0, err
	}
	const etherType, tos, drop, all = 12, 14 + 1, 0, 1
	packetType := uint32(0xfffff004) // SKF_AD_OFF + SKF_AD_PKTTYPE
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 5, K: unix.PACKET_HOST},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: etherType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.ETH_P_IP},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tos},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: trafficTOS},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
		{Code: unix.BPF_RET | unix.BPF_K, K: drop},
	}
	return fd, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// await returns when all that was to arrive by now has.
func (e *end) await(ctx context.Context) error {
	for {
		s, err := unix.GetsockoptTpacketStats(e.tap, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			return err
		}
		if e.arrived += uint64(s.Packets); e.arrived == e.expected {
			return nil
		}
		if e.arrived > e.expected || ctx.Err() != nil {
			return fmt.Errorf("%s got %d packets, want %d: %w", e.host.Name, e.arrived, e.expected, ctx.Err())
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// kind is a kind of connection.
type kind struct {
	from, to *lab.Host
	src, dst netip.Addr // of the two
	called   netip.Addr // what from calls; zero: dst
	shown    netip.Addr // whom to sees; zero: src
	proto    uint8
	port     uint16
	ports    uint16 // how many from port on, one after the other; 0: one

	// script is what is sent: upper case by from, lower case by to. S, A, F, R: TCP with
	// that flag (and ACK, but for the first S), D: data, over TCP, UDP or ICMP.
	script string
	refuse bool // nothing arrives

	want record.Record // what must be recorded, without what differs from one to the next
}

// talk is a connection of a kind: the n-th.
type talk struct {
	*kind
	n        int
	seq, ack uint32 // what from sends next, and what to sends next
	sent     [2]record.Count
}

const firstSeq = 1000

func (k *kind) talk(n int) *talk { return &talk{kind: k, n: n, seq: firstSeq, ack: 5000} }

// srcPort and dstPort are the client's: ICMP's identifier is in the first.
func (c *talk) srcPort() uint16 { return uint16(20000 + c.n%40000) }
func (c *talk) dstPort() uint16 { return c.port + uint16(c.n%max(int(c.ports), 1)) }

// packet makes packet i of the script.
func (c *talk) packet(i int) []byte {
	step := c.script[i]
	back := step >= 'a'
	src, dst, sport, dport := c.src, c.called, c.srcPort(), c.dstPort()
	if !dst.IsValid() {
		dst = c.dst
	}
	if back {
		src, dst, sport, dport = c.dst, c.shown, c.dstPort(), c.srcPort()
		if !dst.IsValid() {
			dst = c.src
		}
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, TOS: trafficTOS, Protocol: layers.IPProtocol(c.proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	data := gopacket.Payload(nil)
	if step|0x20 == 'd' {
		data = make([]byte, 1+(c.n*37+i*101)%1200)
	}
	list := []gopacket.SerializableLayer{ip}
	switch c.proto {
	case probe.TCP:
		list = append(list, c.segment(step, back, sport, dport, ip, uint32(len(data))))
	case probe.UDP:
		u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
		_ = u.SetNetworkLayerForChecksum(ip)
		list = append(list, u)
	case probe.ICMP:
		typ := uint8(layers.ICMPv4TypeEchoRequest)
		if back {
			typ = layers.ICMPv4TypeEchoReply
		}
		list = append(list, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: c.srcPort(), Seq: uint16(i)})
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(list, data)...); err != nil {
		panic(err) // they are ours
	}
	way := 0
	if back {
		way = 1
	}
	if again := step == 'S' && i > 0; !again { // conntrack lets it pass and does not count it
		c.sent[way].Add(record.Count{Packets: 1, Bytes: uint64(len(buf.Bytes()))})
	}
	return buf.Bytes()
}

// segment makes a segment of TCP.
func (c *talk) segment(step byte, back bool, sport, dport uint16, ip *layers.IPv4, data uint32) *layers.TCP {
	own, other := &c.seq, &c.ack
	if back {
		own, other = other, own
	}
	if step == 'S' { // perhaps once more
		*own = firstSeq
	}
	s := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: *own, Ack: *other, Window: 65000, ACK: step != 'S'}
	if !s.ACK {
		s.Ack = 0
	}
	switch step | 0x20 {
	case 's':
		s.SYN = true
	case 'f':
		s.FIN = true
	case 'r':
		s.RST = true
	}
	*own += data
	if s.SYN || s.FIN {
		*own++
	}
	_ = s.SetNetworkLayerForChecksum(ip)
	return s
}

// send sends packets from to of the scripts of all of them, one of each after the other,
// and returns when all have arrived: no packet overtakes what it answers.
func (g *traffic) send(ctx context.Context, talks []*talk, from, to int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i := from; i < to; i++ {
		for _, c := range talks {
			if i >= len(c.script) {
				continue
			}
			sender, receiver := g.ends[c.from], g.ends[c.to]
			if c.script[i] >= 'a' {
				sender, receiver = receiver, sender
			}
			if err := sender.wire.Send(sender.wire.MAC, sender.gateway, c.packet(i)); err != nil {
				return err
			}
			if !c.refuse {
				receiver.expected++
			}
		}
		for _, e := range g.ends {
			if err := e.await(ctx); err != nil {
				return fmt.Errorf("packet %d: %w", i, err)
			}
		}
	}
	return nil
}

// record is what must be known of it.
func (c *talk) record() record.Record {
	r := c.want
	r.Proto, r.Out, r.In = c.proto, c.sent[0], c.sent[1]
	r.Src.Addr, r.Src.Port, r.Dst.Addr, r.Dst.Port = c.src, c.srcPort(), c.dst, c.dstPort()
	natSrc, natDst := c.srcPort(), c.dstPort()
	if c.proto == probe.ICMP {
		r.Src.Port, r.Dst.Port = 0, layers.ICMPv4TypeEchoRequest
		natSrc = 0
	}
	if c.shown.IsValid() {
		r.NATSrc = netip.AddrPortFrom(c.shown, natSrc)
	}
	if c.called.IsValid() {
		r.NATDst = netip.AddrPortFrom(c.called, natDst)
	}
	return r
}

// introduceTo lets the box know the machine's card.
func introduceTo(t testing.TB, h *lab.Host, box netip.Addr) {
	t.Helper()
	if out, err := h.Output("ping", "-c", "1", "-W", "5", box.String()); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatalf("%v\n%s", err, out) // that nobody answers is no matter
		}
	}
}
