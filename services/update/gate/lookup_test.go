//go:build linux

package gate_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/update/api"
	"bulkhead/services/update/gate"
)

func TestLookupAsksAsAZoneWould(t *testing.T) {
	h := newHouse(t)
	h.probe("dnsd", func(zone string, msg []byte) []byte {
		q := new(dns.Msg)
		if err := q.Unpack(msg); err != nil || zone != "iot" || !q.RecursionDesired {
			return nil
		}
		reply := new(dns.Msg).SetReply(q)
		switch q.Question[0] {
		case dns.Question{Name: "nas.home.arpa.", Qtype: dns.TypeA, Qclass: dns.ClassINET}:
			rr, err := dns.NewRR("nas.home.arpa. 60 IN A 192.168.30.5")
			if err != nil {
				return nil
			}
			reply.Answer = append(reply.Answer, rr)
		case dns.Question{Name: "5.30.168.192.in-addr.arpa.", Qtype: dns.TypePTR, Qclass: dns.ClassINET}:
			rr, err := dns.NewRR("5.30.168.192.in-addr.arpa. 60 IN PTR nas.home.arpa.")
			if err != nil {
				return nil
			}
			reply.Answer = append(reply.Answer, rr)
		default:
			reply.Rcode = dns.RcodeNameError
		}
		data, err := reply.Pack()
		if err != nil {
			return nil
		}
		return data
	})
	socket := filepath.Join(h.dirs.RunDir("dnsd"), svcconf.ProbeSocket)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	a := gate.NewAsker(h.dirs)
	for _, c := range []struct {
		name, kind string
		want       *api.Lookup
	}{
		{"nas.home.arpa", "A", &api.Lookup{Question: "nas.home.arpa. A", Code: "NOERROR", Answers: []api.LookupAnswer{{Name: "nas.home.arpa.", Type: "A", TTL: 60, Data: "192.168.30.5"}}}},
		{"192.168.30.5", "A", &api.Lookup{Question: "5.30.168.192.in-addr.arpa. PTR", Code: "NOERROR", Answers: []api.LookupAnswer{{Name: "5.30.168.192.in-addr.arpa.", Type: "PTR", TTL: 60, Data: "nas.home.arpa."}}}},
		{"ads.example", "AAAA", &api.Lookup{Question: "ads.example. AAAA", Code: "NXDOMAIN", Answers: []api.LookupAnswer{}}},
	} {
		got, err := a.Lookup(t.Context(), "iot", c.name, c.kind)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s %s: %v (-want +got):\n%s", c.name, c.kind, err, diff)
		}
	}
	for _, c := range [][2]string{{"", "A"}, {"nas..home", "A"}, {"nas.home.arpa", "AXFR"}, {"nas.home.arpa", ""}} {
		if _, err := a.Lookup(t.Context(), "iot", c[0], c[1]); !errors.Is(err, gate.ErrQuestion) {
			t.Errorf("%q %q: got %v", c[0], c[1], err)
		}
	}
	if _, err := a.Address(t.Context(), "nas"); !errors.Is(err, gate.ErrQuestion) {
		t.Errorf("an address, without a configuration: got %v", err)
	}
	if err := os.WriteFile(h.dirs.Config("updated"), []byte(`{"dns":[{"zone":"iot","name":"gw.home.arpa"},{"zone":"guest","name":"gw.home.arpa"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nas", "nas.home.arpa"} {
		if got, err := a.Address(t.Context(), name); err != nil || got.String() != "192.168.30.5" {
			t.Errorf("the address of %s: got %v, %v", name, got, err)
		}
	}
	if got, err := a.Address(t.Context(), "tv"); !errors.Is(err, gate.ErrQuestion) {
		t.Errorf("the address of a name that is not there: got %v, %v", got, err)
	}
	if _, err := a.Lookup(t.Context(), "guest", "nas.home.arpa", "A"); err == nil || errors.Is(err, gate.ErrQuestion) {
		t.Errorf("a zone without DNS: got %v", err)
	}
}
