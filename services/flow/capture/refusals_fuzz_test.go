//go:build linux

package capture

import (
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// FuzzDecodeElements feeds the decoder of elements with anything, for all kinds of sets.
// What it takes must name a party and packets.
func FuzzDecodeElements(f *testing.F) {
	count := appendAttr(appendAttr(nil, unix.NFTA_COUNTER_BYTES, []byte{0, 0, 0, 0, 0, 0, 0, 80}), unix.NFTA_COUNTER_PACKETS, []byte{0, 0, 0, 0, 0, 0, 0, 2})
	counter := appendAttr(appendString(nil, unix.NFTA_EXPR_NAME, "counter"), unix.NFTA_EXPR_DATA, count)
	for _, n := range []int{16, 20} {
		key := make([]byte, n)
		one := appendAttr(nil, unix.NFTA_SET_ELEM_KEY, appendAttr(nil, unix.NFTA_DATA_VALUE, key))
		one = appendAttr(one, unix.NFTA_SET_ELEM_EXPR, counter)
		f.Add(appendAttr(nil, unix.NFTA_SET_ELEM_LIST_ELEMENTS, appendAttr(nil, unix.NFTA_LIST_ELEM, one)))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for e := range elements(data) {
			for _, set := range []refusedSet{{party: "a", ported: true}, {party: "a", icmp: true}, {party: "a"}} {
				if r, ok := set.decode(e); ok && (r.Party != "a" || !r.Src.Is4() || !r.Dst.Is4() || r.Packets == 0) {
					t.Errorf("%x came out as %+v", data, r)
				}
			}
		}
	})
}

// FuzzDecodeNames feeds the decoders of sets and counters with anything.
func FuzzDecodeNames(f *testing.F) {
	for _, name := range []string{"refused.iot", "refused.iot.icmp", "refused.iot.other", "refused.", "refused..", "iot"} {
		f.Add(appendString(appendString(nil, unix.NFTA_SET_TABLE, tableName), unix.NFTA_SET_NAME, name))
	}
	f.Add([]byte{3, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, ok := decodeSet(data); ok && (s.name == "" || s.ported && s.icmp) {
			t.Errorf("%x came out as %+v", data, s)
		}
		if name, _, ok := decodeCounter(data); ok && name == "" {
			t.Errorf("%x came out as a counter without a name", data)
		}
		payload(netlink.Message{Data: data})
	})
}
