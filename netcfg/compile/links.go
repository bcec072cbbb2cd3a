package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/state"
)

// maxLinkName is the kernel's IFNAMSIZ less the final zero.
const maxLinkName = 15

// compileLinks finds or names a link for every zone and the uplink, and remembers
// which is whose. With all, ports that nobody uses are brought up as well.
func (c *compiler) compileLinks(all bool) []state.Link {
	var links []state.Link
	add := func(l state.Link) {
		if !slices.ContainsFunc(links, func(o state.Link) bool { return o.Name == l.Name }) {
			links = append(links, l)
		}
	}
	place := func(party string, port *model.Port, vlan uint16, purpose string, admin bool) {
		alias := state.Alias(purpose, admin)
		if link, ok := c.facts.LinkOf(port.Name, vlan); ok {
			c.links[party] = link
			add(state.Link{Name: link, Up: true, Alias: alias})
			return
		}
		parent, ok := c.facts.LinkWithMAC(port.MAC.String())
		if !ok {
			c.miss("%s: port %s is missing: no network card has the MAC %s", party, port.Name, port.MAC)
			return
		}
		if vlan == 0 {
			c.links[party] = parent
			add(state.Link{Name: parent, Up: true, Alias: alias})
			return
		}
		if !c.facts.Kernel.VLAN {
			c.miss("%s: VLAN %d of port %s needs a kernel with CONFIG_VLAN_8021Q", party, vlan, port.Name)
			return
		}
		name := c.vlanName(port.Name, vlan)
		c.links[party] = name
		add(state.Link{Name: parent, Up: true, Alias: state.Alias("port "+port.Name, c.administers(port))})
		add(state.Link{Name: name, Kind: state.VLAN, Parent: parent, VLAN: vlan, Up: true, Alias: alias})
	}
	// Untagged users of a port come first: their alias says more than the port's.
	zones := slices.SortedStableFunc(slices.Values(c.cfg.Zones), func(a, b *model.Zone) int {
		return cmp.Compare(min(a.VLAN, 1), min(b.VLAN, 1))
	})
	if u := c.cfg.Uplink; u != nil {
		place(model.Internet, u.Port, u.VLAN, "uplink", false)
	}
	for _, z := range zones {
		place(z.Name, z.Port, z.VLAN, "zone "+z.Name, z.Admin)
	}
	for _, p := range c.cfg.Ports {
		if link, ok := c.facts.LinkWithMAC(p.MAC.String()); ok && all {
			add(state.Link{Name: link, Up: true, Alias: state.Alias("port "+p.Name, false)})
		}
	}
	slices.SortFunc(links, func(a, b state.Link) int { return cmp.Compare(a.Name, b.Name) })
	return links
}

// administers reports whether a port carries an admin zone.
func (c *compiler) administers(p *model.Port) bool {
	return slices.ContainsFunc(c.cfg.Zones, func(z *model.Zone) bool { return z.Port == p && z.Admin })
}

// vlanName is <port>.<vlan>, with the port's name cut so that it fits. Where cutting
// makes two names one, or a network card is called so already, the end of the port's
// name gives way to a number: abcdefghij-2.10.
func (c *compiler) vlanName(port string, vlan uint16) string {
	suffix := fmt.Sprintf(".%d", vlan)
	for n := 1; ; n++ {
		if n > 1 {
			suffix = fmt.Sprintf("-%d.%d", n, vlan)
		}
		name := port[:min(len(port), maxLinkName-len(suffix))] + suffix
		if !c.taken(name) {
			return name
		}
	}
}

// taken reports whether a link has the name.
func (c *compiler) taken(name string) bool {
	for _, link := range c.links {
		if link == name {
			return true
		}
	}
	return c.present(name)
}

// present reports whether there is a network card of that name.
func (c *compiler) present(name string) bool {
	return slices.ContainsFunc(c.facts.Links, func(l facts.Link) bool { return l.Name == name })
}

func (c *compiler) compileAddrs() []state.Addr {
	var addrs []state.Addr
	for _, z := range c.cfg.Zones {
		if link, ok := c.links[z.Name]; ok {
			addrs = append(addrs, state.Addr{Link: link, Prefix: netip.PrefixFrom(z.Gateway, z.Subnet.Bits())})
		}
	}
	if link, l := c.links[model.Internet], c.lease(); link != "" && l != nil {
		addrs = append(addrs, state.Addr{Link: link, Prefix: l.Address})
	}
	if u := c.facts.Uplink; u != nil && c.cfg.Uplink != nil {
		if z := c.trespasser(u); z != nil {
			c.miss("internet: the uplink offers %s with gateway %s, which reaches into zone %s (%s): give the zone another subnet",
				u.Address, u.Gateway, z.Name, z.Subnet)
		}
	}
	slices.SortFunc(addrs, func(a, b state.Addr) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return addrs
}

func (c *compiler) compileRoutes() []state.Route {
	link, l := c.links[model.Internet], c.lease()
	if link == "" || l == nil || !l.Gateway.Is4() {
		return nil
	}
	var routes []state.Route
	if !l.Address.Contains(l.Gateway) {
		// Some providers put the gateway outside the network they hand out.
		routes = append(routes, state.Route{Dst: netip.PrefixFrom(l.Gateway, 32), Link: link})
	}
	return append(routes, state.Route{
		Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: l.Gateway, Link: link,
	})
}

func (c *compiler) compileSysctls() []state.Sysctl {
	list := []state.Sysctl{
		{Key: "net/ipv4/ip_forward", Value: "0"},
		{Key: "net/ipv6/conf/all/forwarding", Value: "0"},
		// The box answers ARP for an address only on the link that has it, or a
		// zone could find the box's addresses in other zones.
		{Key: "net/ipv4/conf/all/arp_ignore", Value: "1"},
		{Key: "net/ipv4/conf/all/arp_announce", Value: "2"},
		{Key: "net/ipv4/conf/all/accept_redirects", Value: "0"},
		{Key: "net/ipv4/conf/all/accept_source_route", Value: "0"},
		{Key: "net/ipv4/conf/all/send_redirects", Value: "0"},
		{Key: "net/ipv4/conf/default/send_redirects", Value: "0"},
		{Key: "net/netfilter/nf_conntrack_acct", Value: "1"},
		{Key: "net/netfilter/nf_conntrack_timestamp", Value: "1"},
		// At its default of 2, flows made before a listener came emit no events.
		{Key: "net/netfilter/nf_conntrack_events", Value: "1"},
	}
	if !c.closed {
		list[0].Value = "1"
	}
	for _, link := range c.links {
		// Redirects are sent if either the link's or all's setting says so.
		list = append(list, state.Sysctl{Key: "net/ipv4/conf/" + link + "/send_redirects", Value: "0"})
	}
	slices.SortFunc(list, func(a, b state.Sysctl) int { return cmp.Compare(a.Key, b.Key) })
	return list
}
