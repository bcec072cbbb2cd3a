package dhcp

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestDatagramIsWhatOthersMake compares with what another implementation makes of the
// same fields, checksums included.
func TestDatagramIsWhatOthersMake(t *testing.T) {
	for _, data := range [][]byte{nil, {1}, []byte("odd"), []byte("even"), bytes.Repeat([]byte{0xff}, maxReply)} {
		got := datagram([]byte("kept")[:0], addr("192.168.40.1"), addr("192.168.40.100"), data)

		ip := &layers.IPv4{
			Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP,
			SrcIP: addr("192.168.40.1").AsSlice(), DstIP: addr("192.168.40.100").AsSlice(),
		}
		udp := &layers.UDP{SrcPort: serverPort, DstPort: clientPort}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		if err := gopacket.SerializeLayers(buf, opts, ip, udp, gopacket.Payload(data)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, buf.Bytes()) {
			t.Errorf("%d bytes of data:\n got %x\nwant %x", len(data), got, buf.Bytes())
		}
	}
}

func TestZeroChecksumIsWrittenAsOnes(t *testing.T) {
	// The two bytes of data bring the sum to 0xffff, whose complement is zero.
	src, dst := addr("0.0.0.0"), addr("0.0.0.0")
	rest := 17 + 10 + serverPort + clientPort + 10
	data := []byte{byte((0xffff - rest) >> 8), byte((0xffff - rest) & 0xff)}
	if b := datagram(nil, src, dst, data); b[26] != 0xff || b[27] != 0xff {
		t.Errorf("got checksum %x, want ffff", b[26:28])
	}
}
