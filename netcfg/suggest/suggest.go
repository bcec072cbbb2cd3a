// Package suggest turns what was seen into lines for the file: connections that were
// refused, or that only the observation of a zone let pass, into allows that would let
// them, and rules that nothing used into a list to look at.
//
// It proposes and never decides: a proposal is text that somebody reads, gives a reason
// and puts into the file. The package is pure.
package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Seen is connections of one kind that somebody opened, or tried to.
type Seen struct {
	From  Party  `json:"from"`
	To    Party  `json:"to"`
	Proto uint8  `json:"proto"`          // IP protocol number
	Port  uint16 `json:"port,omitempty"` // of the destination; the ICMP type; 0 for protocols without

	Rule   string `json:"rule,omitempty"`   // that decided; "" if none did
	Reason string `json:"reason,omitempty"` // of a refusal by no rule: a [policy.Reason]

	Count uint64    `json:"count"` // connections, or packets that were refused
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Name  string    `json:"name,omitempty"` // DNS name, of one of them
}

// Party is one side of what was seen.
type Party struct {
	Zone   string     `json:"zone"`             // or model.Internet, model.Box
	Device string     `json:"device,omitempty"` // name in the file; "": the file does not know it
	Addr   netip.Addr `json:"addr,omitzero"`
}

// Proposal is an allow that would let pass what was seen, and nothing that is not of the
// same kind: from these endpoints, to these endpoints, by these protocols.
type Proposal struct {
	Name      string   `json:"name"`
	From      []string `json:"from"`
	To        []string `json:"to"`
	Protocols []string `json:"protocols"`
	// Opens is how many different connections it would let pass, by source and
	// destination address and by port: what it lets in beside what was seen.
	Opens    float64  `json:"opens"`
	Evidence []Seen   `json:"evidence"`       // the most frequent first, at most [MaxEvidence]
	More     int      `json:"more,omitempty"` // kinds that are not in Evidence
	Count    uint64   `json:"count"`          // of all of it
	Notes    []string `json:"notes,omitempty"`
}

// MaxEvidence is how many kinds of connections a proposal shows.
const MaxEvidence = 8

// LeftOut is what no allow is proposed for.
type LeftOut struct {
	Why   string `json:"why"`
	Kinds int    `json:"kinds"`
	Count uint64 `json:"count"`
}

// Result is all that follows from what was seen.
type Result struct {
	Proposals []Proposal `json:"proposals"` // what opens least comes first
	LeftOut   []LeftOut  `json:"leftOut,omitempty"`
}

// scanPorts is from how many ports on that a source that was refused there at one
// destination looks like somebody trying doors, for whom no rule is proposed.
const scanPorts = 20

// Allows proposes allows for connections that were refused because no rule allows them,
// and for those that pass only as long as a zone is observed. The configuration is the
// one in force.
func Allows(cfg *model.Config, seen []Seen) Result {
	left := map[string]LeftOut{}
	scans := scanned(seen)
	var lines []*line
	byEnds := map[[2]endpoint]*line{}
	for _, s := range seen {
		why, propose := judge(cfg, s, scans)
		if !propose {
			if why != "" {
				l := left[why]
				left[why] = LeftOut{Why: why, Kinds: l.Kinds + 1, Count: l.Count + s.Count}
			}
			continue
		}
		ends := [2]endpoint{endpointOf(cfg, s.From), endpointOf(cfg, s.To)}
		if ends[0].name == ends[1].name {
			continue // within a zone the box is not in the path
		}
		l := byEnds[ends]
		if l == nil {
			l = &line{from: ends[:1], to: ends[1:], services: map[model.Service]bool{}}
			byEnds[ends], lines = l, append(lines, l)
		}
		l.services[model.ServiceOf(s.Proto, s.Port)] = true
		l.seen = append(l.seen, s)
	}
	// First who else does the same at the same places, then where else they do it.
	lines = merge(lines, func(l *line) string { return ends(l.to) + "|" + l.spoken(cfg) }, func(l, o *line) { l.from = slices.Concat(l.from, o.from) })
	lines = merge(lines, func(l *line) string { return ends(l.from) + "|" + l.spoken(cfg) }, func(l, o *line) { l.to = slices.Concat(l.to, o.to) })

	r := Result{Proposals: []Proposal{}, LeftOut: slices.SortedFunc(maps.Values(left), func(a, b LeftOut) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why))
	})}
	for _, l := range lines {
		r.Proposals = append(r.Proposals, l.proposal(cfg))
	}
	slices.SortStableFunc(r.Proposals, func(a, b Proposal) int {
		return cmp.Or(cmp.Compare(a.Opens, b.Opens), cmp.Compare(b.Count, a.Count))
	})
	name(cfg, r.Proposals)
	return r
}

// judge says whether an allow is proposed for what was seen, or why not; "" for what the
// file allows as it is.
func judge(cfg *model.Config, s Seen, scans map[[2]Party]bool) (why string, propose bool) {
	observed := strings.HasPrefix(s.Rule, policy.Observing)
	switch {
	case s.Rule == "" && s.Reason != string(policy.NotAllowed):
		return "no connection that a rule could allow: " + s.Reason, false
	case slices.ContainsFunc(cfg.Block, func(r *model.Rule) bool { return r.Name == s.Rule }):
		return "refused on purpose, by the block " + s.Rule, false
	case s.Rule != "" && !observed:
		return "", false
	case s.From.Zone == model.Internet:
		return "from the internet: only forwards let that in", false
	case s.To.Zone == model.Box:
		return "to the box itself, which offers a zone what the zone has switched on", false
	case cfg.Zone(s.From.Zone) == nil:
		return "from where the file has no zone", false
	case s.To.Zone != model.Internet && cfg.Zone(s.To.Zone) == nil:
		return "to where the file has no zone", false
	case !observed && scans[[2]Party{s.From, s.To}]:
		return fmt.Sprintf("refused at %d ports or more of one destination, as if somebody tried doors", scanPorts), false
	}
	return "", true
}

// scanned finds the pairs between which too many ports were tried in vain.
func scanned(seen []Seen) map[[2]Party]bool {
	ports := map[[2]Party]int{}
	for _, s := range seen {
		if s.Rule == "" {
			ports[[2]Party{s.From, s.To}]++
		}
	}
	out := map[[2]Party]bool{}
	for pair, n := range ports {
		out[pair] = n >= scanPorts
	}
	return out
}

// endpoint is how a rule can name a side.
type endpoint struct {
	name  string
	hosts float64 // addresses that it stands for
	note  string
}

// endpointOf returns the narrowest endpoint that keeps meaning the same machine. An
// address that a DHCP server gave to somebody unknown does not.
func endpointOf(cfg *model.Config, p Party) endpoint {
	if d := cfg.Device(p.Device); d != nil && d.Zone.Name == p.Zone {
		return endpoint{name: d.Name, hosts: 1}
	}
	z := cfg.Zone(p.Zone)
	switch {
	case z == nil:
		return endpoint{name: model.Internet, hosts: 1 << 32, note: "all of the internet: addresses there change hands"}
	case z.Subnet.Contains(p.Addr) && !(z.DHCP.Enabled && z.DHCP.Pool.Contains(p.Addr)):
		return endpoint{
			name: p.Addr.String(), hosts: 1,
			note: p.Addr.String() + " is nobody's in the file: whoever takes it may do the same; declare it under devices to bind it to a MAC",
		}
	}
	return endpoint{
		name: z.Name, hosts: float64(uint64(1) << (32 - z.Subnet.Bits())),
		note: "all of zone " + z.Name + ", because the file does not know the machine: declare it under devices to allow it to that one alone",
	}
}

// line is an allow in the making. It allows the product of its three sets, and is only
// ever merged so that the product is the union of what was merged.
type line struct {
	from, to []endpoint
	services map[model.Service]bool
	seen     []Seen
}

func merge(lines []*line, key func(*line) string, into func(l, o *line)) []*line {
	first := map[string]*line{}
	var out []*line
	for _, l := range lines {
		if f := first[key(l)]; f != nil {
			into(f, l)
			f.seen = append(f.seen, l.seen...)
			continue
		}
		first[key(l)] = l
		out = append(out, l)
	}
	return out
}

// ends joins the names of endpoints, sorted.
func ends(list []endpoint) string { return strings.Join(names(list), ",") }

func names(list []endpoint) []string {
	var s []string
	for _, e := range list {
		s = append(s, e.name)
	}
	slices.Sort(s)
	return s
}

func (l *line) spoken(cfg *model.Config) string { return strings.Join(words(cfg, l.services), ",") }

// words names services as people do, by protocols whose services are all among them, and
// the rest by number.
func words(cfg *model.Config, services map[model.Service]bool) []string {
	left := maps.Clone(services)
	var out []string
	take := func(name string, list []model.Service) {
		if len(list) == 0 || slices.ContainsFunc(list, func(s model.Service) bool { return !left[s] }) {
			return
		}
		for _, s := range list {
			delete(left, s)
		}
		out = append(out, name)
	}
	type known struct {
		name string
		list []model.Service
	}
	var all []known
	for _, p := range cfg.Protocols {
		all = append(all, known{p.Name, p.Services})
	}
	for _, name := range model.CatalogueNames() {
		list, _ := model.Catalogued(name)
		all = append(all, known{name, list})
	}
	// The larger first: dns is more to read than udp/53 and tcp/53.
	slices.SortStableFunc(all, func(a, b known) int { return cmp.Compare(len(b.list), len(a.list)) })
	for _, k := range all {
		take(k.name, k.list)
	}
	for s := range left {
		out = append(out, s.String())
	}
	slices.Sort(out)
	return out
}

func (l *line) proposal(cfg *model.Config) Proposal {
	p := Proposal{From: names(l.from), To: names(l.to), Protocols: words(cfg, l.services)}
	hosts := func(list []endpoint) (n float64) {
		for _, e := range list {
			n += e.hosts
			if e.note != "" && !slices.Contains(p.Notes, e.note) {
				p.Notes = append(p.Notes, e.note)
			}
		}
		return n
	}
	p.Opens = hosts(l.from) * hosts(l.to) * float64(len(l.services))
	slices.SortStableFunc(l.seen, func(a, b Seen) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last))
	})
	for _, s := range l.seen {
		p.Count += s.Count
	}
	n := min(len(l.seen), MaxEvidence)
	p.Evidence, p.More = l.seen[:n:n], len(l.seen)-n
	return p
}

// maxName is the length of a rule's name.
const maxName = 32

// name gives each proposal a name that no rule has.
func name(cfg *model.Config, list []Proposal) {
	taken := map[string]bool{}
	for _, r := range slices.Concat(cfg.Allow, cfg.Block) {
		taken[r.Name] = true
	}
	for _, f := range cfg.Forwards {
		taken[f.Name] = true
	}
	for i := range list {
		p := &list[i]
		base := word(p.From[0]) + "-" + word(p.To[0])
		if len(p.Protocols) == 1 && !strings.Contains(p.Protocols[0], "/") {
			base += "-" + p.Protocols[0]
		}
		p.Name = cut(base, maxName)
		for n := 2; taken[p.Name]; n++ {
			end := fmt.Sprintf("-%d", n)
			p.Name = cut(base, maxName-len(end)) + end
		}
		taken[p.Name] = true
	}
}

// word makes the name of an endpoint a part of a rule's name.
func word(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return "host-" + s[strings.LastIndexByte(s, '.')+1:]
	}
	return s
}

func cut(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-") }
