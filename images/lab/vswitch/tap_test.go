//go:build linux

package vswitch_test

import (
	"bytes"
	"slices"
	"testing"

	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/nstest"
)

// TestTAPIsANetworkInterface asks the kernel behind a TAP for its MAC address and
// has it answer through the trunk.
func TestTAPIsANetworkInterface(t *testing.T) {
	ns := nstest.New(t)
	s := newSwitch(t)
	p, err := s.AddPort("client", vswitch.Access(10))
	if err != nil {
		t.Fatal(err)
	}
	nstest.Run(t, ns, func() {
		l, err := vswitch.OpenTAP("eth0")
		if err != nil {
			t.Fatal(err)
		}
		p.Plug(l)
	})
	nstest.Exec(t, ns, "ip", "link", "set", "eth0", "address", "52:54:00:00:00:02", "up")
	nstest.Exec(t, ns, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	_, trunk := plug(t, s, "trunk", vswitch.Trunk(10))
	// RFC 826: Ethernet, IPv4, lengths of the addresses, request.
	question := slices.Concat(broadcast[:], ann[:], []byte{0x81, 0, 0, 10, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1},
		ann[:], []byte{192, 0, 2, 1}, make([]byte, 6), []byte{192, 0, 2, 2})
	write(t, trunk, question)
	answer := slices.Concat(ann[:], bob[:], []byte{0x81, 0, 0, 10, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2},
		bob[:], []byte{192, 0, 2, 2}, ann[:], []byte{192, 0, 2, 1})
	for {
		got := read(t, trunk)
		if bytes.Equal(got, answer) {
			return
		}
		t.Logf("something else: %x", got) // IPv6 makes itself known
	}
}
