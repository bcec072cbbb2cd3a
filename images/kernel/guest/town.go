//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
)

// patience is far beyond what an answer takes; it ends a wait for one that is lost.
const patience = 10 * time.Second

// town is a box with the network cards of the example configuration, between a
// pretended internet and the VLANs of its trunk. Each has a namespace.
type town struct {
	box, internet, trunk space
	kernel               *apply.Kernel
	conntrack            *apply.Conntrack
	cfg                  *model.Config
	noFlowtable          bool // say that the kernel has none
	isolated             []facts.Isolation

	server *net.UDPConn // answers
	mu     sync.Mutex
	heard  []string // by the server
}

const (
	serverNet  = "203.0.113.1/24"
	serverAddr = "203.0.113.1:9000"
	uplink     = "wan"
	trunkLink  = "trunk" // at the far end of the trunk, too
)

func newTown(f func(*town) error) error {
	t := new(town)
	for _, s := range []*space{&t.box, &t.internet, &t.trunk} {
		var err error
		if *s, err = newSpace(); err != nil {
			return err
		}
	}
	var err error
	if t.cfg, err = example(); err != nil {
		return err
	}
	for _, p := range t.cfg.Ports {
		peer, link := t.trunk, trunkLink
		if p.Name == uplink {
			peer, link = t.internet, "eth0"
		}
		if err := t.box.veth(p.Name, p.MAC[:], peer, link); err != nil {
			return err
		}
	}
	if err := t.internet.address("eth0", netip.MustParsePrefix(serverNet)); err != nil {
		return err
	}
	if t.kernel, err = apply.Open(int(t.box), "/run/town.json"); err != nil {
		return err
	}
	if t.conntrack, err = apply.OpenConntrack(int(t.box)); err != nil {
		return err
	}
	if t.server, err = t.internet.listen(serverAddr); err != nil {
		return err
	}
	go t.echo()
	return errors.Join(f(t), t.server.Close(), t.conntrack.Close(), t.kernel.Close())
}

// example reads the configuration beside init.
func example() (*model.Config, error) {
	const file = "/bulkhead.yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	cfg, problems := conf.Parse(file, text, time.Now())
	if cfg == nil {
		return nil, problems.Err()
	}
	return cfg, nil
}

// echo answers every packet with its like, and notes what it said.
func (t *town) echo() {
	b := make([]byte, 2048)
	for {
		n, from, err := t.server.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		t.mu.Lock()
		t.heard = append(t.heard, string(b[:n]))
		t.mu.Unlock()
		_, _ = t.server.WriteToUDPAddrPort(b[:n], from) // what is lost is missed
	}
}

func (t *town) heardOf(word string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.heard, word)
}

// compile compiles the configuration with the facts of the box, and the lease that
// the internet would give.
func (t *town) compile() (*compile.Result, error) {
	f := facts.Facts{
		Now:     time.Now(),
		Devices: compile.Offline(t.cfg, time.Now()).Devices, Isolated: t.isolated,
		Uplink: &facts.Lease{
			Link: uplink, Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
		},
	}
	var err error
	if f.Links, f.Kernel, err = t.kernel.Facts(); err != nil {
		return nil, err
	}
	f.Kernel.Flowtable = f.Kernel.Flowtable && !t.noFlowtable
	return compile.Compile(t.cfg, f), nil
}

// bring does what it takes for the box to be as its configuration says, and returns
// the steps taken.
func (t *town) bring() (*compile.Result, []plan.Step, error) {
	r, err := t.compile()
	if err != nil {
		return nil, nil, err
	}
	steps, err := carryOut(t.kernel, r)
	return r, steps, err
}

// carryOut plans and takes steps until there is nothing left to do, and fails if there
// still is something after two times.
func carryOut(k *apply.Kernel, r *compile.Result) ([]plan.Step, error) {
	var taken []plan.Step
	for range 2 {
		observed, err := k.Observe(r.State)
		if err != nil {
			return taken, err
		}
		for _, s := range plan.Make(observed, r.State).Steps {
			if err := k.Do(s); err != nil {
				return taken, fmt.Errorf("%s: %w", s.Sentence, err)
			}
			taken = append(taken, s)
		}
	}
	observed, err := k.Observe(r.State)
	if err != nil {
		return taken, err
	}
	if left := plan.Make(observed, r.State).Steps; len(left) > 0 {
		return taken, fmt.Errorf("%d steps are left to do: %s", len(left), left[0].Sentence)
	}
	return taken, nil
}

// machine makes a machine in a zone.
func (t *town) machine(zone, addr string, mac net.HardwareAddr) (space, error) {
	s, err := newSpace()
	if err != nil {
		return 0, err
	}
	z := t.cfg.Zone(zone)
	if err := t.trunk.vlan(trunkLink, z.VLAN, mac, s); err != nil {
		return 0, err
	}
	if err := s.address("eth0", netip.PrefixFrom(netip.MustParseAddr(addr), z.Subnet.Bits())); err != nil {
		return 0, err
	}
	return s, s.gateway(z.Gateway)
}

// client makes a machine in a zone and opens a socket on it.
func (t *town) client(zone, addr string, mac net.HardwareAddr) (*net.UDPConn, error) {
	s, err := t.machine(zone, addr, mac)
	if err != nil {
		return nil, err
	}
	return s.listen(addr + ":5000")
}

// exchange sends a word to the server and waits until it comes back.
func exchange(c *net.UDPConn, word string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.WriteToUDPAddrPort([]byte(word), netip.MustParseAddrPort(serverAddr)); err != nil {
		return err
	}
	b := make([]byte, 2048)
	n, _, err := c.ReadFromUDPAddrPort(b)
	if err == nil && string(b[:n]) != word {
		err = fmt.Errorf("got %q back, want %q", b[:n], word)
	}
	return err
}

// silenced sends a word and wants it not to get to the server, where what a neighbour
// of the server sends after it has arrived.
func (t *town) silenced(c *net.UDPConn, word string) error {
	for range 5 {
		if _, err := c.WriteToUDPAddrPort([]byte(word), netip.MustParseAddrPort(serverAddr)); err != nil {
			return err
		}
	}
	neighbour, err := t.internet.listen("203.0.113.1:0")
	if err != nil {
		return err
	}
	defer neighbour.Close()
	if err := exchange(neighbour, "after "+word); err != nil {
		return err
	}
	if t.heardOf(word) {
		return fmt.Errorf("%q got through", word)
	}
	return nil
}
