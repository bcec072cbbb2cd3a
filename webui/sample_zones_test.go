//go:build linux

package webui_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// sampleRules is what the example in configs compiles to.
var sampleRules = sync.OnceValue(func() *compile.Result {
	data, err := os.ReadFile("../configs/zero-trust.yaml")
	if err != nil {
		panic(err)
	}
	return compiled(data)
})

func compiled(data []byte) *compile.Result {
	cfg, problems := conf.Parse("bulkhead.yaml", data, sampleNow)
	if cfg == nil {
		panic(problems.Err())
	}
	f := compile.Offline(cfg, sampleNow)
	f.Uplink = &facts.Lease{
		Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
		Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.53")}, Expires: sampleNow.Add(time.Hour),
	}
	return compile.Compile(cfg, f)
}

func (sample) Matrix(context.Context) (*api.Matrix, error) {
	return api.MatrixOf(sampleRules().Policy), nil
}

func (sample) CellRules(_ context.Context, from, to string) (*api.CellRules, error) {
	c, ok := api.CellOf(sampleRules().Policy, from, to)
	if !ok {
		return nil, api.Unknown(fmt.Errorf("%q and %q are not both zones, internet or box", from, to))
	}
	return c, nil
}

func (sample) Compiled(_ context.Context, from, to string) (*api.Compiled, error) {
	return &api.Compiled{From: from, To: to, Text: compile.PairText(sampleRules().State.Ruleset.Table, from, to)}, nil
}

func (sample) Why(_ context.Context, from, to, protocol string) (*api.Why, error) {
	p := sampleRules().Policy
	end := func(name string) (model.Endpoint, error) {
		if z := p.Config.Zone(name); z != nil {
			return model.Endpoint{Kind: model.KindZone, Zone: z}, nil
		}
		if d := p.Config.Device(name); d != nil {
			return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}, nil
		}
		return model.Endpoint{}, api.Unknown(fmt.Errorf("nothing is called %q", name))
	}
	a, err := end(from)
	if err != nil {
		return nil, err
	}
	b, err := end(to)
	if err != nil {
		return nil, err
	}
	return &api.Why{From: from, To: to, Protocol: protocol, Verdicts: api.Explain(p, []model.Endpoint{a}, []model.Endpoint{b}, []model.Service{model.OnePort(model.ProtoTCP, 445)})}, nil
}

func sampleTalks() flows.Talks {
	talk := func(from, to, app, rule, reason string, n uint64, v record.Verdict) record.TalkSum {
		s := record.TalkSum{Talk: record.Talk{From: record.Party{Zone: from}, To: record.Party{Zone: to}, App: app, Rule: rule, Reason: reason, Verdict: v}}
		if v == record.Refused {
			s.Sum.Refused = n
		} else {
			s.Sum.Connections, s.Sum.Out.Bytes, s.Sum.In.Bytes = n, 1000*n, 250_000*n
		}
		return s
	}
	return flows.Talks{Talks: []record.TalkSum{
		talk("iot", "storage", "smb", "", "policy", 14, record.Refused),
		talk("guest", "internet", "https", "browsing", "", 4100, record.Allowed),
		talk("services", "storage", "nfs", "nextcloud-data", "", 88, record.Allowed),
		talk("iot", "internet", "https", "tv-stays-home", "", 120, record.Refused),
	}}
}

func sampleFlows() []record.Record {
	tv := record.Side{Zone: "iot", Device: "tv", MAC: sampleDevices[2].MAC, Addr: netip.MustParseAddr("192.168.40.12"), Port: 50112}
	nas := record.Side{Zone: "storage", Device: "nas", Addr: netip.MustParseAddr("192.168.30.10"), Port: 445}
	list := []record.Record{
		{Start: sampleNow.Add(-2 * time.Minute), End: sampleNow.Add(-time.Minute), Src: tv, Dst: nas, Proto: 6, Verdict: record.Refused, Reason: "policy", App: "smb", Out: record.Count{Packets: 12, Bytes: 720}},
		{
			Start: sampleNow.Add(-time.Hour), End: sampleNow.Add(-59 * time.Minute), Src: tv, Dst: record.Side{Zone: "internet", Addr: netip.MustParseAddr("203.0.113.9"), Port: 443}, Proto: 6,
			Verdict: record.Allowed, Rule: "streaming", App: "https", Name: "<script>.example", Out: record.Count{Packets: 90, Bytes: 9000}, In: record.Count{Packets: 900, Bytes: 1_250_000},
		},
	}
	for i := range list {
		list[i].Began = list[i].Start
	}
	return slices.Clone(list)
}
