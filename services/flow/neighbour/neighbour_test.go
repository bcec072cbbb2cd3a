//go:build linux

package neighbour_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/flow/neighbour"
)

var mac = model.MAC{2, 0, 0, 0, 0, 7}

// message is what the kernel says of a neighbour.
func message(t testing.TB, family byte, state uint16, attrs ...netlink.Attribute) []byte {
	t.Helper()
	head := make([]byte, unix.SizeofNdMsg)
	head[0] = family
	binary.NativeEndian.PutUint32(head[4:], 3)
	binary.NativeEndian.PutUint16(head[8:], state)
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return append(head, b...)
}

func whole(t testing.TB, state uint16) []byte {
	return message(t, unix.AF_INET, state,
		netlink.Attribute{Type: 1, Data: []byte{192, 168, 40, 7}}, netlink.Attribute{Type: 2, Data: mac[:]},
		netlink.Attribute{Type: 3, Data: binary.NativeEndian.AppendUint32(nil, 250)})
}

func TestDecode(t *testing.T) {
	want := neighbour.Neighbour{Index: 3, MAC: mac, Addr: netip.MustParseAddr("192.168.40.7"), Age: 2500 * time.Millisecond}
	if got, ok, err := neighbour.Decode(whole(t, unix.NUD_STALE)); got != want || !ok || err != nil {
		t.Errorf("got %+v, %t, %v", got, ok, err)
	}
	for name, data := range map[string][]byte{
		"failed":     whole(t, unix.NUD_FAILED),
		"incomplete": whole(t, unix.NUD_INCOMPLETE),
		"permanent":  whole(t, unix.NUD_PERMANENT),
		"no MAC": message(t, unix.AF_INET, unix.NUD_REACHABLE,
			netlink.Attribute{Type: 1, Data: []byte{192, 168, 40, 7}}, netlink.Attribute{Type: 3, Data: make([]byte, 16)}),
		"another family": message(t, unix.AF_INET6, unix.NUD_REACHABLE,
			netlink.Attribute{Type: 1, Data: []byte{192, 168, 40, 7}}, netlink.Attribute{Type: 2, Data: mac[:]}, netlink.Attribute{Type: 3, Data: make([]byte, 16)}),
	} {
		if got, ok, err := neighbour.Decode(data); ok || err != nil {
			t.Errorf("%s: got %+v, %t, %v", name, got, ok, err)
		}
	}
	if _, _, err := neighbour.Decode([]byte{unix.AF_INET}); err == nil {
		t.Error("a short message is taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(whole(f, unix.NUD_STALE))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, ok, err := neighbour.Decode(data); ok && (err != nil || !n.Addr.IsValid() || n.MAC.IsZero() || n.Age < 0) {
			t.Errorf("got %+v, %v", n, err)
		}
	})
}

// TestKernelTellsOfNeighbours has two machines speak with each other.
func TestKernelTellsOfNeighbours(t *testing.T) {
	box, client := nstest.New(t), nstest.New(t)
	nstest.Veth(t, box, "port", client, "eth0")
	nstest.Exec(t, box, "ip", "addr", "add", "192.168.40.1/24", "dev", "port")
	nstest.Exec(t, client, "ip", "link", "set", "eth0", "address", mac.String())
	nstest.Exec(t, client, "ip", "addr", "add", "192.168.40.7/24", "dev", "eth0")
	nstest.Exec(t, client, "ping", "-c1", "-W5", "192.168.40.1")
	table, err := neighbour.Open(box)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	list, err := table.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.Addr == netip.MustParseAddr("192.168.40.7") {
			if !bytes.Equal(n.MAC[:], mac[:]) || n.Index == 0 || n.Age > 10*time.Minute {
				t.Errorf("got %+v", n)
			}
			return
		}
	}
	t.Errorf("the client is not in %+v", list)
}
