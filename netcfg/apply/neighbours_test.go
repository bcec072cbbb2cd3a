//go:build linux

package apply_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
)

func TestNeighbours(t *testing.T) {
	k, ns := open(t)
	nstest.Exec(t, ns, "ip", "link", "set", "eth0", "up")
	for _, args := range [][]string{
		{"neigh", "add", "192.0.2.7", "lladdr", "52:54:00:00:00:07", "dev", "eth0", "nud", "stale"},
		{"neigh", "add", "192.0.2.8", "dev", "eth0", "nud", "failed"},
		{"-6", "neigh", "add", "2001:db8::9", "lladdr", "52:54:00:00:00:09", "dev", "eth0"},
	} {
		nstest.Exec(t, ns, "ip", args...)
	}
	got, err := k.Neighbours()
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Addr]model.MAC{netip.MustParseAddr("192.0.2.7"): {0x52, 0x54, 0, 0, 0, 7}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("neighbours (-want +got):\n%s", diff)
	}
}
