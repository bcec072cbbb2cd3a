package plan

import (
	"maps"
	"net/netip"
	"slices"

	"bulkhead/netcfg/state"
)

// Make returns the steps that lead from the observed state to the desired one. It
// returns a plan without steps if they agree in all that Bulkhead owns.
//
// The order closes doors before it opens any:
//
//   - Forwarding goes off first if it is to be off, or while there are no rules.
//   - The new rules come next. They check link and subnet of every packet, so they
//     are as strict as intended on whatever links there are.
//   - What goes away, goes before what is new: routes, addresses, links.
//   - Where a link stays, its new addresses come before the old ones go.
//   - Forwarding goes on last.
//   - Rules that are to go away go after all else.
//
// Only what carries Bulkhead's mark is ever removed: managed links, their
// addresses, and routes with our protocol number. A desired state without rules
// has no forwarding either, whatever it says. A destination has one route.
func Make(observed, desired state.State) *Plan {
	m := &maker{now: kernelOf(observed), want: kernelOf(desired), way: make(map[netip.Prefix]state.Route), plan: new(Plan)}
	for _, r := range m.want.sortedRoutes() {
		m.way[r.Dst] = r
	}
	maps.DeleteFunc(m.want.links, func(_ string, l state.Link) bool { return !l.Managed() })
	if !m.want.ruleset.Present() {
		m.closeWithoutRules()
	}
	m.stopForwarding()
	m.loadRuleset()
	m.setSysctls(func(key string) bool { return LinkOfSysctl(key) == "" })
	m.dropRoutes()
	m.dropLinks()
	m.dropEarlyAddrs()
	m.switchOff()
	m.makeLinks()
	m.setSysctls(func(key string) bool { return LinkOfSysctl(key) != "" })
	m.addAddrs()
	m.switchOn()
	m.switchOff() // links that came up with their parent
	m.setRoutes()
	m.dropAddrs()
	m.startForwarding()
	m.setSysctls(func(string) bool { return true }) // those that switching forwarding has reset
	m.unloadRuleset()
	return m.plan
}

// maker is a plan in the making. now is what the kernel will hold after the steps
// planned so far, so each part compares with what the earlier ones have caused.
type maker struct {
	now, want *kernel
	way       map[netip.Prefix]state.Route // desired, by destination
	plan      *Plan
}

func (m *maker) do(c Change) {
	var s subject
	if name := c.link(); name != "" {
		l, ok := m.want.links[name]
		if old := m.now.links[name]; !ok || old.Admin() {
			l = old // also a link that stops being the way to the box is one until then
		}
		s = subject{l.Purpose(), l.Admin()}
	}
	m.plan.Steps = append(m.plan.Steps, newStep(c, s))
	m.now.apply(c)
}

// closeWithoutRules makes a desired state without rules one without forwarding.
func (m *maker) closeWithoutRules() {
	for key := range m.want.sysctls {
		if isForwarding(key) {
			m.want.sysctls[key] = "0"
		}
	}
	if m.now.ruleset.Present() { // whoever removes rules makes sure
		m.want.sysctls[forward4] = "0"
	}
}

// stopForwarding switches forwarding off if it is to be off, or if it is on without
// any rules.
func (m *maker) stopForwarding() {
	open := m.want.ruleset.Present() && !m.now.ruleset.Present()
	for _, key := range slices.Sorted(maps.Keys(m.want.sysctls)) {
		if !isForwarding(key) || m.now.sysctls[key] == "0" {
			continue
		}
		if m.want.sysctls[key] == "0" || open && m.now.sysctls[key] != "" {
			m.do(SetSysctl{key, m.now.sysctls[key], "0"})
		}
	}
}

func (m *maker) startForwarding() {
	for _, key := range slices.Sorted(maps.Keys(m.want.sysctls)) {
		if want := m.want.sysctls[key]; isForwarding(key) && m.now.sysctls[key] != want {
			m.do(SetSysctl{key, m.now.sysctls[key], want})
		}
	}
}

// setSysctls makes the settings that are in scope, forwarding excepted.
func (m *maker) setSysctls(scope func(key string) bool) {
	for _, key := range slices.Sorted(maps.Keys(m.want.sysctls)) {
		if want := m.want.sysctls[key]; !isForwarding(key) && scope(key) && m.now.sysctls[key] != want {
			m.do(SetSysctl{key, m.now.sysctls[key], want})
		}
	}
}

func (m *maker) loadRuleset() {
	now, want := m.now.ruleset, m.want.ruleset
	if want.Present() && (now.Foreign || now.Digest != want.Digest) {
		m.do(LoadRuleset{now, want})
	}
}

func (m *maker) unloadRuleset() {
	if m.now.ruleset.Present() && !m.want.ruleset.Present() {
		m.do(LoadRuleset{m.now.ruleset, state.Ruleset{}})
	}
}

// dropRoutes removes routes to where none is to lead, and all but one of several
// that lead to the same place.
func (m *maker) dropRoutes() {
	for _, r := range m.now.sortedRoutes() {
		w, ok := m.way[r.Dst]
		twin := m.now.routes[w] || m.routeNow(r.Dst) != r
		if !ok || twin && r != w {
			m.do(DeleteRoute{r})
		}
	}
}

// routeNow returns the first route to a destination; the zero Route if there is none.
func (m *maker) routeNow(dst netip.Prefix) state.Route {
	for _, r := range m.now.sortedRoutes() {
		if r.Dst == dst {
			return r
		}
	}
	return state.Route{}
}

// setRoutes adds the routes that are missing and turns those that lead elsewhere.
func (m *maker) setRoutes() {
	for _, w := range m.want.sortedRoutes() {
		if m.now.routes[w] || m.way[w.Dst] != w {
			continue
		}
		if old := m.routeNow(w.Dst); old != (state.Route{}) {
			m.do(ReplaceRoute{old, w})
		} else {
			m.do(AddRoute{w})
		}
	}
}

// dropLinks removes links that are no longer wanted, or not as they are, with all
// that is on them: VLAN links first, as they may stand on the others.
func (m *maker) dropLinks() {
	for _, kind := range []state.LinkKind{state.VLAN, state.Physical} {
		for _, name := range slices.Sorted(maps.Keys(m.now.links)) {
			l := m.now.links[name]
			w, wanted := m.want.links[name]
			same := wanted && w.Kind == l.Kind && w.Parent == l.Parent && w.VLAN == l.VLAN
			if l.Kind != kind || !l.Managed() || same {
				continue
			}
			m.clearLink(name)
			m.dropLink(l)
		}
	}
}

func (m *maker) clearLink(name string) {
	for _, r := range m.now.sortedRoutes() {
		if r.Link == name {
			m.do(DeleteRoute{r})
		}
	}
	for _, a := range m.now.sortedAddrs() {
		if a.Link == name {
			m.do(DeleteAddr{a})
		}
	}
}

// dropLink removes a VLAN link, and lets go of a network card: it is switched off,
// so that nothing that is plugged into it notices the box.
func (m *maker) dropLink(l state.Link) {
	if l.Kind == state.VLAN {
		m.do(DeleteLink{l})
		return
	}
	inUse := slices.ContainsFunc(slices.Collect(maps.Values(m.want.links)), func(w state.Link) bool {
		return w.Kind == state.VLAN && w.Parent == l.Name
	})
	if l.Up && !inUse {
		m.do(SetUp{l.Name, false})
	}
	m.do(SetAlias{l.Name, l.Alias, ""})
}

// dropEarlyAddrs removes addresses that cannot wait until the new ones are there:
// a network must not be on two links at once, or packets leave by the wrong one.
// On a link that gets no address there is nothing to wait for.
func (m *maker) dropEarlyAddrs() {
	for _, a := range m.now.sortedAddrs() {
		if m.want.addrs[a] {
			continue
		}
		stays, moves := false, false
		for w := range m.want.addrs {
			stays = stays || w.Link == a.Link && w.Prefix.Addr().Is4() == a.Prefix.Addr().Is4()
			moves = moves || w.Link != a.Link && w.Prefix.Overlaps(a.Prefix)
		}
		if !stays || moves {
			m.do(DeleteAddr{a})
		}
	}
}

func (m *maker) addAddrs() {
	for _, a := range m.want.sortedAddrs() {
		if !m.now.addrs[a] {
			m.do(AddAddr{a})
		}
	}
}

func (m *maker) dropAddrs() {
	for _, a := range m.now.sortedAddrs() {
		if !m.want.addrs[a] {
			m.do(DeleteAddr{a})
		}
	}
}

// parentsFirst lists the wanted links, network cards before the VLAN links on them.
func (m *maker) parentsFirst() []state.Link {
	var links []state.Link
	for _, kind := range []state.LinkKind{state.Physical, state.VLAN} {
		for _, name := range slices.Sorted(maps.Keys(m.want.links)) {
			if l := m.want.links[name]; l.Kind == kind {
				links = append(links, l)
			}
		}
	}
	return links
}

// makeLinks creates VLAN links, takes over network cards, and sets MTUs.
func (m *maker) makeLinks() {
	for _, w := range m.parentsFirst() {
		if now, ok := m.now.links[w.Name]; w.Kind == state.VLAN && (!ok || now.Kind != state.VLAN) {
			m.do(CreateLink{w})
		}
		if now := m.now.links[w.Name]; now.Alias != w.Alias {
			m.do(SetAlias{w.Name, now.Alias, w.Alias})
		}
		if now := m.now.links[w.Name]; w.MTU != 0 && now.MTU != w.MTU {
			m.do(SetMTU{w.Name, now.MTU, w.MTU})
		}
	}
}

// switchOn switches links on, network cards first. VLAN links come up with their
// card; they are switched on nevertheless, so that the plan names them.
func (m *maker) switchOn() {
	var down []state.Link
	for _, w := range m.parentsFirst() {
		if w.Up && !m.now.links[w.Name].Up {
			down = append(down, w)
		}
	}
	for _, l := range down {
		m.do(SetUp{l.Name, true})
	}
}

// switchOff switches links off, those on top first.
func (m *maker) switchOff() {
	links := m.parentsFirst()
	slices.Reverse(links)
	for _, w := range links {
		if now, ok := m.now.links[w.Name]; ok && now.Up && !w.Up {
			m.do(SetUp{w.Name, false})
		}
	}
}
