//go:build linux

package apply

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/state"
)

// Observe returns what the kernel holds of what Bulkhead answers for:
//
//   - every network card, and the links that we made;
//   - the addresses of links that carry our mark, or that want marks, since the
//     addresses of a link that we take over become ours to remove;
//   - the routes with our protocol number;
//   - the settings that want names;
//   - our table of the packet filter.
//
// IPv6 addresses that the kernel makes by itself (link-local, and those out of
// router advertisements) are left out.
func (k *Kernel) Observe(want state.State) (state.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	links, err := k.links()
	if err != nil {
		return state.State{}, err
	}
	s := state.State{Links: stateLinks(links)}
	if s.Addrs, err = k.stateAddrs(links, want); err != nil {
		return state.State{}, err
	}
	if s.Routes, err = k.stateRoutes(links); err != nil {
		return state.State{}, err
	}
	if s.Sysctls, err = k.sysctls(want.Sysctls); err != nil {
		return state.State{}, err
	}
	if s.Ruleset, err = k.rules.Observe(k.loaded); err != nil {
		return state.State{}, fmt.Errorf("observe ruleset: %w", err)
	}
	return s, nil
}

func nameOf(links []link, index uint32) (string, bool) {
	i := slices.IndexFunc(links, func(l link) bool { return l.index == index })
	if i < 0 {
		return "", false
	}
	return links[i].name, true
}

func stateLinks(links []link) []state.Link {
	var list []state.Link
	for _, l := range links {
		s := state.Link{Name: l.name, Up: l.up, Alias: l.alias, MTU: l.mtu}
		switch {
		case l.kind == kindVLAN && l.managed():
			s.Kind, s.VLAN = state.VLAN, l.vlan
			s.Parent, _ = nameOf(links, l.parent)
		case !l.ether && !l.managed():
			continue
		}
		list = append(list, s)
	}
	return list
}

func (k *Kernel) stateAddrs(links []link, want state.State) ([]state.Addr, error) {
	ours := make(map[uint32]string)
	for _, l := range links {
		wanted := slices.ContainsFunc(want.Links, func(w state.Link) bool { return w.Name == l.name && w.Managed() })
		if l.managed() || wanted {
			ours[l.index] = l.name
		}
	}
	msgs, err := k.addrs(0)
	if err != nil {
		return nil, err
	}
	var list []state.Addr
	for _, m := range msgs {
		name, ok := ours[m.Index]
		if p := prefixOf(m); ok && p.IsValid() && !kernelMade(m) {
			list = append(list, state.Addr{Link: name, Prefix: p})
		}
	}
	slices.SortFunc(list, func(a, b state.Addr) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Compare(b.Prefix))
	})
	return slices.Compact(list), nil // one address with several peers is one to us
}

// kernelMade reports whether the kernel gave itself the address.
func kernelMade(m rtnetlink.AddressMessage) bool {
	return m.Family == unix.AF_INET6 &&
		(m.Scope == unix.RT_SCOPE_LINK || m.Attributes.Flags&unix.IFA_F_PERMANENT == 0)
}

func (k *Kernel) stateRoutes(links []link) ([]state.Route, error) {
	var list []state.Route
	for _, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := k.routes(f, state.RouteProtocol)
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if name, ok := nameOf(links, m.Attributes.OutIface); ok {
				list = append(list, routeOf(m, name))
			}
		}
	}
	slices.SortFunc(list, func(a, b state.Route) int {
		return cmp.Or(a.Dst.Compare(b.Dst), a.Gateway.Compare(b.Gateway), cmp.Compare(a.Link, b.Link))
	})
	return slices.Compact(list), nil
}

// Facts returns what only the kernel knows: its network cards, sorted by name, and
// what it can do. Everything that speaks Ethernet counts as a network card, but for
// VLAN links, which have their card's MAC. A card is known by the MAC that it was
// made with, where its driver tells, and otherwise by the one in force.
func (k *Kernel) Facts() ([]facts.Link, facts.Kernel, error) {
	links, err := k.links()
	if err != nil {
		return nil, facts.Kernel{}, err
	}
	var list []facts.Link
	for _, l := range links {
		if !l.ether || l.kind == kindVLAN {
			continue
		}
		mac := l.mac
		if len(l.permMAC) > 0 {
			mac = l.permMAC
		}
		list = append(list, facts.Link{Name: l.name, MAC: mac.String(), Kind: l.kind, Carrier: l.carrier})
	}
	return list, facts.Kernel{VLAN: k.vlan, Flowtable: k.flowtable}, nil
}
