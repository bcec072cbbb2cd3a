//go:build linux

package updates_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	diag "bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
)

// diagnoses has the box ask the workstation for echoes, and takes these off the link: from
// the HTTPS API through updated and authd to diagd and back, on the real system.
func (b *box) diagnoses(t *testing.T) {
	const workstation = "192.168.77.2"
	ctx := t.Context()
	file, err := b.updated.Capture(ctx, diag.Capture{Zone: "management", Filter: "icmp and host " + workstation, Packets: 4, Seconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var head [pcap.HeaderSize]byte
	if _, err := io.ReadFull(file, head[:]); err != nil { // who has that captures already
		t.Fatal(err)
	}
	answered := 0
	err = b.updated.Ping(ctx, diag.Ping{Target: workstation, Count: 2}, func(e diag.Echo) {
		if e.From.String() == workstation && e.Trouble == "" {
			answered++
		}
	})
	if err != nil || answered != 2 {
		t.Errorf("%d of 2 echoes, %v", answered, err)
	}
	var hops []diag.Hop
	err = b.updated.Traceroute(ctx, diag.Traceroute{Target: workstation}, func(h diag.Hop) { hops = append(hops, h) })
	if err != nil || len(hops) != 1 || !hops[0].Reached {
		t.Errorf("the way there is %+v, %v", hops, err)
	}
	rest, err := io.ReadAll(file) // which ends after four packets: both echoes and their answers
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	for len(rest) >= pcap.RecordSize {
		n := int(binary.LittleEndian.Uint32(rest[8:]))
		if len(rest) < pcap.RecordSize+n || !bytes.Equal(rest[pcap.RecordSize+12:][:2], []byte{8, 0}) {
			t.Fatalf("no frame of IPv4: % x", rest)
		}
		rest = rest[pcap.RecordSize+n:]
		frames++
	}
	if frames != 4 || len(rest) > 0 {
		t.Errorf("%d frames, and %d bytes", frames, len(rest))
	}
}
