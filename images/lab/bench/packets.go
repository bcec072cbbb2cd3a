//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/images/lab"
	"bulkhead/images/lab/probe"
)

// How much is sent in one turn: little, so that what else the machine does hits all
// variants alike.
const (
	packetsPerTurn = 20_000 // also how many connections the kernel has to hold
	streamTime     = 200 * time.Millisecond
)

// minimal is the least that a person would write by hand for the measured
// connection.
var minimal = fmt.Sprintf(`flush ruleset
table inet byhand {
	chain input { type filter hook input priority filter; policy drop; ct state established,related accept; }
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "%[1]s" oifname "%[2]s" udp dport %[3]d accept
		iifname "%[1]s" oifname "%[2]s" tcp dport %[4]d accept
	}
}`, link(0), link(1), measuredUDP, measuredTCP)

// variant is a gateway that is set up in one way, with what was measured.
type variant struct {
	*path
	name string

	walk, known, flows, refused []float64 // ns per packet
	stream, conns               []float64 // bit/s, connections/s
}

// path is a sender, a gateway and a receiver in a row.
type path struct {
	*gateway
	from, to *lab.Host
	wire     *probe.Wire
	sink     net.Listener // takes connections and what they carry
}

// packets measures what a packet and a connection cost with and without rules. Each
// variant has a gateway of its own, and they take turns.
func packets(ctx context.Context, w *lab.World, o Options) error {
	var variants []*variant
	for i, v := range []struct {
		name  string
		rules int // 0: none of ours
		nft   string
	}{
		{"bare forwarding", 0, "flush ruleset"},
		{"by hand, 2 rules", 0, minimal},
		{"bulkhead, 5 rules", 5, ""},
		{fmt.Sprintf("bulkhead, %d rules", large), large, ""},
	} {
		p, err := newPath(w, fmt.Sprintf("path%d", i))
		if err != nil {
			return err
		}
		defer p.close()
		if err := p.setUp(max(v.rules, 5), v.nft); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		variants = append(variants, &variant{path: p, name: v.name})
	}
	// Connections end with work for later, which must not fall on packets.
	for _, measure := range []func(*variant) error{(*variant).measurePackets, (*variant).measureTCP} {
		for range o.Rounds {
			for _, v := range variants {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := measure(v); err != nil {
					return fmt.Errorf("%s: %w", v.name, err)
				}
			}
		}
	}
	report(o, variants)
	return nil
}

// setUp gives the gateway the links, addresses and settings of a configuration, and
// either its rules or those of an nft script.
func (p *path) setUp(rules int, nft string) error {
	c, err := compileFile(Config(rules))
	if err != nil {
		return err
	}
	if err := p.install(c.State); err != nil {
		return err
	}
	if nft != "" {
		if _, err := p.Output("nft", nft); err != nil {
			return err
		}
	}
	return p.addHosts()
}

func report(o Options, variants []*variant) {
	rows := [][]string{{"", "one way", "answered", "new flows", "refused", "TCP", "connections"}}
	for _, v := range variants {
		rows = append(rows, []string{
			v.name,
			fmt.Sprintf("%.0f ns", median(v.walk)),
			fmt.Sprintf("%.0f ns", median(v.known)),
			fmt.Sprintf("%.0f ns", median(v.flows)),
			fmt.Sprintf("%.0f ns", median(v.refused)),
			fmt.Sprintf("%.1f Gbit/s", median(v.stream)/1e9),
			fmt.Sprintf("%.0f /s", median(v.conns)),
		})
	}
	table(o.W, fmt.Sprintf("Packets from one zone to another, medians of %d rounds", o.Rounds), rows)
	fmt.Fprint(o.W, `  UDP packets of 64 bytes, nanoseconds each, sender and receiver included. One way:
  a flow that nobody answers, so that each packet walks the rules. Answered: an
  established flow. New flows: each packet is a connection of its own. Refused: to
  ports that no rule allows; without rules there are none, and they pass. TCP: one
  stream, and connections opened and closed one after the other by two clients.
`)
	few, many, bare := variants[2], variants[3], variants[0]
	ratio := func(name string, of func(*variant) []float64) []string {
		a, b, z := median(of(few)), median(of(many)), median(of(bare))
		return []string{name, fmt.Sprintf("%.3f", b/a), target(b/a <= 1.1, "at most 1.1") + fmt.Sprintf("; on top of bare forwarding: %.2f", (b-z)/(a-z))}
	}
	table(o.W, fmt.Sprintf("Cost with %d rules divided by cost with 5", large), [][]string{
		ratio("packet that walks the rules", func(v *variant) []float64 { return v.walk }),
		ratio("packet of an answered flow", func(v *variant) []float64 { return v.known }),
		ratio("new flow", func(v *variant) []float64 { return v.flows }),
	})
}

// newPath gives the gateway's first two ports machines with the measured devices'
// addresses.
func newPath(w *lab.World, name string) (*path, error) {
	g, err := newGateway(w, name)
	if err != nil {
		return nil, err
	}
	p := &path{gateway: g}
	if p.from, err = w.NewHost(name + "-from"); err != nil {
		return nil, err
	}
	if p.to, err = w.NewHost(name + "-to"); err != nil {
		return nil, err
	}
	err = g.peers.IP(fmt.Sprintf("link set dev %s netns %s name eth0 address %s\nlink set dev %s netns %s name eth0 address %s",
		link(0), p.from.Name, deviceMAC(0), link(1), p.to.Name, deviceMAC(1)))
	return p, err
}

// addHosts gives the two machines their addresses, once the gateway has its own.
// Neighbours are fixed: address resolution is not what is measured.
func (p *path) addHosts() error {
	for i, h := range []*lab.Host{p.from, p.to} {
		err := h.IP(fmt.Sprintf("link set dev lo up\nlink set dev eth0 up\naddr add %s/24 dev eth0\nroute add default via 10.0.%d.1\nneigh replace 10.0.%d.1 lladdr %s dev eth0",
			address(i), i, i, portMAC(i)))
		if err != nil {
			return err
		}
		if err := p.IP(fmt.Sprintf("neigh replace %s lladdr %s dev %s", address(i), deviceMAC(i), link(i))); err != nil {
			return err
		}
	}
	// The receiver drops the packets of the measurement before anything answers.
	if _, err := p.to.Output("nft", fmt.Sprintf("table netdev sink { chain in { type filter hook ingress device eth0 priority 0; udp dport %d drop; }; }", measuredUDP)); err != nil {
		return err
	}
	if err := p.from.Do(func() (err error) { p.wire, err = probe.OpenWire("eth0"); return err }); err != nil {
		return err
	}
	return p.to.Do(func() (err error) {
		p.sink, err = net.Listen("tcp4", fmt.Sprintf(":%d", measuredTCP))
		if err == nil {
			go drain(p.sink)
		}
		return err
	})
}

func (p *path) close() {
	if p.wire != nil {
		p.wire.Close()
	}
	if p.sink != nil {
		p.sink.Close()
	}
	p.world.Remove(p.from)
	p.world.Remove(p.to)
	p.gateway.close()
}

// drain reads and forgets, until the listener is closed.
func drain(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 1<<18)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}

func (v *variant) measurePackets() error {
	established := func() (float64, error) {
		if err := v.answer(); err != nil {
			return 0, err
		}
		return v.send(packetsPerTurn, false)
	}
	return errors.Join(
		v.add(&v.walk, func() (float64, error) { return v.send(packetsPerTurn, false) }),
		v.add(&v.known, established),
		v.add(&v.flows, func() (float64, error) { return v.send(packetsPerTurn, true) }),
		v.add(&v.refused, v.sendRefused))
}

func (v *variant) measureTCP() error {
	return errors.Join(v.add(&v.stream, v.streamRate), v.add(&v.conns, v.connectionRate))
}

// add takes one measurement, and has the gateway forget its connections.
func (v *variant) add(list *[]float64, measure func() (float64, error)) error {
	value, err := measure()
	*list = append(*list, value)
	return errors.Join(err, lab.ForgetConnections(v.Host))
}

// measured is the packet that is sent.
func measured() probe.Packet {
	return probe.Packet{
		Src: netip.MustParseAddr(address(0)), Dst: netip.MustParseAddr(address(1)),
		Proto: probe.UDP, SrcPort: 1024, DstPort: measuredUDP, Pad: 6, Token: 1,
	}
}

// answer makes the measured flow an answered one: a packet there, one back, one more.
func (p *path) answer() error {
	var back *probe.Wire
	if err := p.to.Do(func() (err error) { back, err = probe.OpenWire("eth0"); return err }); err != nil {
		return err
	}
	defer back.Close()
	there := measured()
	reply := there
	reply.Src, reply.Dst, reply.SrcPort, reply.DstPort = there.Dst, there.Src, there.DstPort, there.SrcPort
	if _, err := p.send(1, false); err != nil {
		return err
	}
	gw, err := net.ParseMAC(portMAC(1))
	if err != nil {
		return err
	}
	return back.Send(back.MAC, gw, reply.Bytes())
}

// refusedPorts is how many ports refused packets go to in turn.
const refusedPorts = 1000

// sendRefused sends packets to ports that are closed, until the gateway has had all.
func (p *path) sendRefused() (nsPerPacket float64, err error) {
	pkt := measured()
	var frames [][]byte
	for i := range refusedPorts {
		pkt.DstPort = uint16(measuredUDP + 1 + i)
		frames = append(frames, pkt.Bytes())
	}
	return p.sendFrames(packetsPerTurn, frames, func() (uint64, error) { return received(p.Host, link(0)) })
}

// send sends UDP packets of 64 bytes until all have arrived.
func (p *path) send(n int, newFlows bool) (nsPerPacket float64, err error) {
	pkt := measured()
	frames := [][]byte{pkt.Bytes()}
	if newFlows {
		frames = nil
		for i := range n {
			pkt.SrcPort = uint16(1024 + i)
			frames = append(frames, pkt.Bytes())
		}
	}
	return p.sendFrames(n, frames, func() (uint64, error) { return received(p.to, "eth0") })
}

// sendFrames sends n packets from one thread, which also does the forwarding, and
// returns the nanoseconds that each took until all had been seen where they go.
func (p *path) sendFrames(n int, frames [][]byte, seen func() (uint64, error)) (nsPerPacket float64, err error) {
	gw, err := net.ParseMAC(portMAC(0))
	if err != nil {
		return 0, err
	}
	before, err := seen()
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	var took time.Duration
	go func() {
		runtime.LockOSThread() // and never unlocked: the pinning ends with the thread
		var one unix.CPUSet
		one.Set(0)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			done <- err
			return
		}
		start := time.Now()
		for i := range n {
			if err := p.wire.Send(p.wire.MAC, gw, frames[i%len(frames)]); err != nil {
				done <- err
				return
			}
		}
		for {
			now, err := seen()
			if err != nil || now-before >= uint64(n) {
				took = time.Since(start)
				done <- err
				return
			}
			if time.Since(start) > 30*time.Second {
				done <- fmt.Errorf("only %d of %d packets arrived", now-before, n)
				return
			}
		}
	}()
	err = <-done
	return float64(took.Nanoseconds()) / float64(n), err
}

// received is how many packets a port has seen.
func received(h *lab.Host, port string) (n uint64, err error) {
	err = h.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if name, counts, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == port {
				n, err = strconv.ParseUint(strings.Fields(counts)[1], 10, 64)
			}
		}
		return err
	})
	return n, err
}

func (p *path) dial() (c net.Conn, err error) {
	return net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", address(1), measuredTCP), 5*time.Second)
}

// streamRate is what one TCP stream carries, in bit/s.
func (p *path) streamRate() (float64, error) {
	var c net.Conn
	err := p.from.Do(func() (err error) { c, err = p.dial(); return err })
	if err != nil {
		return 0, err
	}
	defer c.Close()
	chunk := make([]byte, 1<<18)
	start := time.Now()
	sent := 0
	for time.Since(start) < streamTime {
		n, err := c.Write(chunk)
		sent += n
		if err != nil {
			return 0, err
		}
	}
	return float64(sent) * 8 / time.Since(start).Seconds(), nil
}

// connectionRate is how many TCP connections per second two clients can open and
// close, each one after the other. Their sockets block: Go's would spend more time on
// waking up than the gateway spends on a connection.
func (p *path) connectionRate() (float64, error) {
	to := &unix.SockaddrInet4{Port: measuredTCP, Addr: netip.MustParseAddr(address(1)).As4()}
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 2)
	start := time.Now()
	for i := range errs {
		wg.Go(func() {
			errs[i] = p.from.Do(func() error {
				for time.Since(start) < streamTime {
					if err := connect(to); err != nil {
						return err
					}
					n.Add(1)
				}
				return nil
			})
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}

// connect opens a connection and resets it, which frees the port at once.
func connect(to unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	return unix.Connect(fd, to)
}
