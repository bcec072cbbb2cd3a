package dhcp

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

func hostname(name string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptHostName(name))
}

func class(text string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(text))
}

func asksFor(codes ...dhcpv4.OptionCode) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptParameterRequestList(codes...))
}

func TestHeardOfClientsAndOtherServers(t *testing.T) {
	c := newCore(t, testConf())
	c.handle(start, iot, packet(t, 1, discover, hostname("Fridge"), class("udhcp\x1b 1.36"),
		asksFor(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer)), nil)
	obtain(t, c, start.Add(time.Second), 1, "192.168.40.100") // which says nothing more
	c.handle(start.Add(time.Minute), iot, packet(t, 2, request, wanted("192.168.40.7"), server("192.168.40.66")), nil)
	want := svcconf.DHCPHeard{
		Clients: []svcconf.DHCPClient{
			{Zone: "iot", MAC: model.MAC(hw(1)), Address: addr("192.168.40.100"), Hostname: "fridge", Options: "1,3,6", Class: "udhcp? 1.36", Seen: start.Add(time.Second)},
			{Zone: "iot", MAC: model.MAC(hw(2)), Seen: start.Add(time.Minute)},
		},
		Servers: []svcconf.DHCPServer{{Zone: "iot", Server: addr("192.168.40.66"), Client: model.MAC(hw(2)), Seen: start.Add(time.Minute)}},
	}
	// What dhcpv4 asks for by itself is nobody's fingerprint here.
	ignore := cmpopts.IgnoreFields(svcconf.DHCPClient{}, "Options")
	got := c.heard.public(start.Add(time.Minute))
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), ignore); diff != "" {
		t.Errorf("heard differs (-want +got):\n%s", diff)
	}
	if got.Clients[0].Options != "1,3,6" {
		t.Errorf("options are %s", got.Clients[0].Options)
	}
	if got := c.heard.public(start.Add(2 * time.Hour)); len(got.Servers) != 0 {
		t.Errorf("the server is told of for ever: %v", got.Servers)
	}
}

func TestProbesAreNotHeard(t *testing.T) {
	c := newCore(t, testConf())
	if c.probe(start, c.zones[iot], packet(t, 9, discover)) == nil {
		t.Fatal("no answer")
	}
	if n := len(c.heard.clients); n != 0 {
		t.Errorf("%d clients were heard", n)
	}
}

func TestFloodOfClientsIsBounded(t *testing.T) {
	c := newCore(t, testConf())
	p := packet(t, 1, discover)
	for i := range 3 * maxClients {
		p[28+4], p[28+5] = byte(i>>8), byte(i) // of the hardware address
		c.handle(start, iot, p, nil)
	}
	if n := len(c.heard.clients); n != maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	for i := range 200 {
		c.handle(start, iot, packet(t, 1, request, wanted("192.168.40.7"), server(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String())), nil)
	}
	if n := len(c.heard.servers); n != maxServers {
		t.Errorf("%d servers are remembered", n)
	}
}

func TestHeardIsToldToFlowd(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(run, svcconf.HeardDir, "dhcpd")
	s, err := New(slog.New(slog.DiscardHandler), filepath.Join(run, "dhcpd"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.apply(testConf()); err != nil {
		t.Fatal(err)
	}
	s.receive(iot, packet(t, 1, discover, hostname(strings.Repeat("a", 60)), class(strings.Repeat("\xff", 200))))
	s.tellHeard(time.Now()) // nobody is there to read it
	if n := s.count.HeardErrors.Load(); n != 0 {
		t.Errorf("%d errors", n)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.receive(iot, packet(t, 1, discover))
	s.tellHeard(time.Now())
	data, err := os.ReadFile(filepath.Join(dir, svcconf.HeardFile))
	if err != nil {
		t.Fatal(err)
	}
	var got svcconf.DHCPHeard
	if err := json.Unmarshal(data, &got); err != nil || len(got.Clients) != 1 || got.Clients[0].Class != strings.Repeat("?", maxClass) {
		t.Errorf("got %s, %v", data, err)
	}
}
