package svcconf_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/svcconf"
)

var client, host = netip.MustParseAddr("192.168.40.100"), netip.MustParseAddr("203.0.113.9")

func TestNamesAreReadBack(t *testing.T) {
	var want []svcconf.Named
	b := svcconf.NamesHeader(make([]byte, 100), 7)
	for i := range 10_000 {
		n := svcconf.Named{Client: client, Addr: host, Name: fmt.Sprintf("host-%d._tcp.example", i)}
		var ok bool
		if b, ok = svcconf.AppendNamed(b, n); !ok {
			break
		}
		want = append(want, n)
	}
	if len(b) > svcconf.MaxNames || len(want) < 200 {
		t.Fatalf("%d names in %d bytes", len(want), len(b))
	}
	var got []svcconf.Named
	lost, ok := svcconf.ReadNames(b, func(n svcconf.Named) { got = append(got, n) })
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || lost != 7 || !ok {
		t.Errorf("lost %d, ok %v, (-want +got)\n%s", lost, ok, diff)
	}
}

func TestNamesThatAreNoneAreLeftOut(t *testing.T) {
	for _, name := range []string{"", "a b", "A.example", "x\n.example", "<script>", strings.Repeat("a", 254), "\x00"} {
		b := svcconf.NamesHeader(nil, 0)
		if b, ok := svcconf.AppendNamed(b, svcconf.Named{Client: client, Addr: host, Name: name}); len(b) != 4 || !ok {
			t.Errorf("%q is sent", name)
		}
	}
}

func FuzzReadNames(f *testing.F) {
	b, _ := svcconf.AppendNamed(svcconf.NamesHeader(nil, 1), svcconf.Named{Client: client, Addr: host, Name: "films.example"})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		svcconf.ReadNames(b, func(n svcconf.Named) {
			if !n.Client.Is4() || !n.Addr.Is4() || n.Name == "" || strings.ContainsAny(n.Name, " \n\"<>\\") {
				t.Errorf("got %+v", n)
			}
		})
	})
}
