//go:build linux

package lab

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within calls f until it is true or too long has passed.
func within(t *testing.T, f func() bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !f() {
		if pause(ctx) != nil {
			return false
		}
	}
	return true
}

// TestProofsSeeWhatIsWrong holds the instruments of
// [TestChangesProveThemselvesOrAreUndone] against a gateway with which something is
// wrong, while netcfgd is kept from mending it.
func TestProofsSeeWhatIsWrong(t *testing.T) {
	p := startProofs(t, "../../configs/zero-trust.yaml", 1, make(map[string]int))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.check(ctx, "at the start")
	want, err := p.compile(ctx, p.file)
	if err != nil {
		t.Fatal(err)
	}
	netcfgd := p.Daemons["netcfgd"].PID()
	if err := syscall.Kill(netcfgd, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	gw := func(command string) string {
		t.Helper()
		out, err := p.Gateway.Output("sh", "-ec", command)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	differs := func() string {
		t.Helper()
		diff, err := p.kernelDiffers(want.State)
		if err != nil {
			t.Fatal(err)
		}
		return diff
	}
	link := p.Link("iot")
	for _, tt := range []struct {
		what, spoil, mend string
		noticed           func() bool // by who watches packets
	}{
		{what: "an address is left", spoil: "ip addr add 10.60.4.1/24 dev " + link, mend: "ip addr del 10.60.4.1/24 dev " + link},
		{what: "an address is gone", spoil: "ip addr del 192.168.40.1/24 dev " + link, mend: "ip addr add 192.168.40.1/24 brd + dev " + link},
		{what: "a route is left", spoil: "ip route add 10.60.8.0/24 dev " + link, mend: "ip route del 10.60.8.0/24"},
		{what: "the uplink has no route", spoil: "ip route del default proto 180", mend: "ip route add default via 203.0.113.1 dev wan proto 180"},
		{what: "a link is left up", spoil: "ip link set dev trunk.201 up", mend: "ip link set dev trunk.201 down"},
		{what: "a link has another name", spoil: "ip link set dev " + link + " alias 'bulkhead:zone gadgets'", mend: "ip link set dev " + link + " alias 'bulkhead:zone iot'"},
		{what: "forwarding is off", spoil: "echo 0 >/proc/sys/net/ipv4/ip_forward", mend: "cd /proc/sys/net/ipv4 && echo 1 >ip_forward && echo 0 >conf/all/accept_redirects"},
		{what: "a door is open between zones", spoil: "nft insert rule inet bulkhead forward accept",
			noticed: func() bool { return len(p.sentinel.seen()) > 0 }},
		{what: "a door to the box is open", spoil: "nft insert rule inet bulkhead input accept",
			noticed: func() bool { return len(p.sentinel.seen()) > 0 }},
		{what: "the box may send anything", spoil: "nft insert rule inet bulkhead output accept",
			noticed: func() bool { return len(p.sentinel.seen()) > 0 }},
		{what: "the way in is closed", spoil: "nft insert rule inet bulkhead input tcp dport 443 drop",
			noticed: func() bool { return len(p.path.failures()) > 0 }},
	} {
		out := gw(strings.Replace(tt.spoil, "nft insert", "nft -a -e insert", 1))
		if tt.noticed != nil && !within(t, tt.noticed) {
			t.Errorf("%s: no packet told", tt.what)
		}
		if differs() == "" {
			t.Errorf("%s: the kernel is found to be as it should", tt.what)
		}
		if mend := tt.mend; mend != "" {
			gw(mend)
		} else {
			_, handle, _ := strings.Cut(out, "# handle ")
			chain := strings.Fields(tt.spoil)[5]
			gw("nft delete rule inet bulkhead " + chain + " handle " + handle)
		}
		if diff := differs(); diff != "" {
			t.Errorf("once it is mended that %s (-want +got):\n%s", tt.what, diff)
		}
	}
	// What came through before the mending, and was not seen until after it, or belongs to
	// a connection that began then.
	if err := ForgetConnections(p.Gateway); err != nil {
		t.Fatal(err)
	}
	p.sentinel.between(p.side, p.side)
	p.sentinel.seen()
	p.path.hold(p.doors)
	p.path.failures()

	other := *want
	other.DHCP.Zones = other.DHCP.Zones[1:]
	if diff, err := p.servicesDiffer(&other); err != nil || !strings.Contains(diff, "dhcpd is told otherwise") || !strings.Contains(diff, "dhcpd serves ") {
		t.Errorf("with another configuration for dhcpd: %v, %q", err, diff)
	}
	if err := syscall.Kill(netcfgd, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if diff, err := p.recordsDiffer(ctx, append(p.file, '\n')); err != nil || diff == "" {
		t.Errorf("with another file confirmed: %v, %q", err, diff)
	}
	p.check(ctx, "in the end")
}
