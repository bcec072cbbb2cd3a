package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

func TestExportdReachesOnlyTheHostsOfTheFile(t *testing.T) {
	cfg := home()
	nas := cfg.Devices[1]
	env := policy.Env{Now: noon, Devices: map[string]netip.Addr{nas.Name: netip.MustParseAddr("192.168.20.8")}}
	outside := netip.MustParseAddr("203.0.113.9")
	exports := []*model.Export{
		{To: model.Peer{Scheme: "udp", Device: nas, Port: 4739}}, {To: model.Peer{Scheme: "tls", Address: outside, Port: 6514}},
		{To: model.Peer{Scheme: "udp", Device: nas, Port: 4739}}, {To: model.Peer{Scheme: "tcp", Device: &model.Device{Name: "new", Zone: nas.Zone}, Port: 9}},
	}
	alerts := []*model.Alert{{To: model.Peer{Scheme: "https", Address: outside, Port: 443}}}
	for _, tt := range []struct {
		name, rule string // "": refused
		to         string
		proto      uint8
		uid        int
	}{
		{"to a device", "box:export", "192.168.20.8:4739", model.ProtoUDP, svcconf.Exportd.ID},
		{"to an address", "box:export", "203.0.113.9:6514", model.ProtoTCP, svcconf.Exportd.ID},
		{"to tell", "box:alerts", "203.0.113.9:443", model.ProtoTCP, svcconf.Exportd.ID},
		{"by another protocol", "", "192.168.20.8:4739", model.ProtoTCP, svcconf.Exportd.ID},
		{"to another port", "", "192.168.20.8:4740", model.ProtoUDP, svcconf.Exportd.ID},
		{"to another host", "", "192.168.20.9:4739", model.ProtoUDP, svcconf.Exportd.ID},
		{"to another host outside", "", "203.0.113.10:443", model.ProtoTCP, svcconf.Exportd.ID},
		{"to a resolver", "", "203.0.113.9:53", model.ProtoUDP, svcconf.Exportd.ID},
		{"by flowd", "", "192.168.20.8:4739", model.ProtoUDP, svcconf.Flowd.ID},
		{"by nobody in particular", "", "203.0.113.9:443", model.ProtoTCP, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := netip.MustParseAddrPort(tt.to)
			f := policy.Flow{Src: netip.MustParseAddr("127.0.0.1"), Dst: to.Addr(), Proto: tt.proto, Port: to.Port(), From: model.Box, UID: tt.uid}
			cfg := *cfg
			cfg.Exports, cfg.Alerts = exports, alerts
			d := policy.New(&cfg, env).Decide(f)
			if d.Allow != (tt.rule != "") || d.Allow && d.Rule.Name != tt.rule {
				t.Errorf("got %+v", d)
			}
			cfg.Exports, cfg.Alerts = nil, nil
			if d := policy.New(&cfg, env).Decide(f); d.Allow {
				t.Errorf("without a target: got %+v", d)
			}
		})
	}
}
