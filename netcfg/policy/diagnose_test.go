package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

func TestOnlyDiagdAsksForEchoesAndForNothingElse(t *testing.T) {
	cfg := home()
	for _, tt := range []struct {
		name  string
		to    string
		proto uint8
		port  uint16
		uid   int
		allow bool
	}{
		{"in a zone", "192.168.20.8", model.ProtoICMP, model.EchoRequest, svcconf.Diagd.ID, true},
		{"on the internet", "198.51.100.9", model.ProtoICMP, model.EchoRequest, svcconf.Diagd.ID, true},
		{"everybody in a zone", "192.168.20.255", model.ProtoICMP, model.EchoRequest, svcconf.Diagd.ID, false},
		{"everybody", "255.255.255.255", model.ProtoICMP, model.EchoRequest, svcconf.Diagd.ID, false},
		{"many", "224.0.0.1", model.ProtoICMP, model.EchoRequest, svcconf.Diagd.ID, false},
		{"for the time", "192.168.20.8", model.ProtoICMP, 13, svcconf.Diagd.ID, false},
		{"by UDP", "192.168.20.8", model.ProtoUDP, 33434, svcconf.Diagd.ID, false},
		{"another user", "192.168.20.8", model.ProtoICMP, model.EchoRequest, svcconf.Webuid.ID, false},
		{"nobody in particular", "192.168.20.8", model.ProtoICMP, model.EchoRequest, 0, false},
	} {
		f := policy.Flow{Src: netip.MustParseAddr("127.0.0.1"), Dst: netip.MustParseAddr(tt.to), Proto: tt.proto, Port: tt.port, From: model.Box, UID: tt.uid, To: cfg.Zones[0].Name}
		d := policy.New(cfg, policy.Env{Now: noon}).Decide(f)
		if d.Allow != tt.allow || tt.allow && d.Rule.Name != "box:diagnose" {
			t.Errorf("%s: got %+v", tt.name, d)
		}
	}
}
