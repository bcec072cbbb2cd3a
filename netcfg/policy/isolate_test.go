package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

func TestIsolatedMachineHasTheBoxsDHCPAndNothingElse(t *testing.T) {
	addr := netip.MustParseAddr
	tv, stranger := model.MAC{2, 0, 0, 0, 0, 9}, model.MAC{2, 0, 0, 0, 0, 77}
	p := policy.New(home(), policy.Env{
		Now: noon, Uplink: netip.MustParsePrefix("203.0.113.2/24"), Devices: map[string]netip.Addr{"nas": addr("192.168.20.8")},
		Isolated: []policy.Isolation{
			{MAC: tv, Until: noon.Add(time.Second)},
			{Addresses: []netip.Addr{addr("192.168.40.77"), addr("192.168.40.1")}}, // the box itself cannot be meant
			{MAC: model.MAC{2, 0, 0, 0, 0, 8}},                                     // the nas
			{MAC: stranger, Until: noon},                                           // is free by now
		},
	})
	for _, tt := range []struct {
		name string
		flow policy.Flow
		want policy.Reason
	}{
		{"its films", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.20.8"), Proto: 6, Port: 8096}, policy.Isolated},
		{"with another address", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.50"), Dst: addr("203.0.113.9"), Proto: 6, Port: 443}, policy.Isolated},
		{"in another zone", policy.Flow{From: "management", MAC: tv, Src: addr("192.168.10.50"), Dst: addr("203.0.113.9"), Proto: 6, Port: 443}, policy.Isolated},
		{"names, which all are the box's", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.40.1"), Proto: 17, Port: 53}, policy.ByRule},
		{"names of somebody else", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("9.9.9.9"), Proto: 6, Port: 53}, policy.ByRule},
		{"a page", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("203.0.113.9"), Proto: 6, Port: 80}, policy.ByRule},
		{"a page of the uplink's address", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("203.0.113.2"), Proto: 6, Port: 80}, policy.ByRule},
		{"a page of another who is isolated", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.20.8"), Proto: 6, Port: 80}, policy.Isolated},
		{"where it is told, by itself", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.40.1"), Proto: 6, Port: svcconf.NoticeHTTP}, policy.Isolated},
		{"the box's pages", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.40.1"), Proto: 6, Port: 443}, policy.Isolated},
		{"asks for an address", policy.Flow{From: "iot", MAC: tv, Src: addr("0.0.0.0"), Dst: addr("255.255.255.255"), Proto: 17, SrcPort: 68, Port: 67}, policy.ByRule},
		{"renews its lease", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("192.168.40.1"), Proto: 17, SrcPort: 68, Port: 67}, policy.ByRule},
		{"renews it with somebody else", policy.Flow{From: "iot", MAC: tv, Src: addr("192.168.40.9"), Dst: addr("203.0.113.9"), Proto: 17, SrcPort: 68, Port: 67}, policy.Isolated},
		{"is given one", policy.Flow{From: model.Box, UID: svcconf.Dhcpd.ID, Src: addr("127.0.0.1"), Dst: addr("192.168.40.9"), Proto: 17, SrcPort: 67, Port: 68}, policy.ByRule},
		{"is given one by somebody else", policy.Flow{From: model.Box, UID: svcconf.Dnsd.ID, Src: addr("127.0.0.1"), Dst: addr("192.168.40.9"), Proto: 17, SrcPort: 67, Port: 68}, policy.NotAllowed},
		{"is called by the box", policy.Flow{From: model.Box, Src: addr("127.0.0.1"), Dst: addr("192.168.40.9"), Proto: 6, Port: 80}, policy.Isolated},
		{"an address", policy.Flow{From: "iot", MAC: stranger, Src: addr("192.168.40.77"), Dst: addr("203.0.113.9"), Proto: 6, Port: 443}, policy.Isolated},
		{"a neighbour", policy.Flow{From: "iot", MAC: stranger, Src: addr("192.168.40.78"), Dst: addr("203.0.113.9"), Proto: 6, Port: 443}, policy.ByRule},
		{"a neighbour asks the nas", policy.Flow{From: "iot", MAC: stranger, Src: addr("192.168.40.78"), Dst: addr("192.168.20.8"), Proto: 6, Port: 80}, policy.Isolated},
		{"its forward", policy.Flow{From: model.Internet, Src: addr("203.0.113.9"), Dst: addr("203.0.113.2"), Proto: 17, Port: 51820}, policy.Elsewhere},
	} {
		if d := p.Decide(tt.flow); d.Reason != tt.want {
			t.Errorf("%s: got %+v, want reason %s", tt.name, d, tt.want)
		}
	}
	if next, ok := p.Next(); !ok || !next.Equal(noon.Add(time.Second)) {
		t.Errorf("the next end is at %v, want that of the tv's isolation", next)
	}
}

// TestTestsSpeakOfTheConfiguration holds a test that an isolated machine would fail.
func TestTestsSpeakOfTheConfiguration(t *testing.T) {
	cfg := home()
	end := func(name string) model.Endpoint {
		d := cfg.Device(name)
		return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}
	}
	cfg.Tests = []*model.Test{{From: []model.Endpoint{end("tv")}, To: []model.Endpoint{end("nas")}, Services: []model.Service{model.OnePort(6, 8096)}, Allow: true}}
	p := policy.New(cfg, policy.Env{
		Now: noon, Devices: map[string]netip.Addr{"nas": netip.MustParseAddr("192.168.20.8")},
		Isolated: []policy.Isolation{{MAC: model.MAC{2, 0, 0, 0, 0, 9}}},
	})
	if failed := p.Failures(); len(failed) > 0 {
		t.Errorf("tests fail while a machine is isolated: %+v", failed)
	}
	for _, a := range p.Query(end("tv"), end("nas"), model.OnePort(6, 8096)) {
		if a.Decision.Reason != policy.Isolated {
			t.Errorf("why says %+v", a.Decision)
		}
	}
}
