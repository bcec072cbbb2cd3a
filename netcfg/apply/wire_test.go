//go:build linux

package apply_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/state"
)

// TestVLANMessage holds the request for a VLAN link to the layout of
// include/uapi/linux/if_link.h byte by byte, since the usual test machine cannot make
// one. Attributes are length, type, value; little-endian.
func TestVLANMessage(t *testing.T) {
	got, err := apply.VLANMessage(state.Link{Name: "trunk.40", Kind: state.VLAN, Parent: "eth1", VLAN: 40}, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"00000000 00000000 00000000 00000000", // ifinfomsg
		"0d00 0300 7472756e6b2e343000 000000", // IFLA_IFNAME "trunk.40"
		"0800 0500 07000000",                  // IFLA_LINK 7
		"1c00 1200",                           // IFLA_LINKINFO
		"0900 0100 766c616e00 000000",         //   IFLA_INFO_KIND "vlan"
		"0c00 0280",                           //   IFLA_INFO_DATA, nested
		"0600 0100 2800 0000",                 //     IFLA_VLAN_ID 40
	}, " ")
	if diff := cmp.Diff(strings.ReplaceAll(want, " ", ""), hex.EncodeToString(got)); diff != "" {
		t.Errorf("message differs (-want +got):\n%s", diff)
	}
}

// FuzzDecodeConn feeds the decoder with anything. What it accepts must come out the
// same after another round, since connections are named to the kernel that way.
func FuzzDecodeConn(f *testing.F) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	for _, c := range []apply.Conn{
		{Orig: apply.Tuple{Src: a, Dst: b, Proto: 6, SrcPort: 1, DstPort: 443}, Reply: apply.Tuple{Src: b, Dst: a, Proto: 6, SrcPort: 443, DstPort: 1}, Mark: 7, ID: 9},
		{Orig: apply.Tuple{Src: a, Dst: b, Proto: 1, Type: 8, ICMPID: 5}, Reply: apply.Tuple{Src: b, Dst: a, Proto: 1, ICMPID: 5}, Zone: 3},
	} {
		data, err := apply.EncodeConn(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := apply.DecodeConn(data)
		if err != nil {
			return
		}
		// Fields that a protocol does not have are not sent back.
		for _, tuple := range []*apply.Tuple{&c.Orig, &c.Reply} {
			if tuple.Proto == 1 {
				tuple.SrcPort, tuple.DstPort = 0, 0
			} else {
				tuple.Type, tuple.Code, tuple.ICMPID = 0, 0, 0
			}
		}
		again, err := apply.EncodeConn(c)
		if err != nil {
			t.Fatalf("encode %+v: %v", c, err)
		}
		if got, err := apply.DecodeConn(again); err != nil || got != c {
			t.Errorf("got %+v, %v, want %+v", got, err, c)
		}
	})
}

// FuzzDecodeLink looks for panics only.
func FuzzDecodeLink(f *testing.F) {
	vlan, err := apply.VLANMessage(state.Link{Name: "trunk.40", Kind: state.VLAN, VLAN: 40}, 7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vlan)
	f.Add(apply.LinkRequest("eth0"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) { _ = apply.DecodeLink(data) })
}
