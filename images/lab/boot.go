//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
)

// Stage is something that was reached while the box started.
type Stage struct {
	Name string
	At   time.Duration // since it was switched on
	CPU  time.Duration // that QEMU took until then
}

// marks are what the console shows on the way.
var marks = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"firmware starts the boot loader", regexp.MustCompile(`BdsDxe: starting Boot\d+ `)},
	{"kernel", regexp.MustCompile(`\[ +\d+\.\d+\] `)}, // its first words, if it has any
	{"init starts the services", regexp.MustCompile(`init: starting \d+ services`)},
}

// Reboot cuts the power of a box that has its configuration, switches it on again, and
// returns when all zones are served, with what was reached when: in each zone a lease
// was confirmed by DHCP, and the box's name told by DNS.
func (l *Lab) Reboot(ctx context.Context) ([]Stage, error) {
	if err := l.Box.Kill(); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := l.Box.PowerOn(ctx); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var stages []Stage
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		stages = append(stages, Stage{name, time.Since(start), l.Box.CPU()})
	}
	watching, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, m := range marks {
			if _, err := l.Box.Await(watching, m.pattern); err == nil {
				note(m.name)
			}
		}
	})
	err := l.awaitServed(ctx, note)
	cancel()
	wg.Wait()
	slices.SortStableFunc(stages, func(a, b Stage) int { return int(a.At - b.At) })
	if err != nil {
		return stages, errors.Join(err, l.logs())
	}
	// Whatever was connected hangs. The uplink is not part of the measurement, but of
	// the lab.
	if err := l.connect(ctx); err != nil {
		return stages, err
	}
	return stages, l.awaitUplink(ctx)
}

// awaitServed returns when every zone is served. It asks far more often than clients
// do, so as not to measure them.
func (l *Lab) awaitServed(ctx context.Context, note func(string)) error {
	var replies sync.Map // of servers, by transaction
	for _, end := range l.panel.box {
		end.Watch(func(fromBox bool, frame []byte) {
			if xid, ok := confirmed(frame); fromBox && ok {
				replies.Store(xid, true)
			}
		})
		defer end.Watch(nil)
	}
	var dhcp, dns []*Client
	for _, c := range l.Clients {
		if c.Zone.DHCP.Enabled {
			dhcp = append(dhcp, c)
		}
		if c.Zone.DNS.Enabled {
			dns = append(dns, c)
		}
	}
	var wg sync.WaitGroup
	var errDHCP, errDNS error
	wg.Go(func() {
		errDHCP = each(dhcp, func(i int, c *Client) error { return l.awaitLease(ctx, c, uint32(i+1), &replies) })
		note("DHCP in all zones")
	})
	wg.Go(func() {
		errDNS = each(dns, func(_ int, c *Client) error { return l.awaitName(ctx, c) })
		note("DNS in all zones")
	})
	wg.Wait()
	return errors.Join(errDHCP, errDNS)
}

// each calls f for all clients at once.
func each(clients []*Client, f func(int, *Client) error) error {
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { errs[i] = f(i, c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// again is how often the box is asked.
const again = 50 * time.Millisecond

// awaitLease asks for the lease that the client has, as after a restart, until the box
// confirms it.
func (l *Lab) awaitLease(ctx context.Context, c *Client, xid uint32, replies *sync.Map) error {
	var w *probe.Wire
	err := c.Do(func() (err error) {
		w, err = probe.OpenWire(clientLink)
		return err
	})
	if err != nil {
		return err
	}
	defer w.Close()
	question := request(c.MAC, c.Addr, xid)
	for {
		if _, ok := replies.Load(xid); ok {
			return nil
		}
		if err := w.Send(w.MAC, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, question); err != nil {
			return err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return fmt.Errorf("the box does not confirm the lease of %s: %w", c.Name, ctx.Err())
		}
	}
}

// DHCP, RFC 2131 and 2132.
const (
	bootRequest, bootReply    = 1, 2
	optMessage, optAddress    = 53, 50
	dhcpRequest, dhcpACK      = 3, 5
	serverPort, clientPort    = 67, 68
	dhcpHeader, dhcpMagicAt   = 240, 236
	etherTypeIPv4, etherTypeQ = 0x0800, 0x8100
)

var dhcpMagic = []byte{0x63, 0x82, 0x53, 0x63}

// request returns an IP packet that asks for an address in the state INIT-REBOOT.
func request(mac model.MAC, addr netip.Addr, xid uint32) []byte {
	b := make([]byte, dhcpHeader)
	b[0], b[1], b[2] = bootRequest, 1, 6 // Ethernet
	binary.BigEndian.PutUint32(b[4:], xid)
	binary.BigEndian.PutUint16(b[10:], 0x8000) // answer to everybody
	copy(b[28:], mac[:])
	copy(b[dhcpMagicAt:], dhcpMagic)
	b = append(b, optMessage, 1, dhcpRequest, optAddress, 4)
	b = append(append(b, addr.AsSlice()...), 255)
	return probe.Datagram(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort, serverPort, b)
}

// confirmed returns the transaction of a frame that is a DHCPACK.
func confirmed(frame []byte) (xid uint32, ok bool) {
	at := 12
	if len(frame) < 60 {
		return 0, false
	}
	if binary.BigEndian.Uint16(frame[at:]) == etherTypeQ {
		at += 4
	}
	if binary.BigEndian.Uint16(frame[at:]) != etherTypeIPv4 || frame[at+2]>>4 != 4 || frame[at+2+9] != probe.UDP {
		return 0, false
	}
	udp := frame[at+2+int(frame[at+2]&15)*4:]
	if len(udp) < 8+dhcpHeader || binary.BigEndian.Uint16(udp) != serverPort {
		return 0, false
	}
	b := udp[8:]
	if b[0] != bootReply || !bytes.Equal(b[dhcpMagicAt:dhcpHeader], dhcpMagic) || !bytes.Contains(b[dhcpHeader:], []byte{optMessage, 1, dhcpACK}) {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), true
}

// awaitName asks for the box's own name until the box tells it.
func (l *Lab) awaitName(ctx context.Context, c *Client) error {
	question := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} // one question, recursion desired: RFC 1035 section 4.1
	for label := range strings.SplitSeq(l.Config.System.Name+"."+l.Config.System.Domain, ".") {
		question = append(append(question, byte(len(label))), label...)
	}
	question = append(question, 0, 0, 1, 0, 1) // A, IN
	var conn net.Conn
	err := c.Do(func() (err error) {
		conn, err = net.Dial("udp4", netip.AddrPortFrom(c.Zone.Gateway, 53).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 512)
	for {
		_, _ = conn.Write(question) // refused while nobody listens
		if err := conn.SetReadDeadline(time.Now().Add(again)); err != nil {
			return err
		}
		if n, err := conn.Read(answer); err == nil && bytes.HasSuffix(answer[:n], c.Zone.Gateway.AsSlice()) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the box does not tell %s its name: %w", c.Name, err)
		}
	}
}
