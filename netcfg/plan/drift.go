package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"bulkhead/netcfg/state"
)

// Kind says what kind of thing somebody else has changed.
type Kind string

// The kinds.
const (
	KindLink    Kind = "link"
	KindAddr    Kind = "address"
	KindRoute   Kind = "route"
	KindSysctl  Kind = "setting"
	KindRuleset Kind = "rules"
)

// Finding is one difference between what Bulkhead left behind and what is there now.
type Finding struct {
	Kind Kind
	// Name is the link's name, the address, the destination of the route or the key of
	// the setting; "" for the rules.
	Name string
	// What is how it was found: "address 10.9.9.9/24 was added to trunk.10".
	What string
}

// Drift returns what somebody else has done to what Bulkhead owns: what is not as
// Bulkhead left it, and not as it is wanted now either. With the latter, a network
// card that was pulled or a lease that has ended is no drift: what follows from them
// is not wanted any more.
//
// A link that is gone, or new, stands for all that is gone with it. Of a setting that
// the kernel changes because of another, both are told of.
func Drift(left, wanted, found state.State) []Finding {
	d := &drift{left: kernelOf(left), want: kernelOf(wanted), found: kernelOf(found)}
	d.ruleset()
	d.links()
	d.addrs()
	d.routes()
	d.sysctls()
	return d.list
}

type drift struct {
	left, want, found *kernel
	list              []Finding
}

func (d *drift) add(kind Kind, name, format string, args ...any) {
	d.list = append(d.list, Finding{kind, name, fmt.Sprintf(format, args...)})
}

func (d *drift) ruleset() {
	left, found := d.left.ruleset, d.found.ruleset
	switch {
	case !left.Present():
	case !found.Present():
		d.add(KindRuleset, "", "the rules of the packet filter were gone")
	case found.Unhooked && len(found.Changes) == 0:
		if d.want.ruleset.Digest == left.Digest { // the card is where it was
			d.add(KindRuleset, "", "the flowtable of the packet filter had lost a device")
		}
	case found.Foreign && len(found.Changes) == 0:
		d.add(KindRuleset, "", "the rules of the packet filter were not as Bulkhead left them")
	default:
		for _, what := range found.Changes {
			d.add(KindRuleset, "", "rules of the packet filter: %s", what)
		}
	}
}

func (d *drift) links() {
	for _, name := range slices.Sorted(maps.Keys(d.left.links)) {
		left := d.left.links[name]
		want, wanted := d.want.links[name]
		found, there := d.found.links[name]
		switch {
		case !left.Managed() || !wanted || !want.Managed():
		case !there:
			d.add(KindLink, name, "%s was gone", name)
		case found.Kind != left.Kind || found.Parent != left.Parent || found.VLAN != left.VLAN:
			d.add(KindLink, name, "%s was another link of that name", name)
		default:
			d.link(left, want, found)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.found.links)) {
		found := d.found.links[name]
		if found.Managed() && !d.left.links[name].Managed() && !d.want.links[name].Managed() {
			d.add(KindLink, name, "%s had Bulkhead's mark (alias %q)", name, found.Alias)
		}
	}
}

func (d *drift) link(left, want, found state.Link) {
	if found.Alias != left.Alias && found.Alias != want.Alias {
		d.add(KindLink, left.Name, "%s had the alias %q instead of %q", left.Name, found.Alias, left.Alias)
	}
	if found.MTU != left.MTU && left.MTU != 0 && want.MTU != 0 && found.MTU != want.MTU {
		d.add(KindLink, left.Name, "the MTU of %s was %d bytes instead of %d", left.Name, found.MTU, left.MTU)
	}
	if found.Up != left.Up && found.Up != want.Up {
		d.add(KindLink, left.Name, "%s was switched %s", left.Name, onOff(found.Up))
	}
}

// there reports whether a link is where it was left, so that what is on it counts by
// itself.
func (d *drift) there(link string) bool {
	_, ok := d.found.links[link]
	return ok
}

func (d *drift) addrs() {
	for _, a := range d.left.sortedAddrs() {
		if d.want.addrs[a] && !d.found.addrs[a] && d.there(a.Link) {
			d.add(KindAddr, a.Prefix.String(), "address %s was missing from %s", a.Prefix, a.Link)
		}
	}
	for _, a := range d.found.sortedAddrs() {
		if !d.left.addrs[a] && !d.want.addrs[a] && d.left.links[a.Link].Managed() {
			d.add(KindAddr, a.Prefix.String(), "address %s was added to %s", a.Prefix, a.Link)
		}
	}
}

func (d *drift) routes() {
	turned := make(map[netip.Prefix]bool)
	for _, r := range d.found.sortedRoutes() {
		if !d.left.routes[r] && !d.want.routes[r] {
			turned[r.Dst] = true
			d.add(KindRoute, r.Dst.String(), "%s was routed %s", traffic(r), way(r))
		}
	}
	for _, r := range d.left.sortedRoutes() {
		if d.want.routes[r] && !d.found.routes[r] && !turned[r.Dst] && d.there(r.Link) {
			d.add(KindRoute, r.Dst.String(), "%s was not routed %s", traffic(r), way(r))
		}
	}
}

func (d *drift) sysctls() {
	for _, key := range slices.Sorted(maps.Keys(d.left.sysctls)) {
		left := d.left.sysctls[key]
		want, wanted := d.want.sysctls[key]
		found, looked := d.found.sysctls[key]
		switch {
		case !wanted || !looked || found == left || found == want:
		case found != "":
			d.add(KindSysctl, key, "%s was %s instead of %s", key, found, left)
		case LinkOfSysctl(key) == "" || d.there(LinkOfSysctl(key)):
			d.add(KindSysctl, key, "%s could not be found", key)
		}
	}
}
