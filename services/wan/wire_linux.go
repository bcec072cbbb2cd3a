package wan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
	"bulkhead/services/wan/dhcp4"
)

// maxPacket is larger than any packet on a link without jumbo frames. Larger ones
// are cut, and then refused because their lengths do not fit.
const maxPacket = 2048

// host is this machine's network, the real [network].
type host struct{}

// link asks the kernel about an interface, in the network namespace of the process.
// (/sys/class/net would answer for the namespace it was mounted in.)
func (host) link(name string) (link, bool) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return link{}, false
	}
	l := link{name: name, index: ifi.Index}
	const carrier = net.FlagUp | net.FlagRunning
	if len(ifi.HardwareAddr) == len(l.mac) {
		l.mac = model.MAC(ifi.HardwareAddr)
		l.up = ifi.Flags&carrier == carrier
	}
	return l, true
}

func (host) open(l link, events chan<- heard) (wire, error) {
	filter, err := bpf.Assemble(toClient)
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	w := &socket{
		ifi:    &net.Interface{Index: l.index, Name: l.name, HardwareAddr: l.mac[:]},
		mac:    l.mac,
		events: events,
	}
	if w.ip, err = w.listen(unix.ETH_P_IP, filter, udpEvent); err != nil {
		return nil, err
	}
	return w, nil
}

// toClient lets whole UDP packets to the client's port through. It sees packets
// from the IP header on.
var toClient = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3}, // a fragment
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: clientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: maxPacket},
}

// socket is the real [wire]: a packet socket for everything that is broadcast and
// for all that is received, one for ARP while an address is probed, and a UDP
// socket to send from the leased address.
type socket struct {
	ifi     *net.Interface
	mac     model.MAC
	events  chan<- heard
	ip      *ear
	arp     *ear           // nil: not probing
	udp     net.PacketConn // nil: not used yet
	udpFrom netip.Addr
}

var everyone = &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}

func (w *socket) broadcast(msg []byte) error {
	if _, err := w.ip.WriteTo(broadcastUDP(msg), everyone); err != nil {
		return fmt.Errorf("broadcast on %s: %w", w.ifi.Name, err)
	}
	return nil
}

// unicast sends through the kernel's UDP, which knows the way to a server that is
// not a neighbour. It fails as long as nobody has given the address to the
// interface.
func (w *socket) unicast(msg []byte, from, to netip.Addr) error {
	if w.udp != nil && w.udpFrom != from {
		w.closeUDP()
	}
	if w.udp == nil {
		lc := net.ListenConfig{Control: w.sendOnly}
		src := netip.AddrPortFrom(from, clientPort)
		c, err := lc.ListenPacket(context.Background(), "udp4", src.String())
		if err != nil {
			return fmt.Errorf("send from %s: %w", src, err)
		}
		w.udp, w.udpFrom = c, from
	}
	dst := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, serverPort))
	if _, err := w.udp.WriteTo(msg, dst); err != nil {
		w.closeUDP() // the address may come back, and with it a working socket
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

// sendOnly prepares the UDP socket. Answers are read by the packet socket, so this
// one refuses them all; without it the kernel would call the port unreachable.
func (w *socket) sendOnly(_, _ string, rc syscall.RawConn) error {
	var err error
	cerr := rc.Control(func(fd uintptr) {
		if err = unix.BindToDevice(int(fd), w.ifi.Name); err != nil {
			return
		}
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	return errors.Join(cerr, err)
}

func (w *socket) closeUDP() {
	if w.udp != nil {
		w.udp.Close()
		w.udp = nil
	}
}

// probe sends an ARP probe and listens to ARP from the first one on.
func (w *socket) probe(a netip.Addr) error {
	if w.arp == nil {
		e, err := w.listen(unix.ETH_P_ARP, nil, arpEvent)
		if err != nil {
			return err
		}
		w.arp = e
	}
	if _, err := w.arp.WriteTo(arpProbe(w.mac, a), everyone); err != nil {
		return fmt.Errorf("probe %s on %s: %w", a, w.ifi.Name, err)
	}
	return nil
}

func (w *socket) endProbe() {
	if w.arp != nil {
		w.arp.shut()
		w.arp = nil
	}
}

func (w *socket) close() {
	w.ip.shut()
	w.endProbe()
	w.closeUDP()
}

// ear is a packet socket with the goroutine that reads it.
type ear struct {
	*packet.Conn
	closing chan struct{}
	done    chan struct{}
}

// shut waits until nothing more is heard.
func (e *ear) shut() {
	close(e.closing)
	e.Close()
	<-e.done
}

// listen opens a packet socket for one protocol and starts to send what parse
// makes of its packets to the daemon.
func (w *socket) listen(proto int, filter []bpf.RawInstruction, parse parser) (*ear, error) {
	c, err := packet.Listen(w.ifi, packet.Datagram, proto, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", w.ifi.Name, err)
	}
	rc, err := auxdata(c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", w.ifi.Name, err)
	}
	e := &ear{Conn: c, closing: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		w.read(e, rc, parse)
	}()
	return e, nil
}

// read hands on what comes, until the ear is shut or its socket fails. Nothing
// queues up here: what the daemon has no time for the kernel drops.
func (w *socket) read(e *ear, rc syscall.RawConn, parse parser) {
	var h heard
	for h.err == nil {
		buf := make([]byte, maxPacket) // the event keeps it
		f, err := receive(rc, buf)
		if err != nil {
			h.err = fmt.Errorf("receive on %s: %w", w.ifi.Name, err)
		} else if ev, ok := parse(buf[:f.n], f.from, f.checksummed); ok && f.forUs {
			h.event = ev
		} else {
			continue
		}
		select {
		case w.events <- h:
		case <-e.closing:
			return
		}
	}
}

// parser makes an event of a received packet; ok is false if it is none of ours.
type parser func(b []byte, from model.MAC, checksummed bool) (ev dhcp4.Event, ok bool)

func udpEvent(b []byte, from model.MAC, checksummed bool) (dhcp4.Event, bool) {
	p, err := parseUDP(b, !checksummed)
	return dhcp4.Packet{From: from, Data: p}, err == nil
}

func arpEvent(b []byte, _ model.MAC, _ bool) (dhcp4.Event, bool) {
	a, err := parseARP(b)
	return a, err == nil
}

// frame is what the kernel says about a received packet.
type frame struct {
	n           int
	from        model.MAC
	forUs       bool // to this host or to everyone, and not from a VLAN
	checksummed bool // the checksum is there to be checked
}

// auxdata asks the kernel to tell more about each packet, see packet(7).
func auxdata(c *packet.Conn) (syscall.RawConn, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	})
	return rc, errors.Join(cerr, err)
}

// struct tpacket_auxdata of linux/if_packet.h: the status comes first.
const (
	auxSize = 20
	auxTCI  = 16
)

func receive(rc syscall.RawConn, buf []byte) (frame, error) {
	oob := make([]byte, unix.CmsgSpace(auxSize))
	var (
		n, oobn int
		sa      unix.Sockaddr
		err     error
	)
	rerr := rc.Read(func(fd uintptr) bool {
		n, oobn, _, sa, err = unix.Recvmsg(int(fd), buf, oob, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if rerr != nil {
		return frame{}, rerr
	}
	if err != nil {
		return frame{}, err
	}
	f := frame{n: n, checksummed: true}
	if ll, ok := sa.(*unix.SockaddrLinklayer); ok {
		f.forUs = ll.Pkttype == unix.PACKET_HOST || ll.Pkttype == unix.PACKET_BROADCAST
		f.from = model.MAC(ll.Addr[:6])
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return frame{}, fmt.Errorf("control message: %w", err)
	}
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxSize {
			continue
		}
		status := binary.NativeEndian.Uint32(m.Data)
		tci := binary.NativeEndian.Uint16(m.Data[auxTCI:])
		f.checksummed = status&unix.TP_STATUS_CSUMNOTREADY == 0
		// The kernel strips tags, and shows what no VLAN link wants to the port.
		// Tag 0 is only a priority.
		if status&unix.TP_STATUS_VLAN_VALID != 0 && tci&0xfff != 0 {
			f.forUs = false
		}
	}
	return f, nil
}
