package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

func TestObservedZoneMayDoWhatNoBlockNames(t *testing.T) {
	cfg := home()
	iot := cfg.Zones[2]
	iot.Observed, cfg.Allow = noon.Add(time.Hour), nil
	cfg.Block = []*model.Rule{{
		Name: "stays-home", From: []model.Endpoint{{Kind: model.KindZone, Zone: iot}},
		To: []model.Endpoint{{Kind: model.KindZone, Zone: cfg.Zones[0]}}, Services: []model.Service{model.AnyService},
	}}
	from := iot.Subnet.Addr().Next().Next()
	ask := func(from *model.Zone, src, dst netip.Addr, port uint16) policy.Flow {
		return policy.Flow{From: from.Name, Src: src, Dst: dst, Proto: model.ProtoTCP, Port: port}
	}
	servers := cfg.Zones[1].Subnet.Addr().Next().Next()
	for _, tt := range []struct {
		name string
		now  time.Time
		flow policy.Flow
		rule string // that decides; "" for none
	}{
		{"another zone", noon, ask(iot, from, servers, 9999), "observe:iot"},
		{"the internet", noon, ask(iot, from, netip.MustParseAddr("198.51.100.7"), 9999), "observe:iot"},
		{"once it is over", noon.Add(time.Hour), ask(iot, from, servers, 9999), ""},
		{"what is blocked", noon, ask(iot, from, cfg.Zones[0].Subnet.Addr().Next().Next(), 9999), "stays-home"},
		{"the box", noon, ask(iot, from, iot.Gateway, 22), ""},
		{"the other way", noon, ask(cfg.Zones[1], servers, from, 9999), ""},
	} {
		d := policy.New(cfg, policy.Env{Now: tt.now, Uplink: netip.MustParsePrefix("203.0.113.2/24")}).Decide(tt.flow)
		got := ""
		if d.Rule != nil {
			got = d.Rule.Name
		}
		if got != tt.rule || d.Allow != (tt.rule == "observe:iot") {
			t.Errorf("%s: got %+v by %q, want %q", tt.name, d, got, tt.rule)
		}
	}
}

// An allow that says the same gives its name: what an observation shows is what no
// other rule allows.
func TestObservationGivesItsNameLast(t *testing.T) {
	cfg := home()
	iot := cfg.Zones[2]
	iot.Observed = noon.Add(time.Hour)
	cfg.Allow = []*model.Rule{{
		Name: "all", From: []model.Endpoint{{Kind: model.KindZone, Zone: iot}},
		To: []model.Endpoint{{Kind: model.KindInternet}}, Services: []model.Service{model.AnyService},
	}}
	cfg.Block = nil
	d := policy.New(cfg, policy.Env{Now: noon, Uplink: netip.MustParsePrefix("203.0.113.2/24")}).Decide(policy.Flow{
		From: iot.Name, Src: iot.Subnet.Addr().Next().Next(), Dst: netip.MustParseAddr("198.51.100.7"), Proto: model.ProtoTCP, Port: 443,
	})
	if !d.Allow || d.Rule.Name != "all" {
		t.Errorf("got %+v", d)
	}
}
