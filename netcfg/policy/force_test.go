package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

func TestForcedZoneAsksTheBoxWhomeverItMeans(t *testing.T) {
	cfg := home()
	iot, mgmt := cfg.Zones[2], cfg.Zones[0]
	iot.DNS.Force = true
	ask := func(z *model.Zone, dst string, proto uint8, port uint16) policy.Flow {
		return policy.Flow{From: z.Name, Src: z.Subnet.Addr().Next().Next(), Dst: netip.MustParseAddr(dst), Proto: proto, Port: port}
	}
	for _, tt := range []struct {
		name string
		flow policy.Flow
		rule string // that decides; "" for none
		to   string
	}{
		{"a server on the internet", ask(iot, "9.9.9.9", model.ProtoUDP, 53), "box:dns", model.Box},
		{"by TCP", ask(iot, "9.9.9.9", model.ProtoTCP, 53), "box:dns", model.Box},
		{"a server in another zone", ask(iot, "192.168.20.8", model.ProtoUDP, 53), "box:dns", model.Box},
		{"the box", ask(iot, "192.168.40.1", model.ProtoUDP, 53), "box:dns", model.Box},
		{"the box's address elsewhere", ask(iot, "192.168.20.1", model.ProtoUDP, 53), "", ""},
		{"everybody", ask(iot, "255.255.255.255", model.ProtoUDP, 53), "", ""},
		{"another port", ask(iot, "9.9.9.9", model.ProtoUDP, 853), "browsing", model.Internet},
		{"another zone's clients", ask(mgmt, "9.9.9.9", model.ProtoUDP, 53), "browsing", model.Internet},
	} {
		d := policy.New(cfg, env(noon)).Decide(tt.flow)
		got := ""
		if d.Rule != nil {
			got = d.Rule.Name
		}
		if got != tt.rule || d.To != tt.to || d.Allow != (tt.rule != "") {
			t.Errorf("%s: got %+v by %q, want %q to %q", tt.name, d, got, tt.rule, tt.to)
		}
	}
}

// Whether a question gets to a server elsewhere is another matter than whether it is
// answered.
func TestForcedQuestionsDoNotGetThere(t *testing.T) {
	cfg := home()
	iot := cfg.Zones[2]
	iot.DNS.Force = true
	p := policy.New(cfg, env(noon))
	from, to := model.Endpoint{Kind: model.KindZone, Zone: iot}, model.Endpoint{Kind: model.KindInternet}
	fates := map[model.Service]policy.Reason{}
	for _, a := range p.Query(from, to, model.AnyService) {
		if a.From.Device == nil {
			fates[a.Service] = a.Decision.Reason
		}
	}
	for s, want := range map[model.Service]policy.Reason{
		model.OnePort(17, 53): policy.Answered, model.OnePort(6, 53): policy.Answered, model.PortRange(17, 54, 65535): policy.ByRule, model.PortRange(6, 0, 52): policy.ByRule,
	} {
		if fates[s] != want {
			t.Errorf("%s: %q, want %q", s, fates[s], want)
		}
	}
}
