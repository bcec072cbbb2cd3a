//go:build linux

package capture

import (
	"testing"
)

// FuzzDecodeConn feeds the decoder of connections with anything.
func FuzzDecodeConn(f *testing.F) {
	tuple := func(src, dst byte) []byte {
		ip := appendAttr(appendAttr(nil, ctaIPv4Src, []byte{10, 0, 0, src}), ctaIPv4Dst, []byte{10, 0, 0, dst})
		proto := appendAttr(appendAttr(appendAttr(nil, ctaProtoNum, []byte{6}), ctaSrcPort, []byte{1, 0}), ctaDstPort, []byte{0, 80})
		return appendAttr(appendAttr(nil, ctaTupleIP, ip), ctaTupleProto, proto)
	}
	whole := append([]byte{2, 0, 0, 0}, appendAttr(appendAttr(nil, ctaTupleOrig, tuple(1, 2)), ctaTupleReply, tuple(2, 1))...)
	whole = append(whole, appendAttr(nil, ctaTimestamp, appendAttr(nil, ctaTimestampStart, []byte{0xff, 0, 0, 0, 0, 0, 0, 0}))...)
	f.Add(whole)
	f.Add([]byte{2, 0, 0, 0, 4, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Conn
		if c.decode(data) == nil && (!c.Orig.Src.Addr().Is4() || !c.Reply.Dst.Addr().Is4()) {
			t.Errorf("%x came out as %+v", data, c)
		}
		_ = each(data, func(uint16, []byte) {})
	})
}

// FuzzDecodePacket feeds the decoder of the log with anything.
func FuzzDecodePacket(f *testing.F) {
	ip := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 0, 0, 53, 0, 8, 0, 0}
	b := append([]byte{2, 0, 0, 1}, appendAttr(appendString(nil, nfulaPrefix, "iot"), nfulaPayload, ip)...)
	f.Add(append(b, appendAttr(nil, nfulaHWAddr, []byte{0, 6, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, ok := decodePacket(data); ok && (p.Party == "" || !p.Src.Is4() || !p.Dst.Is4()) {
			t.Errorf("%x came out as %+v", data, p)
		}
	})
}

func TestConnIsDecodedWithoutAllocating(t *testing.T) {
	tuple := appendAttr(nil, ctaTupleIP, appendAttr(appendAttr(nil, ctaIPv4Src, []byte{10, 0, 0, 1}), ctaIPv4Dst, []byte{10, 0, 0, 2}))
	data := append([]byte{2, 0, 0, 0}, appendAttr(appendAttr(nil, ctaTupleOrig, tuple), ctaTupleReply, tuple)...)
	var c Conn
	if n := testing.AllocsPerRun(100, func() {
		if err := c.decode(data); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
