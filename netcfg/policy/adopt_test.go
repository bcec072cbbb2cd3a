package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// TestAdopt asks tests of one configuration of another: after the house was rebuilt, a
// test is about whoever goes by the same names.
func TestAdopt(t *testing.T) {
	old, cfg := home(), home()
	// The new house: iot has other addresses, and there is no server zone any more.
	cfg.Zone("iot").Subnet, cfg.Zone("iot").Gateway = netip.MustParsePrefix("192.168.41.0/24"), netip.MustParseAddr("192.168.41.1")
	cfg.Device("tv").Address = netip.MustParseAddr("192.168.41.9")
	cfg.Zones, cfg.Devices, cfg.Forwards, cfg.Allow = []*model.Zone{cfg.Zones[0], cfg.Zones[2]}, cfg.Devices[:1], nil, cfg.Allow[:1]
	p := policy.New(cfg, env(noon))

	zone := func(name string) model.Endpoint {
		return model.Endpoint{Kind: model.KindZone, Zone: old.Zone(name)}
	}
	device := func(name string) model.Endpoint {
		d := old.Device(name)
		return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}
	}
	part := func(prefix, zone string) model.Endpoint {
		return model.Endpoint{Kind: model.KindPrefix, Zone: old.Zone(zone), Prefix: netip.MustParsePrefix(prefix)}
	}
	internet := model.Endpoint{Kind: model.KindInternet}
	for _, tt := range []struct {
		name     string
		from, to model.Endpoint
		adopted  bool
		allowed  bool // all of it
	}{
		{"a zone that stays", zone("management"), internet, true, true},
		{"a zone that moved", zone("iot"), internet, true, false}, // the TV is in it
		{"a device that moved", device("tv"), internet, true, false},
		{"a zone that is gone", zone("servers"), internet, false, false},
		{"a device that is gone", device("tv"), device("nas"), false, false},
		{"addresses of a zone that stays", part("192.168.10.64/26", "management"), internet, true, true},
		{"addresses of a zone that moved", part("192.168.40.64/26", "iot"), internet, false, false},
		{"addresses out on the internet", zone("management"), part("9.9.9.0/24", ""), true, true},
	} {
		stated := &model.Test{From: []model.Endpoint{tt.from}, To: []model.Endpoint{tt.to}, Services: []model.Service{model.AnyService}, Allow: true}
		adopted, ok := p.Adopt(stated)
		if ok != tt.adopted {
			t.Errorf("%s: adopted %t, want %t", tt.name, ok, tt.adopted)
		}
		if !ok {
			continue
		}
		if _, refuted := p.Refute(adopted); refuted == tt.allowed {
			t.Errorf("%s: refuted %t, want %t", tt.name, refuted, !tt.allowed)
		}
	}
}
