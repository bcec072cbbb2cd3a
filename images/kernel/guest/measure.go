//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

const (
	turn      = 250 * time.Millisecond // of one kind of traffic through one box: short, so that what else the machine does hits all alike
	udpBytes  = 22                     // of payload: 64 with the headers of UDP, IP and Ethernet
	batch     = 64                     // packets per system call
	sinkAddr  = "203.0.113.1:9001"
	deafAddr  = "203.0.113.1:9002"
	guestAddr = "192.168.50.9"
)

// road leads from a guest through a box to the internet.
type road struct {
	*town
	name  string
	guest space
	udp   *net.UDPConn
	deaf  *net.UDPConn // has answered once; what comes after costs nothing but its way
}

// measure sends as much as goes through boxes that differ in their rules only, in
// turns, and prints a line for each: UDP packets of 64 bytes per second, and what one
// TCP connection carries in Mbit/s. The package throughput reads them.
func measure(rounds int) error {
	return newTown(func(bare *town) error {
		return newTown(func(ruled *town) error {
			return newTown(func(short *town) error {
				ruled.noFlowtable = true
				roads := []*road{{town: bare, name: "bare"}, {town: ruled, name: "rules"}, {town: short, name: "flowtable"}}
				for _, r := range roads {
					if err := r.open(); err != nil {
						return fmt.Errorf("%s: %w", r.name, err)
					}
				}
				for range rounds {
					for _, r := range roads {
						if err := r.take(); err != nil {
							return fmt.Errorf("%s: %w", r.name, err)
						}
					}
				}
				return nil
			})
		})
	})
}

// open makes all that is to be measured.
func (r *road) open() error {
	if _, _, err := r.bring(); err != nil {
		return err
	}
	if r.name == "bare" {
		if err := r.strip(); err != nil {
			return err
		}
	}
	var err error
	if r.guest, err = r.machine("guest", guestAddr, nil); err != nil {
		return err
	}
	if r.udp, err = r.guest.listen(guestAddr + ":5000"); err != nil {
		return err
	}
	if r.deaf, err = r.internet.listen(deafAddr); err != nil {
		return err
	}
	// Segments as they go over a wire, and not 64 KiB at a time.
	for _, feature := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
		if err := r.guest.ethtool("eth0", feature, 0); err != nil {
			return err
		}
	}
	if err := r.internet.do(sink); err != nil {
		return err
	}
	return r.meet()
}

// meet makes a connection with the deaf machine that both have sent over.
func (r *road) meet() error {
	b := make([]byte, udpBytes)
	if _, err := r.udp.WriteToUDPAddrPort(b, netip.MustParseAddrPort(deafAddr)); err != nil {
		return err
	}
	if err := errors.Join(r.deaf.SetDeadline(time.Now().Add(patience)), r.udp.SetDeadline(time.Now().Add(patience))); err != nil {
		return err
	}
	_, from, err := r.deaf.ReadFromUDPAddrPort(b)
	if err != nil {
		return err
	}
	if _, err := r.deaf.WriteToUDPAddrPort(b, from); err != nil {
		return err
	}
	if _, _, err := r.udp.ReadFromUDPAddrPort(b); err != nil {
		return err
	}
	return r.udp.SetDeadline(time.Time{})
}

// strip takes the rules away, and has the internet know the way back.
func (r *road) strip() error {
	for _, c := range []plan.Change{
		plan.LoadRuleset{To: state.Ruleset{}},
		plan.SetSysctl{Key: "net/ipv4/ip_forward", To: "1"},
	} {
		if err := r.kernel.Do(plan.Step{Change: c}); err != nil {
			return err
		}
	}
	guests := r.cfg.Zone("guest").Subnet
	return r.internet.with(func(nl *rtnetlink.Conn) error {
		return nl.Route.Add(&rtnetlink.RouteMessage{
			Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_UNIVERSE,
			Type: unix.RTN_UNICAST, DstLength: uint8(guests.Bits()),
			Attributes: rtnetlink.RouteAttributes{Dst: guests.Addr().AsSlice(), Gateway: netip.MustParseAddr("203.0.113.2").AsSlice()},
		})
	})
}

// proves makes sure that the road is what it is called.
func (r *road) proves() error {
	if r.name == "bare" {
		return nil
	}
	c, err := r.connection(r.udp)
	if got := c.Status&statusOffload != 0; err == nil && got != (r.name == "flowtable") {
		err = fmt.Errorf("offloaded: %t", got)
	}
	return err
}

// take measures one turn and prints the figures.
func (r *road) take() error {
	pps, err := r.packets()
	if err != nil {
		return err
	}
	mbit, err := r.stream()
	if err != nil {
		return err
	}
	fmt.Printf("guest: measured %s %.0f %.1f\n", r.name, pps, mbit)
	return nil
}

// packets sends UDP for a turn and returns how many packets per second arrived.
func (r *road) packets() (float64, error) {
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(deafAddr))
	msgs := make([]ipv4.Message, batch)
	for i := range msgs {
		msgs[i] = ipv4.Message{Buffers: [][]byte{make([]byte, udpBytes)}, Addr: to}
	}
	before, err := r.internet.received("eth0")
	if err != nil {
		return 0, err
	}
	conn, started := ipv4.NewPacketConn(r.udp), time.Now()
	for time.Since(started) < turn {
		if _, err := conn.WriteBatch(msgs, 0); err != nil {
			return 0, err
		}
	}
	took := time.Since(started)
	after, err := r.internet.received("eth0")
	return float64(after-before) / took.Seconds(), errors.Join(err, r.proves())
}

// received returns how many packets a link has received.
func (s space) received(link string) (count uint64, err error) {
	err = s.do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			name, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
			if fields := strings.Fields(rest); name == link && len(fields) > 1 {
				count, err = strconv.ParseUint(fields[1], 10, 64)
				return err
			}
		}
		return fmt.Errorf("no link %s", link)
	})
	return count, err
}

// sink takes connections and what they carry.
func sink() error {
	l, err := net.Listen("tcp4", sinkAddr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				n, _ := io.Copy(io.Discard, c) // ends with the sender's last byte
				_, _ = fmt.Fprintln(c, n)
				c.Close()
			}()
		}
	}()
	return nil
}

// stream sends over one TCP connection for a turn and returns in Mbit/s what arrived
// by the time that the sink has told so.
func (r *road) stream() (mbit float64, err error) {
	var c net.Conn
	if err := r.guest.do(func() (err error) { c, err = net.DialTimeout("tcp4", sinkAddr, patience); return err }); err != nil {
		return 0, err
	}
	defer c.Close()
	buf, started := make([]byte, 64<<10), time.Now()
	for time.Since(started) < turn {
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(c.(*net.TCPConn).CloseWrite(), c.SetReadDeadline(time.Now().Add(patience))); err != nil {
		return 0, err
	}
	var n int64
	if _, err := fmt.Fscan(c, &n); err != nil {
		return 0, err
	}
	return float64(8*n) / 1e6 / time.Since(started).Seconds(), nil
}

// ethtool sets a feature of a link. See struct ethtool_value of
// include/uapi/linux/ethtool.h.
func (s space) ethtool(link string, feature, value uint32) error {
	return s.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		request := struct{ cmd, data uint32 }{feature, value}
		ifreq := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&request)}
		copy(ifreq.name[:], link)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq))); errno != 0 {
			return fmt.Errorf("set feature %#x of %s: %w", feature, link, errno)
		}
		return nil
	})
}
