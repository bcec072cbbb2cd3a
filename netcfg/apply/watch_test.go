//go:build linux

package apply_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

func TestWatchSeesForeignHands(t *testing.T) {
	k, ns := open(t)
	loadTable(t, k)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := k.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{
		"ip link set eth0 up",
		"ip link set eth0 alias something",
		"ip addr add 192.0.2.1/24 dev eth0",
		"ip route add 10.0.0.0/8 dev eth0 proto 180",
		"ip route replace 10.0.0.0/8 dev eth0",
		"ip route replace 10.0.0.0/8 dev eth0 proto 180",
		"ip route del 10.0.0.0/8 dev eth0",
		"ip addr add 2001:db8::1/64 dev eth0",
		"ip link add eth8 type veth peer name eth9",
		"ip link del eth8",
		"sysctl -w net.ipv4.ip_forward=1",
		"nft add chain inet bulkhead theirs",
		"nft delete table inet bulkhead",
	} {
		settle(changed)
		args := strings.Fields(cmd)
		nstest.Exec(t, ns, args[0], args[1:]...)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not seen", cmd)
		}
	}
	cancel()
	for range changed { // closed once all listeners have gone
	}
}

// TestWatchIsSilent about what is none of ours, and what we do ourselves.
func TestWatchIsSilent(t *testing.T) {
	k, ns := open(t)
	// Of all links this one never says anything by itself.
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up", "alias", "bulkhead:zone iot")
	changed, err := k.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	settle(changed)
	silent := func(what string) {
		t.Helper()
		select {
		case <-changed:
			t.Errorf("%s: seen", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	loadTable(t, k)
	silent("load the rules")
	a, r := addr("lo", "192.0.2.1/24"), route("10.0.0.0/8", "", "lo")
	for _, c := range []plan.Change{
		plan.AddAddr{Addr: a}, plan.AddRoute{Route: r}, plan.DeleteRoute{Route: r}, plan.DeleteAddr{Addr: a},
	} {
		if err := k.Do(step(c)); err != nil {
			t.Fatal(err)
		}
		silent(string(c.Op()))
	}
	for _, cmd := range []string{
		"ip route add 10.0.0.0/8 dev lo",
		"ip route add 10.0.0.0/8 dev lo table 7",
		"nft add table inet theirs",
		"nft add chain inet theirs bulkhead",
		"nft add table ip bulkhead",
	} {
		args := strings.Fields(cmd)
		nstest.Exec(t, ns, args[0], args[1:]...)
		silent(cmd)
	}
}

// TestCulprits are those whom the kernel names.
func TestCulprits(t *testing.T) {
	k, ns := open(t)
	loadTable(t, k)
	changed, err := k.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		cmd  string
		what plan.Finding
		want string
	}{
		{"nft add chain inet bulkhead theirs", plan.Finding{Kind: plan.KindRuleset}, "nft (process "},
		{"ip addr add 192.0.2.1/24 dev eth0", plan.Finding{Kind: plan.KindAddr, Name: "192.0.2.1/24"}, "netlink port "},
		{"ip link set eth0 up", plan.Finding{Kind: plan.KindLink, Name: "eth0"}, ""},
		{"ip route add 10.0.0.0/8 dev eth0 proto 180", plan.Finding{Kind: plan.KindRoute, Name: "10.0.0.0/8"}, "netlink port "},
		{"sysctl -w net.ipv4.ip_forward=1", plan.Finding{Kind: plan.KindSysctl, Name: "net/ipv4/ip_forward"}, ""},
	} {
		settle(changed)
		args := strings.Fields(test.cmd)
		nstest.Exec(t, ns, args[0], args[1:]...)
		<-changed
		settle(changed)
		if got := k.Culprit(test.what); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.cmd, got, test.want)
		}
	}
}

func loadTable(t *testing.T, k *apply.Kernel) {
	t.Helper()
	if err := k.Do(step(plan.LoadRuleset{To: state.Ruleset{Table: table(), Digest: table().Digest()}})); err != nil {
		t.Fatal(err)
	}
}

// settle waits until nothing has changed for a while: one command causes several
// notifications, and links talk for some time after they have come up.
func settle(changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// TestWatchNeverBlocks makes more changes than any queue holds while nobody listens.
func TestWatchNeverBlocks(t *testing.T) {
	k, ns := open(t)
	changed, err := k.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var batch strings.Builder
	for range 20000 {
		batch.WriteString("route add 10.0.0.0/8 dev lo proto 180\nroute del 10.0.0.0/8 dev lo\n")
	}
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	nstest.ExecInput(t, ns, batch.String(), "ip", "-batch", "-")
	settle(changed)
	nstest.Exec(t, ns, "ip", "link", "set", "eth0", "up")
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Error("a change after an overrun is not seen")
	}
}
