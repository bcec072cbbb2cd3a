//go:build linux

package apply_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/nstest"
)

func TestWatchSeesForeignHands(t *testing.T) {
	k, ns := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := k.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{
		"ip link set eth0 up",
		"ip link set eth0 alias something",
		"ip addr add 192.0.2.1/24 dev eth0",
		"ip route add 10.0.0.0/8 dev eth0",
		"ip route del 10.0.0.0/8 dev eth0",
		"ip addr add 2001:db8::1/64 dev eth0",
		"ip link add eth8 type veth peer name eth9",
		"ip link del eth8",
		"nft add table inet theirs",
		"nft delete table inet theirs",
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
		batch.WriteString("route add 10.0.0.0/8 dev lo\nroute del 10.0.0.0/8 dev lo\n")
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
