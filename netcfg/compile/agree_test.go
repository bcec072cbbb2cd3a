package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reach"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// TestRulesetSaysWhatThePolicyMeans holds the compiler against the specification:
// random configurations, random packets, and for each packet the same verdict by
// the same rule or for the same reason. A failure prints the seed that replays it
// alone: BULKHEAD_SEED=7 go test -run RulesetSays ./netcfg/compile.
func TestRulesetSaysWhatThePolicyMeans(t *testing.T) {
	const configs, packets = 300, 400
	first, last := uint64(1), uint64(configs)
	if s, err := strconv.ParseUint(os.Getenv("BULKHEAD_SEED"), 10, 64); err == nil {
		first, last = s, s
	}
	pairs, allowed, byRule, isolated := 0, 0, 0, 0
	for seed := first; seed <= last; seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
		cfg := g.config()
		sends(cfg, &generator{Rand: rand.New(rand.NewPCG(seed, 1))})
		f := g.facts(cfg)
		f.Kernel.Flowtable = seed%2 == 0
		r := compile.Compile(cfg, f)
		w := reach.New(r.State)
		for range packets {
			flow := g.flow(cfg, r.Policy)
			want := r.Policy.Decide(flow)
			if got := r.Policy.From(flow.From, flow.Src).Decide(flow); got != want {
				t.Fatalf("seed %d: %+v: what the policy says of the source alone is %+v, want %+v", seed, flow, got, want)
			}
			pkt := packet(r.State, flow)
			pkt.Mark = pick(g, []uint32{0, 0, 7, policy.BlockBit, 1 << 31})
			got := w.Walk(pkt)
			pairs++
			if want.Allow {
				allowed++
			}
			if want.Rule != nil {
				byRule++
			}
			if want.Reason == policy.Isolated {
				isolated++
			}
			if bad := disagreement(r.Policy, want, got); bad != "" {
				t.Fatalf("seed %d: %+v\npolicy:  %+v %s\nruleset: %+v\n%s\n%s", seed, flow, want, ruleName(want.Rule), got, bad, r.State.Ruleset.Table)
			}
		}
	}
	t.Logf("%d pairs of configuration and packet agree; %d allowed, %d decided by a rule, %d isolated", pairs, allowed, byRule, isolated)
	if first != last && (isolated < pairs/100 || allowed < pairs/20 || byRule < pairs/10) {
		t.Errorf("the random packets hardly ever meet a rule: the test proves too little")
	}
}

// What is led to the box's resolver is meant for one machine. 0.0.0.0 is none, the rest of
// its network is.
func TestForcedQuestionsToTheNetworkZero(t *testing.T) {
	cfg := readExample(t, "../../configs/zero-trust.yaml")
	r := compile.Compile(cfg, compile.Offline(cfg, now))
	for dst, allow := range map[string]bool{"0.0.0.0": false, "0.0.0.1": true, "9.9.9.9": true, "255.255.255.255": false, "224.0.0.1": false, "192.168.40.255": false, "192.168.40.1": true, "192.168.10.1": false} {
		flow := policy.Flow{From: "iot", MAC: stranger, Src: netip.MustParseAddr("192.168.40.150"), Dst: netip.MustParseAddr(dst), Proto: model.ProtoUDP, SrcPort: 40000, Port: 53}
		want, got := r.Policy.Decide(flow), reach.New(r.State).Walk(packet(r.State, flow))
		if want.Allow != allow || got.Accepted != allow {
			t.Errorf("%s: policy %+v, ruleset %+v, want %v", dst, want, got, allow)
		}
	}
}

// A device that a rule blocks asks for an address as ever, and nobody else: what looks like
// such a question is no way to a machine that is isolated.
func TestQuestionOfABlockedDeviceReachesNobodyIsolated(t *testing.T) {
	cfg := readExample(t, "../../configs/zero-trust.yaml")
	f := compile.Offline(cfg, now)
	nas, tv := cfg.Device("nas"), cfg.Device("tv")
	f.Isolated = []facts.Isolation{{Addresses: []netip.Addr{nas.Address}}}
	r := compile.Compile(cfg, f)
	flow := policy.Flow{From: tv.Zone.Name, MAC: tv.MAC, Src: r.Policy.AddressOf(tv), Dst: nas.Address, Proto: model.ProtoUDP, SrcPort: 68, Port: 67}
	want := r.Policy.Decide(flow)
	if want.Reason != policy.Isolated {
		t.Fatalf("policy: %+v", want)
	}
	got := reach.New(r.State).Walk(packet(r.State, flow))
	if bad := disagreement(r.Policy, want, got); bad != "" {
		t.Errorf("ruleset: %+v: %s", got, bad)
	}
}

// Packets of connections that a machine had open when it was isolated pass nowhere: what it
// may ask would begin a connection, which is led to where it is told.
func TestOpenConnectionsOfIsolatedMachines(t *testing.T) {
	cfg := readExample(t, "../../configs/zero-trust.yaml")
	f := compile.Offline(cfg, now)
	zone, addr, outside := cfg.Zone("iot"), netip.MustParseAddr("192.168.40.150"), netip.MustParseAddr("9.9.9.9")
	f.Isolated = []facts.Isolation{{MAC: stranger.String(), Addresses: []netip.Addr{addr}}}
	f.Uplink = &facts.Lease{Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1"), Expires: now.Add(time.Hour)}
	r := compile.Compile(cfg, f)
	w := reach.New(r.State)
	for _, tt := range []struct {
		name string
		from string
		p    reach.Packet
	}{
		{"to a web server", zone.Name, reach.Packet{MAC: stranger, Src: addr, Dst: outside, Proto: 6, SrcPort: 4000, Port: 80}},
		{"to a web server, by another address", zone.Name, reach.Packet{MAC: stranger, Src: addr.Next(), Dst: outside, Proto: 6, SrcPort: 4000, Port: 80}},
		{"to a DNS server", zone.Name, reach.Packet{MAC: stranger, Src: addr, Dst: outside, Proto: 17, SrcPort: 4000, Port: 53}},
		{"to the box's DNS", zone.Name, reach.Packet{MAC: stranger, Src: addr, Dst: zone.Gateway, Proto: 17, SrcPort: 4000, Port: 53}},
		{"from the internet", model.Internet, reach.Packet{Src: outside, Dst: addr, Proto: 6, SrcPort: 80, Port: 4000}},
		{"from the box", model.Box, reach.Packet{Out: linkOf(r.State, zone.Name), Src: zone.Gateway, Dst: addr, Proto: 17, SrcPort: 53, Port: 4000}},
	} {
		if tt.from != model.Box {
			tt.p.In = linkOf(r.State, tt.from)
		}
		tt.p.Established = true
		if tt.p.Proto == model.ProtoTCP {
			tt.p.Flags = nft.FlagACK
		}
		if got := w.Walk(tt.p); got.Accepted || policy.ReasonByMark(got.Mark) != policy.Isolated {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func ruleName(r *policy.Rule) string {
	if r == nil {
		return "(no rule)"
	}
	return r.Name
}

// disagreement compares a decision with what the ruleset did.
func disagreement(p *policy.Policy, want policy.Decision, got reach.Result) string {
	switch {
	case want.To == model.Internet && !p.Env.Uplink.IsValid():
		if got.Accepted {
			return "a way to the internet without a lease"
		}
		return ""
	case want.Allow != got.Accepted:
		return "verdicts differ"
	case want.Reason == policy.Loopback:
		return ""
	case want.Rule != nil && p.RuleByMark(got.Mark) != want.Rule:
		return "rules differ: " + ruleName(p.RuleByMark(got.Mark))
	case want.Rule == nil && got.Counter == "nowhere":
		return "" // no party on that side
	case want.Rule == nil && want.Reason != policy.IPv6 && got.Counter != "" && got.Mark != want.Reason.Mark() && want.Reason != policy.Elsewhere:
		return fmt.Sprintf("reasons differ: %s", policy.ReasonByMark(got.Mark))
	}
	return ""
}

// packet is the flow on the links of a compiled state.
func packet(s state.State, f policy.Flow) reach.Packet {
	p := reach.Packet{MAC: f.MAC, Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, Port: f.Port, UID: f.UID}
	if f.From == model.Box {
		if f.To != "" {
			p.Out = linkOf(s, f.To)
		}
		if f.Dst.IsUnspecified() || f.Dst.IsLoopback() || slices.ContainsFunc(s.Addrs, func(a state.Addr) bool { return a.Prefix.Addr() == f.Dst }) {
			p.Out = "lo"
		}
	} else {
		p.In = linkOf(s, f.From)
	}
	return p
}

func linkOf(s state.State, party string) string {
	purpose := "zone " + party
	if party == model.Internet {
		purpose = "uplink"
	}
	i := slices.IndexFunc(s.Links, func(l state.Link) bool { return l.Purpose() == purpose })
	return s.Links[i].Name
}

// generator makes valid configurations and packets that are likely to be about
// them: addresses, ports and MACs come from small sets.
type generator struct {
	*rand.Rand
}

func (g *generator) config() *model.Config {
	cfg := &model.Config{System: model.System{Name: "gw", Domain: "home.arpa"}}
	trunk := &model.Port{Name: "trunk", MAC: model.MAC{2, 0, 0, 0, 0, 1}}
	wan := &model.Port{Name: "wan", MAC: model.MAC{2, 0, 0, 0, 0, 2}}
	cfg.Ports = []*model.Port{wan, trunk}
	if g.IntN(8) > 0 {
		cfg.Uplink = &model.Uplink{Port: wan, IPv4: model.Family{Mode: model.ModeDHCP}}
	}
	if g.IntN(4) == 0 {
		cfg.System.Push = &model.Push{Address: pick(g, append(outside[:len(outside):len(outside)], netip.MustParseAddr("192.168.20.7"))), Port: pick(g, []uint16{22, 443})}
	}
	for i := range 1 + g.IntN(4) {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(10 * (i + 1)), 0}), 24+g.IntN(3))
		b := subnet.Addr().As4()
		at := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{b[0], b[1], b[2], n}) }
		var observed time.Time
		if g.IntN(8) == 0 {
			observed = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		cfg.Zones = append(cfg.Zones, &model.Zone{
			Name: "zone" + string(rune('a'+i)), Port: trunk, VLAN: uint16(10 * (i + 1)), Subnet: subnet, Gateway: at(1),
			Admin: i == 0, Ping: g.IntN(3) > 0, DHCP: model.DHCP{Enabled: g.IntN(4) > 0, Pool: model.Range{First: at(32), Last: at(62)}},
			DNS: model.DNS{Enabled: g.IntN(4) > 0, Force: g.IntN(3) == 0}, Observed: observed,
		})
	}
	for i := range g.IntN(6) {
		z := pick(g, cfg.Zones)
		d := &model.Device{Name: fmt.Sprintf("dev%d", i), Zone: z, MAC: model.MAC{2, 0, 0, 0, 1, byte(i)}}
		if g.IntN(3) > 0 {
			b := z.Subnet.Addr().As4()
			b[3] = byte(4 + i)
			d.Address = netip.AddrFrom4(b)
		}
		cfg.Devices = append(cfg.Devices, d)
	}
	for i := range g.IntN(9) {
		cfg.Allow = append(cfg.Allow, g.rule(cfg, fmt.Sprintf("allow%d", i)))
	}
	for i := range g.IntN(5) {
		cfg.Block = append(cfg.Block, g.rule(cfg, fmt.Sprintf("block%d", i)))
	}
	if cfg.Uplink != nil && len(cfg.Devices) > 0 {
		for i := range g.IntN(3) {
			lo := uint16(5000 + 10*i)
			cfg.Forwards = append(cfg.Forwards, &model.Forward{
				Name: fmt.Sprintf("forward%d", i), To: pick(g, cfg.Devices), Until: now.Add(time.Duration(g.IntN(3)-1) * time.Hour),
				Services: []model.Service{model.PortRange(pick(g, []uint8{6, 17}), lo, lo+uint16(g.IntN(4)))},
			})
		}
	}
	return cfg
}

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

func (g *generator) rule(cfg *model.Config, name string) *model.Rule {
	r := &model.Rule{Name: name}
	for range 1 + g.IntN(2) {
		r.From = append(r.From, g.endpoint(cfg, true))
		r.To = append(r.To, g.endpoint(cfg, false))
	}
	for range 1 + g.IntN(3) {
		r.Services = append(r.Services, g.service())
	}
	switch g.IntN(6) {
	case 0:
		r.Until = now // over at this very instant
	case 1:
		r.Until = now.Add(time.Second)
	}
	return r
}

func (g *generator) endpoint(cfg *model.Config, source bool) model.Endpoint {
	z := pick(g, cfg.Zones)
	switch n := g.IntN(10); {
	case n < 3 && len(cfg.Devices) > 0:
		d := pick(g, cfg.Devices)
		return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}
	case n < 5:
		b := z.Subnet.Addr().As4()
		b[3] = byte(4 * g.IntN(8))
		p, _ := netip.AddrFrom4(b).Prefix(28 + g.IntN(5))
		if p == netip.PrefixFrom(z.Gateway, 32) {
			p = netip.PrefixFrom(z.Gateway.Next(), 32)
		}
		return model.Endpoint{Kind: model.KindPrefix, Zone: z, Prefix: p}
	case n < 6 && !source:
		p, _ := outside[g.IntN(len(outside))].Prefix(24 + 4*g.IntN(3))
		return model.Endpoint{Kind: model.KindPrefix, Prefix: p}
	case n < 7 && !source:
		return model.Endpoint{Kind: model.KindInternet}
	case n < 8:
		return model.Endpoint{Kind: model.KindBox}
	}
	return model.Endpoint{Kind: model.KindZone, Zone: z}
}

var outside = []netip.Addr{
	netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.53"), netip.MustParseAddr("198.51.100.7"),
	netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("10.20.30.40"), netip.MustParseAddr("100.64.1.1"),
	netip.MustParseAddr("192.168.99.9"), netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("240.0.0.9"),
}

var ports = []uint16{0, 22, 53, 67, 68, 80, 443, 444, 2049, 5000, 5001, 5002, 5010, 5011, svcconf.NoticeDNS, svcconf.NoticeHTTP, 65535}

func (g *generator) service() model.Service {
	switch g.IntN(8) {
	case 0:
		return model.AnyService
	case 1:
		return model.Service{Proto: pick(g, []uint8{1, 6, 17, 47, 132})}
	case 2:
		return model.ICMP(pick(g, []uint8{0, 8, 13}))
	case 3:
		lo, hi := pick(g, ports), pick(g, ports)
		return model.PortRange(pick(g, []uint8{6, 17, 132}), min(lo, hi), max(lo, hi))
	}
	return model.OnePort(pick(g, []uint8{6, 17}), pick(g, ports))
}

// sends lets some configurations send records and events, some of them twice to one host.
func sends(cfg *model.Config, g *generator) {
	peer := func() model.Peer {
		return model.Peer{
			Scheme: pick(g, []string{"udp", "tcp", "https"}), Port: pick(g, ports),
			Address: pick(g, append(outside[:len(outside):len(outside)], netip.MustParseAddr("192.168.20.7"))),
		}
	}
	for range max(0, g.IntN(6)-2) {
		cfg.Exports = append(cfg.Exports, &model.Export{To: peer()})
		cfg.Alerts = append(cfg.Alerts, &model.Alert{To: peer()})
	}
}

func (g *generator) facts(cfg *model.Config) facts.Facts {
	f := compile.Offline(cfg, now)
	if g.IntN(6) > 0 {
		f.Uplink = &facts.Lease{
			Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: outside[0],
			Resolvers: []netip.Addr{outside[1], outside[3]}, Expires: now.Add(time.Duration(g.IntN(4)-1) * time.Hour),
		}
	}
	if g.IntN(3) == 0 {
		for range 1 + g.IntN(2) {
			f.Isolated = append(f.Isolated, g.isolation(cfg))
		}
	}
	return f
}

// isolation is that of a device, of a stranger, or of somebody's address.
func (g *generator) isolation(cfg *model.Config) facts.Isolation {
	z := pick(g, cfg.Zones)
	i := facts.Isolation{Until: pick(g, []time.Time{{}, now.Add(time.Minute), now})}
	switch n := g.IntN(6); {
	case n < 3 && len(cfg.Devices) > 0:
		i.MAC = pick(g, cfg.Devices).MAC.String()
	case n == 3:
		i.MAC = stranger.String()
	}
	if i.MAC == "" || g.IntN(2) == 0 {
		b := z.Subnet.Addr().As4()
		b[3] = byte(g.IntN(16)) // the box's own among them, which must not count
		i.Addresses = []netip.Addr{netip.AddrFrom4(b)}
	}
	return i
}

// stranger is no device.
var stranger = model.MAC{2, 0, 0, 0, 9, 9}

func (g *generator) flow(cfg *model.Config, p *policy.Policy) policy.Flow {
	f := policy.Flow{
		From: g.party(cfg), Proto: pick(g, []uint8{1, 6, 6, 6, 17, 17, 17, 47, 132, 99}), SrcPort: pick(g, []uint16{68, 68, 40000}),
		Port: pick(g, ports), UID: pick(g, []int{0, 1000, svcconf.Dnsd.ID, svcconf.Dhcpd.ID, svcconf.Wand.ID, svcconf.Webuid.ID, svcconf.Pushd.ID, svcconf.Exportd.ID, svcconf.Diagd.ID}),
	}
	switch {
	case f.Proto == model.ProtoICMP:
		f.Port = pick(g, []uint16{0, 8, 8, 13})
	case !model.HasPorts(f.Proto):
		f.Port = 0
	}
	f.Src, f.MAC = g.address(cfg, p, f.From)
	to := g.party(cfg)
	f.Dst, _ = g.address(cfg, p, to)
	if rules := slices.Concat(cfg.Allow, cfg.Block); len(rules) > 0 && g.IntN(2) == 0 {
		g.aim(p, &f, pick(g, rules))
	}
	if up := p.Env.Uplink; len(cfg.Forwards) > 0 && up.IsValid() && g.IntN(10) == 0 {
		f.Dst, f.Proto, f.Port = up.Addr(), pick(g, []uint8{6, 17}), uint16(5000+g.IntN(16))
	}
	if g.IntN(40) == 0 {
		f.Src, f.Dst = netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::2")
	}
	if f.From == model.Box {
		f.Src = netip.MustParseAddr("127.0.0.1")
		if f.Dst = f.Dst.Unmap(); !f.Dst.Is4() {
			f.Dst = outside[0]
		}
		if f.Dst == netip.MustParseAddr("255.255.255.255") {
			f.To = cfg.Zones[0].Name
		}
	}
	if f.From != model.Box && g.IntN(12) == 0 {
		f.Src, f.Dst, f.Proto, f.SrcPort, f.Port = netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), 17, 68, 67
	}
	return f
}

// aim turns a flow into one that the rule may be about.
func (g *generator) aim(p *policy.Policy, f *policy.Flow, r *model.Rule) {
	from, to, s := pick(g, r.From), pick(g, r.To), pick(g, r.Services)
	answers := p.Query(from, to, s)
	if len(answers) == 0 {
		return // a network in which every address is a device's or the box's
	}
	a := pick(g, answers)
	f.From, f.Src, f.Dst, f.MAC = a.From.Party, a.From.Addr, a.To.Addr, model.MAC{}
	if a.From.Device != nil {
		f.MAC = a.From.Device.MAC
	}
	if z := p.Config.Zone(a.From.Party); z != nil && a.To.Party == model.Box {
		f.Dst = z.Gateway
	}
	f.Proto, f.Port = a.Service.Proto, a.Service.Lo
}

func (g *generator) party(cfg *model.Config) string {
	switch n := g.IntN(len(cfg.Zones) + 2); {
	case n < len(cfg.Zones):
		return cfg.Zones[n].Name
	case n == len(cfg.Zones) && cfg.Uplink != nil:
		return model.Internet
	}
	return model.Box
}

// address returns an address that is mostly of the party, with a MAC that is mostly
// right.
func (g *generator) address(cfg *model.Config, p *policy.Policy, party string) (netip.Addr, model.MAC) {
	z := cfg.Zone(party)
	switch n := g.IntN(20); {
	case n == 0:
		return pick(g, []netip.Addr{
			netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("127.0.0.1"),
			netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("192.168.10.1"), netip.MustParseAddr("192.168.20.1"),
			netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.255"), netip.MustParseAddr("192.168.10.255"),
		}), stranger
	case n == 1:
		return pick(g, outside), stranger
	case party == model.Box:
		switch {
		case n < 12:
			return pick(g, cfg.Zones).Gateway, stranger
		case p.Env.Uplink.IsValid():
			return p.Env.Uplink.Addr(), stranger
		}
		return netip.MustParseAddr("203.0.113.2"), stranger
	case z == nil:
		return pick(g, outside), stranger
	case n < 10 && len(cfg.Devices) > 0:
		d := pick(g, cfg.Devices)
		mac := d.MAC
		if g.IntN(6) == 0 {
			mac = stranger
		}
		if a := p.AddressOf(d); a.IsValid() {
			return a, mac
		}
	}
	b := z.Subnet.Addr().As4()
	b[3] = byte(g.IntN(70))
	a := netip.AddrFrom4(b)
	i := slices.IndexFunc(cfg.Devices, func(d *model.Device) bool { return p.AddressOf(d) == a })
	switch {
	case i >= 0:
		return a, cfg.Devices[i].MAC
	case len(cfg.Devices) > 0 && g.IntN(4) == 0:
		return a, pick(g, cfg.Devices).MAC // a device by another address
	}
	return a, stranger
}

// TestNoRuleMentionsAnUnknownName walks every reference in the ruleset: a dangling
// one would be refused by the kernel, and with it the whole configuration.
func TestRulesetRefersOnlyToWhatItHolds(t *testing.T) {
	for seed := range uint64(200) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		cfg := g.config()
		r := compile.Compile(cfg, g.facts(cfg))
		text := r.State.Ruleset.Table.String()
		for _, word := range strings.Fields(text) {
			if name, ok := strings.CutPrefix(word, "@"); ok && !strings.Contains(text, " "+name+" {\n\t\ttype ") {
				t.Fatalf("seed %d: no set %s", seed, name)
			}
		}
	}
}

// TestKernelTakesTheRuleset loads random rulesets over netlink and has nft say what
// the kernel holds: what the compiler writes must be what the kernel takes,
// whatever the rules.
func TestKernelTakesTheRuleset(t *testing.T) {
	for seed := range uint64(40) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
		cfg := g.config()
		loadAndReadBack(t, seed, compile.Compile(cfg, g.facts(cfg)).State.Ruleset.Table)
	}
}

func loadAndReadBack(t *testing.T, seed uint64, table *nft.Table) {
	t.Helper()
	ns := nstest.New(t)
	rulesets, err := apply.OpenRulesets(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer rulesets.Close()
	if _, err := rulesets.Load(table); err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, table)
	}
	if diff := cmp.Diff(table.String(), nstest.Exec(t, ns, "nft", "list", "table", "inet", "bulkhead")); diff != "" {
		t.Fatalf("seed %d: the kernel holds something else (-want +got):\n%s", seed, diff)
	}
}
