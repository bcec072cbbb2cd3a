//go:build linux

package webui_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
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
	sources, err1 := conf.Endpoints(p.Config, from)
	targets, err2 := conf.Endpoints(p.Config, to)
	services, err3 := conf.Services(p.Config, protocol)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, api.Unknown(err)
	}
	return &api.Why{From: from, To: to, Protocol: protocol, Verdicts: api.Explain(p, sources, targets, services)}, nil
}

// sampleUses is how often the rules of a pair decided. As flowd does, it has only rules for
// which the measure is not 0.
func sampleUses(q url.Values) []record.Sum {
	list := []record.Sum{}
	switch q.Get("from") + " " + q.Get("to") + " " + q.Get("by") {
	case "services storage connections":
		list = append(list, record.Sum{Key: "nextcloud-data", Connections: 88, Out: record.Count{Bytes: 88_000}, In: record.Count{Bytes: 22_000_000}, Last: sampleNow.Add(-2 * time.Minute)})
	case "iot internet refused":
		list = append(list, record.Sum{Key: "tv-stays-home", Refused: 120, Last: sampleNow.Add(-3 * time.Minute)})
	}
	return list
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
	ping, blocked := list[1], list[0]
	ping.Dst, ping.Proto, ping.Rule, ping.App, ping.Name = nas, 1, "sample", "ping", ""
	ping.Dst.Port = 8
	blocked.Dst, blocked.Rule, blocked.Reason, blocked.App = list[1].Dst, "tv-stays-home", "", "https"
	list = append(list, ping, blocked)
	for i := range list {
		list[i].Began = list[i].Start
	}
	return slices.Clone(list)
}
