package wan

import (
	"bytes"
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/services/wan/dhcp4"
)

// toUs is a broadcast packet as if sent the other way, from a server to a client.
func toUs(payload []byte) []byte {
	b := broadcastUDP(payload)
	be.PutUint16(b[20:], serverPort) // swapping words leaves the sum as it is
	be.PutUint16(b[22:], clientPort)
	return b
}

func TestPayloadSurvivesFraming(t *testing.T) {
	for _, payload := range [][]byte{nil, []byte("x"), []byte("even"), bytes.Repeat([]byte{0xff}, 1001)} {
		b := toUs(payload)
		got, err := parseUDP(append(b, 0, 0, 0), false) // as Ethernet pads
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("got %x, %v, want %x", got, err, payload)
		}
	}
}

func TestDamagedPacketsAreRefused(t *testing.T) {
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		want   string
	}{
		{"short", func(b []byte) []byte { return b[:19] }, "not IPv4"},
		{"IPv6", func(b []byte) []byte { b[0] = 0x65; return b }, "not IPv4"},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "IPv4 lengths do not fit"},
		{"header too short", func(b []byte) []byte { b[0] = 0x44; return b }, "IPv4 lengths do not fit"},
		{"header too long", func(b []byte) []byte { b[0] = 0x4f; return b }, "IPv4 lengths do not fit"},
		{"TCP", func(b []byte) []byte { b[9] = 6; return b }, "not a whole UDP datagram"},
		{"fragment", func(b []byte) []byte { b[6] = 0x20; return b }, "not a whole UDP datagram"},
		{"last fragment", func(b []byte) []byte { b[7] = 1; return b }, "not a whole UDP datagram"},
		{"header damaged", func(b []byte) []byte { b[12]++; return b }, "IPv4 checksum is wrong"},
		{"other port", func(b []byte) []byte { b[23]++; return b }, "not to the DHCP client"},
		{"UDP too long", func(b []byte) []byte { b[25]++; return b }, "UDP length does not fit"},
		{"UDP too short", func(b []byte) []byte { b[24], b[25] = 0, 7; return b }, "UDP length does not fit"},
		{"payload damaged", func(b []byte) []byte { b[28]++; return b }, "UDP checksum is wrong"},
	}
	for _, tt := range tests {
		if _, err := parseUDP(tt.damage(toUs([]byte("payload"))), false); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

// A virtual neighbour's kernel leaves the checksum to a card that does not exist,
// and some servers leave it out.
func TestMissingChecksumIsNoDamage(t *testing.T) {
	b := toUs([]byte("payload"))
	b[26]++
	if _, err := parseUDP(b, true); err != nil {
		t.Errorf("not computed yet: %v", err)
	}
	b[26], b[27] = 0, 0
	if _, err := parseUDP(b, false); err != nil {
		t.Errorf("none: %v", err)
	}
}

func TestProbeClaimsNothing(t *testing.T) {
	own, target := model.MAC{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("192.0.2.7")
	got, err := parseARP(arpProbe(own, target))
	want := dhcp4.ARP{Sender: own, SenderIP: netip.IPv4Unspecified(), TargetIP: target}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// FuzzFrame checks that no bytes off the wire make the parsers panic, and that a
// payload lies within its packet.
func FuzzFrame(f *testing.F) {
	f.Add(toUs([]byte("payload")), false)
	f.Add(arpProbe(model.MAC{2}, netip.MustParseAddr("192.0.2.7")), true)
	f.Fuzz(func(t *testing.T, b []byte, trusted bool) {
		if p, err := parseUDP(b, trusted); err == nil && len(p) > len(b)-ipHeader-udpHeader {
			t.Errorf("payload of %d bytes in a packet of %d", len(p), len(b))
		}
		parseARP(b)
	})
}
