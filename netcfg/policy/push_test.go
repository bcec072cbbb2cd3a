package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

func TestHistoryGoesToOneHostOnly(t *testing.T) {
	cfg := home()
	nas := cfg.Devices[1]
	env := policy.Env{Now: noon, Devices: map[string]netip.Addr{nas.Name: netip.MustParseAddr("192.168.20.8")}}
	to := func(address string, port uint16, uid int) policy.Flow {
		return policy.Flow{Src: netip.MustParseAddr("127.0.0.1"), Dst: netip.MustParseAddr(address), Proto: model.ProtoTCP, Port: port, From: model.Box, UID: uid}
	}
	tests := []struct {
		name  string
		push  *model.Push
		flow  policy.Flow
		allow bool
	}{
		{"to a device", &model.Push{Device: nas, Port: 22}, to("192.168.20.8", 22, svcconf.Pushd.ID), true},
		{"to an address", &model.Push{Address: netip.MustParseAddr("203.0.113.9"), Port: 2222}, to("203.0.113.9", 2222, svcconf.Pushd.ID), true},
		{"to another port", &model.Push{Device: nas, Port: 22}, to("192.168.20.8", 80, svcconf.Pushd.ID), false},
		{"to another host", &model.Push{Device: nas, Port: 22}, to("192.168.20.9", 22, svcconf.Pushd.ID), false},
		{"by another user", &model.Push{Device: nas, Port: 22}, to("192.168.20.8", 22, svcconf.Dnsd.ID), false},
		{"by nobody in particular", &model.Push{Device: nas, Port: 22}, to("192.168.20.8", 22, 0), false},
		{"to nowhere", nil, to("192.168.20.8", 22, svcconf.Pushd.ID), false},
		{"to a device without an address", &model.Push{Device: &model.Device{Name: "new", Zone: nas.Zone}, Port: 22}, to("192.168.20.8", 22, svcconf.Pushd.ID), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg.System.Push = tt.push
			d := policy.New(cfg, env).Decide(tt.flow)
			if d.Allow != tt.allow || tt.allow && d.Rule.Name != "box:push" {
				t.Errorf("got %+v", d)
			}
		})
	}
}
