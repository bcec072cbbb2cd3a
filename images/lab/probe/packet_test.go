package probe_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"bulkhead/images/lab/probe"
)

var v4 = probe.Packet{
	Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.7"),
	SrcPort: 40000, DstPort: 443, Token: 0xfeed,
}

// TestPacketsAreWhatTheySay decodes each kind with somebody else's parser, which
// also verifies the checksums: a gateway drops what has a wrong one, and a probe
// dropped for that reason would look like a closed door.
func TestPacketsAreWhatTheySay(t *testing.T) {
	for _, proto := range []uint8{probe.TCP, probe.UDP, probe.ICMP, probe.SCTP, probe.GRE} {
		p := v4
		p.Proto, p.Flags, p.Type = proto, probe.SYN, probe.EchoRequest
		pkt := gopacket.NewPacket(p.Bytes(), layers.LayerTypeIPv4, gopacket.Default)
		ip := pkt.NetworkLayer().(*layers.IPv4)
		if got := uint8(ip.Protocol); got != proto {
			t.Errorf("protocol %d came out as %d", proto, got)
		}
		if proto == probe.GRE {
			continue // its checksum is optional and absent
		}
		verifyChecksums(t, pkt)
		want := probe.Seen{Token: p.Token, Src: p.Src, Dst: p.Dst, Proto: proto}
		if proto == probe.ICMP {
			want.Type = probe.EchoRequest
		}
		got, _ := probe.Parse(p.Bytes())
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("protocol %d (-want +got):\n%s", proto, diff)
		}
	}
}

func TestIPv6PacketsHaveRightChecksums(t *testing.T) {
	for _, proto := range []uint8{probe.TCP, probe.UDP, probe.ICMPv6} {
		p := probe.Packet{
			Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("2001:db8::2"),
			Proto: proto, SrcPort: 1, DstPort: 2, Type: probe.EchoRequestV6, Token: 1,
		}
		pkt := gopacket.NewPacket(p.Bytes(), layers.LayerTypeIPv6, gopacket.Default)
		verifyChecksums(t, pkt)
		if s, ok := probe.Parse(p.Bytes()); !ok || s.Proto != proto {
			t.Errorf("protocol %d was read as %+v, %v", proto, s, ok)
		}
	}
}

func verifyChecksums(t *testing.T, pkt gopacket.Packet) {
	t.Helper()
	for _, l := range pkt.Layers() {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(pkt.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err, mismatches := pkt.VerifyChecksums(); err != nil || len(mismatches) > 0 {
		t.Errorf("%v: checksums: %v %v", pkt, err, mismatches)
	}
}

func TestFragmentsMakeUpThePacket(t *testing.T) {
	p := v4
	p.Proto, p.Pad = probe.UDP, 100
	whole := p.Bytes()
	var body []byte
	for i, f := range probe.Fragments(whole, 30) {
		ip := gopacket.NewPacket(f, layers.LayerTypeIPv4, gopacket.Default).NetworkLayer().(*layers.IPv4)
		if int(ip.FragOffset)*8 != len(body) {
			t.Errorf("fragment %d has offset %d, want %d", i, ip.FragOffset*8, len(body))
		}
		if more := ip.Flags&layers.IPv4MoreFragments != 0; more != (i == 0) {
			t.Errorf("fragment %d says more fragments: %v", i, more)
		}
		body = append(body, f[20:]...)
	}
	if diff := cmp.Diff(whole[20:], body); diff != "" {
		t.Errorf("the fragments make up something else (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, proto := range []uint8{probe.TCP, probe.ICMP, probe.SCTP} {
		p := v4
		p.Proto = proto
		f.Add(p.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := probe.Parse(b); ok && !s.Src.IsValid() {
			t.Errorf("a packet was recognised without addresses: %x", b)
		}
	})
}
