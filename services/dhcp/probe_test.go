package dhcp

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/services/dhcp/lease"
)

func TestProbeGetsTheOfferAndTakesNothing(t *testing.T) {
	s, sent, _ := newServer(t)
	for range 10 { // more than the pool holds
		reply, err := dhcpv4.FromBytes(s.probe(t.Context(), "iot", packet(t, 1, discover)))
		if err != nil {
			t.Fatal(err)
		}
		if reply.MessageType() != offer || reply.YourIPAddr.String() != "192.168.40.100" {
			t.Fatalf("got %s", reply.Summary())
		}
	}
	// A real client may have the very address.
	for n, a := range []string{"192.168.40.100", "192.168.40.101", "192.168.40.102"} { // all there are
		s.receive(iot, packet(t, byte(2+n), request, wanted(a), server(box)))
	}
	s.commit()
	if diff := cmp.Diff(kinds{ack, ack, ack}, *sent); diff != "" {
		t.Errorf("real clients were sent (-want +got):\n%s", diff)
	}
	if reply := s.probe(t.Context(), "iot", packet(t, 1, discover)); reply != nil {
		t.Error("a pool that is used up made an offer")
	}
	reply := s.probe(t.Context(), "iot", packet(t, 1, dhcpv4.MessageTypeInform, ciaddr("192.168.40.50")))
	if reply == nil {
		t.Error("and does not inform, either")
	}
	for l := range s.core.zones[iot].table.All() {
		if l.Client.MAC[5] == 1 && l.State != lease.Free {
			t.Errorf("the probe holds %+v", l)
		}
	}
}

func TestProbeIsNotAnsweredWhereNoClientWouldBe(t *testing.T) {
	s, _, _ := newServer(t)
	for what, reply := range map[string][]byte{
		"a zone without its link": s.probe(t.Context(), "guest", packet(t, 1, discover)),
		"no zone":                 s.probe(t.Context(), "cellar", packet(t, 1, discover)),
		"nonsense":                s.probe(t.Context(), "iot", []byte("nonsense")),
		"taking an address":       s.probe(t.Context(), "iot", packet(t, 1, request, wanted("192.168.40.100"), server(box))),
		"giving one back":         s.probe(t.Context(), "iot", packet(t, 1, dhcpv4.MessageTypeRelease, ciaddr("192.168.40.100"))),
	} {
		if reply != nil {
			t.Errorf("%s: answered %q", what, reply)
		}
	}
	if len(s.batch.records) != 0 {
		t.Error("a probe reached the journal")
	}
}
