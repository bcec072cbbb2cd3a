package compile

import (
	"net/netip"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

func (c *compiler) compileDHCP() svcconf.DHCP {
	var d svcconf.DHCP
	for _, z := range c.cfg.Zones {
		link, ok := c.links[z.Name]
		if !ok || !z.DHCP.Enabled {
			continue
		}
		zone := svcconf.DHCPZone{
			Zone: z.Name, Link: link, Address: netip.PrefixFrom(z.Gateway, z.Subnet.Bits()),
			First: z.DHCP.Pool.First, Last: z.DHCP.Pool.Last, Lease: svcconf.Duration(z.DHCP.Lease),
			Router: z.Gateway, Domain: c.cfg.System.Domain, NTP: z.DHCP.NTP,
		}
		if z.DNS.Enabled {
			zone.Resolvers = []netip.Addr{z.Gateway}
		}
		for _, dev := range c.cfg.Devices {
			if a := c.policy.AddressOf(dev); dev.Zone == z && a.IsValid() {
				zone.Reservations = append(zone.Reservations, svcconf.Reservation{Name: dev.Name, MAC: dev.MAC, Address: a})
			}
		}
		d.Zones = append(d.Zones, zone)
	}
	return d
}

func (c *compiler) compileDNS() svcconf.DNS {
	d := svcconf.DNS{Domain: c.cfg.System.Domain, Name: c.cfg.System.Name, Resolvers: c.resolvers}
	for _, z := range c.cfg.Zones {
		if link, ok := c.links[z.Name]; ok && z.DNS.Enabled {
			d.Zones = append(d.Zones, svcconf.DNSZone{
				Zone: z.Name, Link: link, Address: z.Gateway, Subnet: z.Subnet, Block: z.DNS.Block, Force: z.DNS.Force,
				Names: z.Flows == model.RecordFull,
			})
		}
	}
	for _, z := range c.cfg.Zones {
		if link, ok := c.links[z.Name]; ok && c.policy.Isolates() {
			d.Notices = append(d.Notices, svcconf.Notice{Zone: z.Name, Link: link, Address: z.Gateway})
		}
	}
	for _, dev := range c.cfg.Devices {
		if a := c.policy.AddressOf(dev); a.IsValid() {
			d.Hosts = append(d.Hosts, svcconf.Host{Name: dev.Name, Address: a})
		}
	}
	return d
}

func (c *compiler) compileWAN() svcconf.WAN {
	u := c.cfg.Uplink
	if u == nil || c.links[model.Internet] == "" {
		return svcconf.WAN{}
	}
	return svcconf.WAN{
		Link: c.links[model.Internet], Mode: u.IPv4.Mode, Hostname: c.cfg.System.Name,
		Address: u.IPv4.Address, Gateway: u.IPv4.Gateway, Resolvers: u.IPv4.Resolvers,
	}
}

func (c *compiler) compileFlow() svcconf.Flow {
	keep := c.cfg.Flows
	f := svcconf.Flow{Keep: svcconf.FlowKeep{Age: svcconf.Duration(keep.Keep), Size: keep.Size}}
	for _, z := range c.cfg.Zones {
		if link, ok := c.links[z.Name]; ok {
			f.Zones = append(f.Zones, svcconf.FlowZone{Zone: z.Name, Link: link, Subnet: z.Subnet, Address: z.Gateway, Record: z.Flows})
		}
	}
	if link := c.links[model.Internet]; link != "" {
		f.Uplink = svcconf.FlowUplink{Link: link, Address: c.uplink().Addr()}
	}
	for _, d := range c.cfg.Devices {
		if a := c.policy.AddressOf(d); a.IsValid() {
			f.Devices = append(f.Devices, svcconf.FlowDevice{Name: d.Name, Zone: d.Zone.Name, MAC: d.MAC, Address: a, Critical: d.Critical})
		}
	}
	for _, r := range c.policy.Rules {
		f.Rules = append(f.Rules, svcconf.FlowRule{Mark: r.Mark(), Name: r.Name})
	}
	for _, r := range policy.Reasons() {
		f.Reasons = append(f.Reasons, svcconf.FlowRule{Mark: r.Mark(), Name: string(r)})
	}
	return f
}

func (c *compiler) compileWeb() svcconf.Web {
	w := svcconf.Web{
		Name: c.cfg.System.Name, Domain: c.cfg.System.Domain, Listen: c.adminAddrs(), Gokrazy: c.cfg.System.Updates.Gokrazy,
		ClientCertificates: c.cfg.System.ClientCertificates,
	}
	for _, z := range c.adminZones() {
		w.From = append(w.From, z.Subnet)
	}
	return w
}

// compileDiag says where somebody may look for what goes wrong.
func (c *compiler) compileDiag() (d svcconf.Diag) {
	for _, z := range c.cfg.Zones {
		if link, ok := c.links[z.Name]; ok {
			d.Zones = append(d.Zones, svcconf.DiagZone{Zone: z.Name, Link: link, Address: z.Gateway})
		}
	}
	if link := c.links[model.Internet]; link != "" {
		d.Zones = append(d.Zones, svcconf.DiagZone{Zone: model.Internet, Link: link})
	}
	return d
}

// compilePush says where the history goes. What there is of it, netcfgd adds.
func (c *compiler) compilePush() svcconf.Push {
	p, to := c.cfg.System.Push, c.policy.RemoteOfHistory()
	if !to.IsValid() {
		return svcconf.Push{}
	}
	return svcconf.Push{Remote: to, User: p.User, Path: p.Path, KnownHost: p.KnownHost, Secret: p.Key}
}

// adminZones are the admin zones whose link is there.
func (c *compiler) adminZones() (list []*model.Zone) {
	for _, z := range c.cfg.Zones {
		if _, ok := c.links[z.Name]; ok && z.Admin {
			list = append(list, z)
		}
	}
	return list
}

// adminAddrs are the box's addresses in them.
func (c *compiler) adminAddrs() (list []netip.Addr) {
	for _, z := range c.adminZones() {
		list = append(list, z.Gateway)
	}
	return list
}

// compileUpdate asks for what the services of this configuration can answer. Without
// its link a zone has no service to ask, before the update as after it.
func (c *compiler) compileUpdate() svcconf.Update {
	u := svcconf.Update{Admin: c.adminAddrs(), Uplink: c.cfg.Uplink != nil, Gokrazy: c.cfg.System.Updates.Gokrazy}
	for _, z := range c.cfg.Zones {
		link, ok := c.links[z.Name]
		if !ok {
			continue
		}
		if z.DHCP.Enabled {
			u.DHCP = append(u.DHCP, svcconf.UpdateDHCP{Zone: z.Name, Link: link, Address: netip.PrefixFrom(z.Gateway, z.Subnet.Bits())})
		}
		if z.DNS.Enabled {
			name := c.cfg.System.Name + "." + c.cfg.System.Domain
			u.DNS = append(u.DNS, svcconf.UpdateDNS{Zone: z.Name, Name: name, Address: z.Gateway})
		}
	}
	return u
}
