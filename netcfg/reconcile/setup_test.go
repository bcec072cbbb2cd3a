//go:build linux

package reconcile_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/svcconf"
)

// newSetupBox is a box with the flag that lets its owner in.
func newSetupBox(t *testing.T) *box {
	b := newBox(t)
	b.setup = true
	return b
}

// cable puts a cable into a port, or pulls it out, and lets the watcher know.
func (k *fakeKernel) cable(port string, in bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.links {
		if k.links[i].Name == port {
			k.links[i].Carrier = in
		}
	}
	k.changed <- struct{}{}
}

// up lists the links that are up.
func (k *fakeKernel) up() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, l := range k.state.Links {
		if l.Up {
			names = append(names, l.Name)
		}
	}
	return names
}

// want checks what is to be seen of setup from outside.
func (b *box) wantSetup(addresses, reason string) {
	b.t.Helper()
	s := b.status()
	if s.Mode != api.Setup || !strings.Contains(s.Reason, reason) {
		b.t.Errorf("status is %s: %q, want %q in setup", s.Mode, s.Reason, reason)
	}
	if got := b.kernel.addresses(); got != addresses {
		b.t.Errorf("got addresses %q, want %q", got, addresses)
	}
	if b.kernel.forwarding() {
		b.t.Error("the box forwards")
	}
}

// asks is the link that wand asks on.
func (b *box) asks() string {
	b.t.Helper()
	var wan svcconf.WAN
	b.config("wand", &wan)
	return wan.Link
}

func TestSetupWaitsForACableAndMakesItsPortTheManagementZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSetupBox(t)
		b.kernel.links = append(b.kernel.links, facts.Link{Name: "ifb0", MAC: "52:54:00:10:00:09", Kind: "ifb", Carrier: true})
		b.boot()
		defer func() { b.stop() }()
		b.wantSetup("", "no configuration has been applied yet: plug a cable into one of its ports: eth0, eth1, eth2")
		if diff := cmp.Diff([]string{"eth0", "eth1", "eth2"}, b.kernel.up()); diff != "" {
			t.Errorf("links that are up (-want +got):\n%s", diff)
		}

		b.kernel.cable("eth1", true)
		wait(time.Second)
		b.wantSetup("", "looking whether another DHCP server is on port eth1")
		if got := b.asks(); got != "eth1" {
			t.Errorf("wand asks on %q", got)
		}
		wait(8 * time.Second)
		b.wantSetup("eth1 192.168.77.1/24", "on a computer at port eth1, run: bulkhead claim 192.168.77.1")
		if got := b.asks(); got != "" {
			t.Errorf("wand still asks on %q", got)
		}
		var dhcp svcconf.DHCP
		if b.config("dhcpd", &dhcp); len(dhcp.Zones) != 1 || dhcp.Zones[0].Link != "eth1" || time.Duration(dhcp.Zones[0].Lease) != 2*time.Minute {
			t.Errorf("dhcpd serves %+v", dhcp.Zones)
		}
		var dns svcconf.DNS
		if b.config("dnsd", &dns); len(dns.Zones) != 1 || dns.Zones[0].Link != "eth1" || dns.Name != "bulkhead" {
			t.Errorf("dnsd serves %+v", dns)
		}
		var web svcconf.Web
		if b.config("webuid", &web); !slices.Equal(web.Listen, []netip.Addr{netip.MustParseAddr("192.168.77.1")}) {
			t.Errorf("webuid listens on %v", web.Listen)
		}
		for _, tt := range []struct {
			from, to, protocol string
			want               bool
		}{
			{"management", "box", "https", true}, {"management", "box", "dns", true}, {"management", "box", "tcp/22", false},
			{"management", "box", "ping", false}, {"management", "internet", "https", false}, {"internet", "box", "https", false},
		} {
			why, err := b.r.Why(t.Context(), tt.from, tt.to, tt.protocol)
			if err != nil {
				t.Fatal(err)
			}
			if why.Allowed() != tt.want {
				t.Errorf("%s to %s %s: allowed %t", tt.from, tt.to, tt.protocol, why.Allowed())
			}
		}
		if s := b.status(); len(s.Troubles) > 0 || len(s.Missing) > 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSetupStaysAtItsPortAsLongAsTheCable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSetupBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.kernel.cable("eth1", true)
		wait(10 * time.Second)
		b.kernel.cable("eth0", true) // another one comes
		wait(10 * time.Second)
		b.wantSetup("eth1 192.168.77.1/24", "port eth1")
		b.kernel.cable("eth1", false)
		wait(10 * time.Second)
		b.wantSetup("eth0 192.168.77.1/24", "port eth0")
		b.kernel.cable("eth0", false) // nothing is better
		wait(10 * time.Second)
		b.wantSetup("eth0 192.168.77.1/24", "port eth0")
		b.kernel.cable("eth0", true) // perhaps another cable: ask again
		wait(time.Second)
		b.wantSetup("", "looking")
		wait(10 * time.Second)
		b.wantSetup("eth0 192.168.77.1/24", "port eth0")
		b.stop() // and again after a start of the process
		b.boot()
		wait(10 * time.Second)
		b.wantSetup("eth0 192.168.77.1/24", "port eth0")
	})
}

func TestSetupIsNoSecondDHCPServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSetupBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.kernel.cable("eth0", true)
		wait(time.Second)
		b.writeLease(facts.Lease{
			Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
			Server: netip.MustParseAddr("198.51.100.1"), Obtained: begin, Expires: begin.Add(time.Hour),
		})
		b.wantSetup("eth0 192.168.77.1/24", "port eth0 leads to a network with a DHCP server of its own (198.51.100.1); use another port")
		var dhcp svcconf.DHCP
		if b.config("dhcpd", &dhcp); len(dhcp.Zones) != 0 {
			t.Errorf("dhcpd serves %+v", dhcp.Zones)
		}
		if got := b.asks(); got != "" {
			t.Errorf("wand still asks on %q", got)
		}
		b.kernel.cable("eth2", true) // better
		wait(10 * time.Second)
		b.wantSetup("eth2 192.168.77.1/24", "on a computer at port eth2")
		if b.config("dhcpd", &dhcp); len(dhcp.Zones) != 1 || dhcp.Zones[0].Link != "eth2" {
			t.Errorf("dhcpd serves %+v", dhcp.Zones)
		}
	})
}

func TestSetupEndsWithTheFirstConfigurationThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSetupBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.kernel.cable("eth0", true)
		wait(10 * time.Second)
		const zone = "eth0 192.168.77.1/24"
		b.wantSetup(zone, "port eth0")

		b.kernel.refuse(func(s plan.Step) error {
			if strings.Contains(s.Sentence, "192.168.40.1") {
				return errors.New("no such device")
			}
			return nil
		})
		if _, err := b.apply(home); err == nil {
			t.Fatal("nothing failed")
		}
		b.kernel.refuse(nil)
		b.wantSetup(zone, "port eth0")
		if _, err := b.apply("zones: ["); err == nil {
			t.Fatal("a broken file was taken")
		}
		b.wantSetup(zone, "port eth0")

		b.mustApply(home)
		if s := b.status(); s.Mode != api.Running || !b.kernel.forwarding() {
			t.Errorf("status is %s: %q", s.Mode, s.Reason)
		}
		const zones = "eth1 192.168.10.1/24, eth2 192.168.40.1/24"
		if got := b.kernel.addresses(); got != zones {
			t.Errorf("got addresses %q, want %q", got, zones)
		}
		b.kernel.cable("eth0", false)
		wait(10 * time.Second)
		if got := b.kernel.addresses(); got != zones {
			t.Errorf("got addresses %q, want %q", got, zones)
		}
		b.stop()
		b.kernel = newKernel()
		b.boot()
		if s := b.status(); s.Mode != api.Running {
			t.Errorf("after a boot: %s", s.Mode)
		}
	})
}

func TestABoxThatHadAConfigurationIsNeverInSetup(t *testing.T) {
	noHistory := func(b *box) error { return os.RemoveAll(filepath.Join(b.state, "history")) }
	for name, damage := range map[string]func(b *box) error{
		"confirmed file garbage": func(b *box) error {
			return errors.Join(noHistory(b), os.WriteFile(filepath.Join(b.state, "confirmed.yaml"), []byte("zones: ["), 0o600))
		},
		"confirmed file not readable": func(b *box) error {
			path := filepath.Join(b.state, "confirmed.yaml")
			return errors.Join(noHistory(b), os.Remove(path), os.Mkdir(path, 0o700))
		},
		"only the way in left": func(b *box) error {
			return errors.Join(noHistory(b), os.Remove(filepath.Join(b.state, "confirmed.yaml")))
		},
		"history that cannot be read": func(b *box) error {
			history := filepath.Join(b.state, "history")
			return errors.Join(os.Remove(filepath.Join(b.state, "confirmed.yaml")), os.Remove(filepath.Join(b.state, "rescue.json")),
				os.RemoveAll(history), os.WriteFile(history, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSetupBox(t)
				b.boot()
				b.mustApply(home)
				b.stop()
				if err := damage(b); err != nil {
					t.Fatal(err)
				}
				b.kernel = newKernel()
				b.boot()
				defer func() { b.stop() }()
				b.kernel.cable("eth0", true)
				wait(time.Minute)
				if s := b.status(); s.Mode != api.Closed {
					t.Errorf("status is %s: %q", s.Mode, s.Reason)
				}
				if strings.Contains(b.kernel.addresses(), "192.168.77.1") {
					t.Errorf("got addresses %q", b.kernel.addresses())
				}
			})
		})
	}
}
