package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"bulkhead/netcfg/state"
)

// Keys of /proc/sys that switch forwarding on: the door between all networks.
const (
	forward4    = "net/ipv4/ip_forward"
	forward4All = "net/ipv4/conf/all/forwarding" // the same variable
	forward6    = "net/ipv6/conf/all/forwarding"
	redirects4  = "net/ipv4/conf/all/accept_redirects"
)

func isForwarding(key string) bool {
	return key == forward4 || key == forward4All || key == forward6
}

// LinkOfSysctl returns the link that a setting belongs to, and "" if it belongs to
// none: net/ipv4/conf/trunk.40/rp_filter belongs to trunk.40.
func LinkOfSysctl(key string) string {
	p := strings.Split(key, "/")
	if len(p) < 5 || p[0] != "net" || p[1] != "ipv4" && p[1] != "ipv6" || p[2] != "conf" && p[2] != "neigh" {
		return ""
	}
	if p[3] == "all" || p[3] == "default" {
		return ""
	}
	return p[3]
}

// After predicts what a kernel in state s holds once a change is carried out. It
// knows what Linux does on its own: routes go with the last address of a link and
// with a link that is switched off, as do addresses of IPv6; VLAN links follow their
// parent; and switching forwarding resets other settings.
func After(s state.State, c Change) state.State {
	k := kernelOf(s)
	k.apply(c)
	return k.state()
}

// kernel is a state in a form that is easily changed.
type kernel struct {
	links   map[string]state.Link
	addrs   map[state.Addr]bool
	routes  map[state.Route]bool
	sysctls map[string]string
	ruleset state.Ruleset
}

func kernelOf(s state.State) *kernel {
	k := &kernel{
		links:   make(map[string]state.Link, len(s.Links)),
		addrs:   make(map[state.Addr]bool, len(s.Addrs)),
		routes:  make(map[state.Route]bool, len(s.Routes)),
		sysctls: make(map[string]string, len(s.Sysctls)),
		ruleset: s.Ruleset,
	}
	for _, l := range s.Links {
		k.links[l.Name] = l
	}
	for _, a := range s.Addrs {
		k.addrs[a] = true
	}
	for _, r := range s.Routes {
		k.routes[r] = true
	}
	for _, c := range s.Sysctls {
		k.sysctls[c.Key] = c.Value
	}
	return k
}

func (k *kernel) state() state.State {
	s := state.State{Ruleset: k.ruleset}
	for _, name := range slices.Sorted(maps.Keys(k.links)) {
		s.Links = append(s.Links, k.links[name])
	}
	s.Addrs = k.sortedAddrs()
	s.Routes = k.sortedRoutes()
	for _, key := range slices.Sorted(maps.Keys(k.sysctls)) {
		s.Sysctls = append(s.Sysctls, state.Sysctl{Key: key, Value: k.sysctls[key]})
	}
	return s
}

func (k *kernel) sortedAddrs() []state.Addr {
	return slices.SortedFunc(maps.Keys(k.addrs), func(a, b state.Addr) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Compare(b.Prefix))
	})
}

func (k *kernel) sortedRoutes() []state.Route {
	return slices.SortedFunc(maps.Keys(k.routes), func(a, b state.Route) int {
		return cmp.Or(a.Dst.Compare(b.Dst), a.Gateway.Compare(b.Gateway), cmp.Compare(a.Link, b.Link))
	})
}

func (k *kernel) apply(c Change) {
	switch c := c.(type) {
	case CreateLink:
		k.createLink(c.Link)
	case DeleteLink:
		k.deleteLink(c.Link.Name)
	case SetUp:
		k.setUp(c.Link, c.Up)
	case SetMTU:
		k.setMTU(c.Link, c.To)
	case SetAlias:
		k.setAlias(c.Link, c.To)
	case AddAddr:
		k.addrs[c.Addr] = true
	case DeleteAddr:
		k.deleteAddr(c.Addr)
	case AddRoute:
		k.routes[c.Route] = true
	case DeleteRoute:
		delete(k.routes, c.Route)
	case ReplaceRoute:
		delete(k.routes, c.From)
		k.routes[c.To] = true
	case SetSysctl:
		k.setSysctl(c.Key, c.To)
	case LoadRuleset:
		k.ruleset = c.To
	}
}

func (k *kernel) createLink(l state.Link) {
	l.Up = false
	if l.MTU == 0 {
		l.MTU = k.links[l.Parent].MTU
	}
	k.links[l.Name] = l
}

func (k *kernel) deleteLink(name string) {
	delete(k.links, name)
	k.dropRoutes(name)
	maps.DeleteFunc(k.addrs, func(a state.Addr, _ bool) bool { return a.Link == name })
	for key := range k.sysctls {
		if LinkOfSysctl(key) == name {
			k.sysctls[key] = "" // gone, and back with a default if the link is
		}
	}
}

// setUp switches a link, and the VLAN links on it: net/8021q/vlan.c,
// vlan_device_event.
func (k *kernel) setUp(name string, up bool) {
	l := k.links[name]
	l.Name, l.Up = name, up
	k.links[name] = l
	if !up {
		k.dropRoutes(name)
		maps.DeleteFunc(k.addrs, func(a state.Addr, _ bool) bool { return a.Link == name && a.Prefix.Addr().Is6() })
	}
	for _, child := range k.children(name) {
		k.setUp(child, up)
	}
}

// setMTU changes a link's MTU, and those of the VLAN links on it that no longer fit.
func (k *kernel) setMTU(name string, mtu int) {
	l := k.links[name]
	l.Name, l.MTU = name, mtu
	k.links[name] = l
	for _, child := range k.children(name) {
		if k.links[child].MTU > mtu {
			k.setMTU(child, mtu)
		}
	}
}

func (k *kernel) children(parent string) []string {
	var names []string
	for name, l := range k.links {
		if l.Kind == state.VLAN && l.Parent == parent {
			names = append(names, name)
		}
	}
	return names
}

func (k *kernel) setAlias(name, alias string) {
	l := k.links[name]
	l.Name, l.Alias = name, alias
	k.links[name] = l
	if !l.Managed() { // addresses of foreign links are not observed
		maps.DeleteFunc(k.addrs, func(a state.Addr, _ bool) bool { return a.Link == name })
	}
}

// deleteAddr removes an address. With the last one of IPv4, Linux removes all IPv4
// routes of the link: net/ipv4/fib_frontend.c, fib_inetaddr_event.
func (k *kernel) deleteAddr(a state.Addr) {
	delete(k.addrs, a)
	if !a.Prefix.Addr().Is4() {
		return
	}
	for other := range k.addrs {
		if other.Link == a.Link && other.Prefix.Addr().Is4() {
			return
		}
	}
	maps.DeleteFunc(k.routes, func(r state.Route, _ bool) bool { return r.Link == a.Link && r.Dst.Addr().Is4() })
}

func (k *kernel) dropRoutes(link string) {
	maps.DeleteFunc(k.routes, func(r state.Route, _ bool) bool { return r.Link == link })
}

// setSysctl changes a setting. Switching IPv4 forwarding also sets every link's own
// switch, and accept_redirects to the opposite: net/ipv4/devinet.c,
// inet_forward_change.
func (k *kernel) setSysctl(key, value string) {
	changed := k.sysctls[key] != value
	k.sysctls[key] = value
	if key != forward4 && key != forward4All || !changed {
		return
	}
	for other := range k.sysctls {
		p := strings.Split(other, "/")
		switch {
		case other == redirects4 && value == "0":
			k.sysctls[other] = "1"
		case other == redirects4:
			k.sysctls[other] = "0"
		case other == forward4, len(p) == 5 && strings.HasPrefix(other, "net/ipv4/conf/") && p[4] == "forwarding":
			k.sysctls[other] = value
		}
	}
}
