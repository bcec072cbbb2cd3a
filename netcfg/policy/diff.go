package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
)

// Change is one thing that becomes possible, or no longer is.
type Change struct {
	From     string          `json:"from"` // zone, device, network, "internet" or "box"
	To       string          `json:"to"`
	Possible bool            `json:"possible"` // becomes possible; otherwise it ends
	Services []model.Service `json:"services"`
}

func (c Change) String() string {
	verb := "is no longer possible"
	if c.Possible {
		verb = "becomes possible"
	}
	return fmt.Sprintf("%s → %s: %s %s", c.From, c.To, Words(c.Services), verb)
}

// Words lists services as the configuration writes them. All of IP is "any".
func Words(services []model.Service) string {
	words := make([]string, len(services))
	for i, s := range services {
		words[i] = s.String()
	}
	return strings.Join(words, ", ")
}

// Diff says which connections between zones, devices, the internet and the box
// become possible or impossible from one policy to the next. Machines that their
// zone's line speaks for have none of their own.
func Diff(old, new *Policy) []Change {
	var changes []Change
	for _, pair := range pairsOf(old, new) {
		if sameEntries(old, new, pair) {
			continue
		}
		changes = append(changes, diffPair(old, new, pair)...)
	}
	return changes
}

// pairsOf lists all pairs that either policy speaks of, forwards included.
func pairsOf(policies ...*Policy) []Pair {
	var pairs []Pair
	for _, p := range policies {
		pairs = append(pairs, p.Pairs()...)
		for _, f := range p.forwards {
			pairs = append(pairs, Pair{model.Internet, f.Device.Zone.Name})
		}
	}
	slices.SortFunc(pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return slices.Compact(pairs)
}

// sameEntries reports whether nothing that decides on the pair differs.
func sameEntries(old, new *Policy, pair Pair) bool {
	return slices.EqualFunc(old.pairs[pair], new.pairs[pair], sameMeaning) && pair.From != model.Internet && sameZone(old, new, pair.From) && sameZone(old, new, pair.To)
}

func sameZone(old, new *Policy, party string) bool {
	a, b := old.Config.Zone(party), new.Config.Zone(party)
	return (a == nil) == (b == nil)
}

func diffPair(old, new *Policy, pair Pair) []Change {
	froms, tos := sides(old, new, pair.From), sides(old, new, pair.To)
	var changes []Change
	said := make(map[[2]int]string) // by indices into froms and tos
	for i, from := range froms {
		old, new := old.only(pair, old.from(pair, from.old)), new.only(pair, new.from(pair, from.new))
		for j, to := range tos {
			found := diffHosts(old, new, pair, from, to)
			text := summary(found)
			said[[2]int{i, j}] = text
			// The lines of the whole parties come first and speak for all in them.
			if i+j > 0 && (text == said[[2]int{i, 0}] && j > 0 || text == said[[2]int{0, j}] && i > 0) {
				continue
			}
			changes = append(changes, found...)
		}
	}
	return changes
}

// diffHosts compares two hosts. It looks only at the entries that cover them, of
// which there are few however many rules there are.
func diffHosts(old, new *Policy, pair Pair, from, to both) []Change {
	before, after := old.between(pair, from.old, to.old), new.between(pair, from.new, to.new)
	// Between machines that are there before and after, entries alone decide, whatever
	// addresses the machines have.
	if pair.From != model.Internet && from.stays() && to.stays() && slices.EqualFunc(before, after, sameMeaning) {
		return nil
	}
	var services []model.Service
	for _, e := range slices.Concat(before, after) {
		services = append(services, e.Service)
	}
	if pair.From == model.Internet {
		services = append(old.services(pair), new.services(pair)...)
	}
	parts := atoms(services)
	old, new = old.only(pair, before), new.only(pair, after)
	var gained, lost []model.Service
	for _, s := range parts {
		was, is := ask(old, from.old, to.old, s), ask(new, from.new, to.new, s)
		switch {
		case is && !was:
			gained = append(gained, s)
		case was && !is:
			lost = append(lost, s)
		}
	}
	return describe(from.name, to.name, merge(gained, parts), merge(lost, parts))
}

// from returns the entries of a pair that cover a source.
func (p *Policy) from(pair Pair, from *Host) []Entry {
	if from == nil {
		return nil
	}
	var list []Entry
	for _, e := range p.pairs[pair] {
		if e.From.contains(from.Addr) {
			list = append(list, e)
		}
	}
	return list
}

// between returns the entries of a pair that cover two hosts.
func (p *Policy) between(pair Pair, from, to *Host) []Entry {
	if from == nil || to == nil {
		return nil
	}
	var list []Entry
	for _, e := range p.pairs[pair] {
		if e.From.contains(from.Addr) && (to.Party == model.Box || e.To.contains(to.Addr)) {
			list = append(list, e)
		}
	}
	return list
}

// only returns the policy with nothing but the entries, for asking about a pair of
// hosts that no others cover.
func (p *Policy) only(pair Pair, entries []Entry) *Policy {
	q := *p
	q.pairs = map[Pair][]Entry{pair: entries}
	return &q
}

// sameMeaning compares entries by all but the name of their rule.
func sameMeaning(a, b Entry) bool {
	return a.Rule.Block == b.Rule.Block && a.From == b.From && a.To == b.To && a.UID == b.UID && a.Service == b.Service
}

// both is a host in two policies; nil where it does not exist.
type both struct {
	name     string
	old, new *Host
}

// stays reports whether the host exists in both.
func (b both) stays() bool { return b.old != nil && b.new != nil }

// sides lists the hosts of a party that either policy's rules name, the unnamed
// first.
func sides(old, new *Policy, party string) []both {
	list := []both{{name: party, old: old.unnamed(party), new: new.unnamed(party)}}
	index := map[string]int{}
	collect := func(p *Policy, set func(*both, *Host)) {
		for _, h := range p.mentioned(party) {
			i, ok := index[h.Name()]
			if !ok {
				i = len(list)
				index[h.Name()] = i
				list = append(list, both{name: h.Name(), old: old.unnamed(party), new: new.unnamed(party)})
			}
			set(&list[i], &h)
		}
	}
	collect(old, func(b *both, h *Host) { b.old = h })
	collect(new, func(b *both, h *Host) { b.new = h })
	return list
}

// unnamed returns the party's machines that no rule names; nil without the party.
func (p *Policy) unnamed(party string) *Host {
	net := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	switch z := p.Config.Zone(party); {
	case z != nil:
		net = z.Subnet
	case party == model.Box:
		return &Host{Party: model.Box, Addr: loopback.Addr()}
	case party != model.Internet || p.Config.Uplink == nil:
		return nil
	}
	a := p.example(party, net)
	if !a.IsValid() {
		return nil
	}
	return &Host{Party: party, Addr: a}
}

// mentioned returns the hosts of a party that rules and forwards name.
func (p *Policy) mentioned(party string) []Host {
	var hosts []Host
	for _, n := range p.nets[party] {
		h := Host{Party: party, Prefix: n, Addr: p.example(party, n)}
		if n.IsSingleIP() {
			h.Addr, h.Device = n.Addr(), p.byAddr[n.Addr()]
		}
		if h.Addr.IsValid() {
			hosts = append(hosts, h)
		}
	}
	for _, f := range p.forwards {
		named := slices.ContainsFunc(hosts, func(h Host) bool { return h.Device == f.Device })
		if f.Device.Zone.Name == party && !named {
			hosts = append(hosts, Host{Party: party, Device: f.Device, Addr: f.To})
		}
	}
	return hosts
}

func ask(p *Policy, from, to *Host, s model.Service) bool {
	return from != nil && to != nil && p.decideOn(*from, *to, s).Allow
}

func describe(from, to string, gained, lost []model.Service) []Change {
	var changes []Change
	if len(gained) > 0 {
		changes = append(changes, Change{from, to, true, gained})
	}
	if len(lost) > 0 {
		changes = append(changes, Change{from, to, false, lost})
	}
	return changes
}

// summary is what changes, without between whom.
func summary(changes []Change) string {
	text := ""
	for _, c := range changes {
		text += fmt.Sprint(c.Possible, c.Services)
	}
	return text
}

// merge joins parts that touch, and says "any" for all of them.
func merge(parts, all []model.Service) []model.Service {
	if len(parts) == len(all) {
		return []model.Service{model.AnyService}
	}
	var list []model.Service
	for _, s := range parts {
		if n := len(list); n > 0 && list[n-1].Proto == s.Proto && uint32(list[n-1].Hi)+1 == uint32(s.Lo) {
			list[n-1].Hi = s.Hi
			continue
		}
		list = append(list, s)
	}
	for i, s := range list {
		if whole := (s.Ports && s.Hi == 65535 || s.Type && s.Hi == 255) && s.Lo == 0; whole || !s.Ports && !s.Type {
			list[i] = model.Service{Proto: s.Proto}
		}
	}
	return list
}
