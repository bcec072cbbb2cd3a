//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Addresses of the pretended internet. The last lies outside the networks that are
// set aside for documentation, because the gateway takes those for forged unless
// they are its uplink's own; 192.88.99.0/24 is set aside, too (RFC 7526), but
// routers are told not to filter it.
var (
	internetNet = netip.MustParsePrefix("203.0.113.1/24")
	outsideAddr = netip.MustParseAddr("203.0.113.50") // a client on the uplink's own network
	farRouter   = netip.MustParsePrefix("192.88.99.1/24")
	farAddr     = netip.MustParseAddr("192.88.99.10") // one behind a router
	uplinkFirst = netip.MustParseAddr("203.0.113.100")
	uplinkLast  = netip.MustParseAddr("203.0.113.199")

	internetDomain = "www.example.com" // the one name and page that the internet has
)

// Client is a machine in one of the zones.
type Client struct {
	*Host
	Zone   *model.Zone
	Device *model.Device // nil: a stranger
	MAC    model.MAC
	// Program is the DHCP client it runs: "dhclient", "udhcpc"; "" for a machine
	// with an address of its own choice.
	Program string
	Addr    netip.Addr // zero until it has one
}

// Lab is a gateway with everything around it.
type Lab struct {
	World  *World
	Config *model.Config
	Tagged bool // the trunk is a real 802.1Q trunk

	Gateway  *Host // nil if it is a virtual machine
	Internet *Host // router, DHCP server, name server and web server
	Outside  *Host // a machine on the uplink's network
	Far      *Host // a machine behind Internet
	Clients  []*Client

	runningLab
	// Spare are VLANs that the file does not use, for changes to come. They are wired
	// like zones.
	Spare []*model.Zone

	panel    *panel // of a lab whose gateway is a virtual machine; the switch otherwise
	sw       *Host  // the switch: a bridge for each segment
	provided []facts.Provided
	// Uplink is the address that the gateway was given; zero: none yet.
	Uplink netip.Prefix

	links map[string]string // zone's name, or "internet", to the gateway's link
	ports int               // of the switch, so far
	asked int               // questions, so far
}

// Names of the hosts that every lab has. A device of the same name gets another.
const (
	gatewayName  = "gw"
	switchName   = "switch"
	internetName = "internet"
	outsideName  = "outside"
	farName      = "far"
)

// population says who lives in the zones: every device of the file, a stranger in
// each zone that has none, and one called laptop in the zone guest.
func population(cfg *model.Config) []*Client {
	var list []*Client
	inhabited := make(map[*model.Zone]bool)
	for _, d := range cfg.Devices {
		name := d.Name
		if slices.Contains([]string{gatewayName, switchName, outsideName, farName}, name) {
			name += "-device"
		}
		list = append(list, &Client{Host: &Host{Name: name}, Zone: d.Zone, Device: d, MAC: d.MAC})
		inhabited[d.Zone] = true
	}
	for _, z := range cfg.Zones {
		switch {
		case z.Name == "guest" && cfg.Device("laptop") == nil:
			list = append(list, stranger("laptop", z, len(list)))
		case !inhabited[z]:
			list = append(list, stranger(z.Name+"-pc", z, len(list)))
		}
	}
	for i, c := range list {
		switch {
		case c.Zone.DHCP.Enabled:
			c.Program = [...]string{"dhclient", "udhcpc"}[i%2]
		case c.Device != nil && c.Device.Address.IsValid():
			c.Addr = c.Device.Address
		default:
			c.Addr = policy.Broadcast(c.Zone.Subnet).Prev()
		}
	}
	return list
}

// stranger is a machine that the inventory does not know.
func stranger(name string, z *model.Zone, n int) *Client {
	return &Client{Host: &Host{Name: name}, Zone: z, MAC: model.MAC{0x52, 0x54, 0x00, 0xee, byte(n >> 8), byte(n)}}
}

// build makes the hosts and the wires between them. Nothing has an address yet but
// the internet.
func (l *Lab) build() error {
	var err error
	if l.sw, err = l.World.NewHost(switchName); err != nil {
		return err
	}
	if l.Gateway, err = l.World.NewHost(gatewayName); err != nil {
		return err
	}
	if err := l.makeHosts(); err != nil {
		return err
	}
	l.links = make(map[string]string)
	l.Tagged = l.canTag()
	if err := l.wireGateway(); err != nil {
		return err
	}
	if err := l.wireInternet(); err != nil {
		return err
	}
	for _, c := range l.Clients {
		if err := l.plugIn(c); err != nil {
			return err
		}
	}
	return nil
}

// makeHosts makes the internet's hosts and the clients.
func (l *Lab) makeHosts() (err error) {
	for _, h := range []struct {
		host **Host
		name string
	}{{&l.Internet, internetName}, {&l.Outside, outsideName}, {&l.Far, farName}} {
		if *h.host, err = l.World.NewHost(h.name); err != nil {
			return err
		}
	}
	for _, c := range l.Clients {
		if c.Host, err = l.World.NewHost(c.Name); err != nil {
			return err
		}
	}
	return nil
}

// canTag reports whether the kernel has 802.1Q devices and bridges that filter by
// VLAN. It is asked in the switch, where nothing is yet.
func (l *Lab) canTag() bool {
	return l.sw.IP(`link add name try0 type bridge vlan_filtering 1
link add link try0 name try0.2 type vlan id 2
link delete try0.2
link delete try0`) == nil
}

// segment is the bridge in the switch that a zone's machines are plugged into: one
// for each zone, or a single one for everything on a tagged trunk.
func (l *Lab) segment(zone string) string {
	if z := l.zone(zone); z != nil && z.VLAN != 0 && l.Tagged {
		return bridgeName("t-" + z.Port.Name)
	}
	if u := l.Config.Uplink; zone == model.Internet && u.VLAN != 0 && l.Tagged {
		return bridgeName("t-" + u.Port.Name)
	}
	return bridgeName("z-" + zone)
}

// zone returns the zone or spare VLAN of that name, or nil.
func (l *Lab) zone(name string) *model.Zone {
	if i := slices.IndexFunc(l.Spare, func(z *model.Zone) bool { return z.Name == name }); i >= 0 {
		return l.Spare[i]
	}
	return l.Config.Zone(name)
}

// spares makes a spare zone of each VLAN, on the port of the file's first tagged zone,
// or of its first.
func (l *Lab) spares(vlans []uint16) {
	port := l.Config.Zones[0].Port
	if i := slices.IndexFunc(l.Config.Zones, func(z *model.Zone) bool { return z.VLAN != 0 }); i >= 0 {
		port = l.Config.Zones[i].Port
	}
	for _, v := range vlans {
		l.Spare = append(l.Spare, &model.Zone{Name: fmt.Sprintf("spare-%d", v), Port: port, VLAN: v})
	}
}

// bridgeName cuts a name to the 15 bytes that the kernel allows, keeping the end
// different for different names by a checksum of the whole.
func bridgeName(s string) string {
	if len(s) <= 15 {
		return s
	}
	var sum uint32
	for _, b := range []byte(s) {
		sum = sum*31 + uint32(b)
	}
	return fmt.Sprintf("%s%05x", s[:10], sum&0xfffff)
}

// wireGateway gives the gateway its ports. A port that carries VLANs is a trunk
// with tags where the kernel can do it (which no test here has run on: the machine
// that the tests run on lacks 802.1Q), and otherwise one link for each VLAN, which
// netcfgd is told about.
func (l *Lab) wireGateway() error {
	var gw, sw strings.Builder
	made := make(map[string]bool) // bridges
	bridge := func(name, options string) {
		if !made[name] {
			made[name] = true
			fmt.Fprintf(&sw, "link add name %s type bridge mcast_snooping 0 %s\nlink set dev %s up\n", name, options, name)
		}
	}
	cable := func(link, mac, master string) string {
		peer := fmt.Sprintf("gw%d", l.ports)
		l.ports++
		fmt.Fprintf(&gw, "link add name %s %s type veth peer name %s netns switch\n", link, mac, peer)
		if master != "" {
			fmt.Fprintf(&sw, "link set dev %s master %s up\n", peer, master)
		} else {
			fmt.Fprintf(&sw, "link set dev %s up\n", peer)
		}
		return peer
	}
	attach := func(name string, port *model.Port, vlan uint16) {
		link := port.Name
		bridgeOpts := ""
		switch {
		case vlan == 0:
			bridge(l.segment(name), "")
			cable(link, "address "+port.MAC.String(), l.segment(name))
		case l.Tagged:
			link = fmt.Sprintf("%s.%d", port.Name, vlan) // netcfgd will make it
			bridgeOpts = "vlan_filtering 1 vlan_default_pvid 0"
			bridge(l.segment(name), bridgeOpts)
		default:
			link = fmt.Sprintf("%s.%d", cut(port.Name, 10), vlan)
			bridge(l.segment(name), "")
			cable(link, "", l.segment(name))
			l.provided = append(l.provided, facts.Provided{Port: port.Name, VLAN: vlan, Link: link})
		}
		l.links[name] = link
	}
	for _, z := range slices.Concat(l.Config.Zones, l.Spare) {
		attach(z.Name, z.Port, z.VLAN)
	}
	if u := l.Config.Uplink; u != nil {
		attach(model.Internet, u.Port, u.VLAN)
	} else {
		bridge(l.segment(model.Internet), "")
	}
	trunks := make(map[string]string) // port to the switch's end of it
	for _, p := range l.Config.Ports {
		whole := slices.ContainsFunc(l.Config.Zones, func(z *model.Zone) bool { return z.Port == p && z.VLAN == 0 })
		if whole || !l.carriesVLANs(p) { // a zone on the whole port has it already
			continue
		}
		master := ""
		if l.Tagged {
			master = bridgeName("t-" + p.Name)
		}
		trunks[p.Name] = cable(p.Name, "address "+p.MAC.String(), master)
	}
	if err := l.Gateway.IP(gw.String() + "link set dev lo up"); err != nil {
		return err
	}
	if err := l.sw.IP(sw.String()); err != nil {
		return err
	}
	return l.tagTrunks(trunks)
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

func (l *Lab) carriesVLANs(p *model.Port) bool {
	if u := l.Config.Uplink; u != nil && u.Port == p && u.VLAN != 0 {
		return true
	}
	return slices.ContainsFunc(slices.Concat(l.Config.Zones, l.Spare), func(z *model.Zone) bool { return z.Port == p && z.VLAN != 0 })
}

// tagTrunks lets the switch's ends of the trunks carry their VLANs with tags.
func (l *Lab) tagTrunks(trunks map[string]string) error {
	if !l.Tagged {
		return nil
	}
	member := func(p *model.Port, vlan uint16) error {
		if vlan == 0 {
			return nil
		}
		_, err := l.sw.Output("bridge", "vlan", "add", "dev", trunks[p.Name], "vid", fmt.Sprint(vlan))
		return err
	}
	for _, z := range slices.Concat(l.Config.Zones, l.Spare) {
		if err := member(z.Port, z.VLAN); err != nil {
			return err
		}
	}
	if u := l.Config.Uplink; u != nil {
		return member(u.Port, u.VLAN)
	}
	return nil
}

// plug gives a host an Ethernet port on a zone's segment.
func (l *Lab) plug(h *Host, link, mac, zone string) error {
	if l.panel != nil {
		return l.panel.plug(l.Config, h, link, mac, zone)
	}
	peer := fmt.Sprintf("p%d", l.ports)
	l.ports++
	err := l.sw.IP(fmt.Sprintf("link add name %s type veth peer name %s %s netns %s\nlink set dev %s master %s up",
		peer, link, mac, h.Name, peer, l.segment(zone)))
	if err != nil {
		return err
	}
	if vlan := l.vlanOf(zone); l.Tagged && vlan != 0 {
		if _, err := l.sw.Output("bridge", "vlan", "add", "dev", peer, "vid", fmt.Sprint(vlan), "pvid", "untagged"); err != nil {
			return err
		}
	}
	return h.IP(fmt.Sprintf("link set dev lo up\nlink set dev %s up", link))
}

func (l *Lab) vlanOf(zone string) uint16 {
	if z := l.zone(zone); z != nil {
		return z.VLAN
	}
	if l.Config.Uplink == nil {
		return 0
	}
	return l.Config.Uplink.VLAN
}

// plugIn connects a client to its zone, and gives it its address if it has one of
// its own.
func (l *Lab) plugIn(c *Client) error {
	err := l.plug(c.Host, clientLink, "address "+c.MAC.String(), c.Zone.Name)
	if err != nil || !c.Addr.IsValid() {
		return err
	}
	return c.setAddress()
}

// setAddress gives the client an address of its own choice.
func (c *Client) setAddress() error {
	return c.IP(fmt.Sprintf("addr add %s/%d dev %s\nroute add default via %s", c.Addr, c.Zone.Subnet.Bits(), clientLink, c.Zone.Gateway))
}

// clientLink is the name of every client's port.
const clientLink = "eth0"

// AddClient makes another machine in a zone, with a MAC address that nobody knows and
// an IP address that nobody gave it.
func (l *Lab) AddClient(name string, zone *model.Zone, addr netip.Addr) (*Client, error) {
	c := stranger(name, zone, len(l.Clients))
	h, err := l.World.NewHost(name)
	if err != nil {
		return nil, err
	}
	c.Host, c.Addr = h, addr
	if err := l.plugIn(c); err != nil {
		return nil, err
	}
	l.Clients = append(l.Clients, c)
	return c, l.World.register()
}

// Client returns the client of that name, or nil.
func (l *Lab) Client(name string) *Client {
	i := slices.IndexFunc(l.Clients, func(c *Client) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return l.Clients[i]
}

// wireInternet builds the world outside: a router with the uplink's network on one
// side and another network behind it, and a machine in each.
func (l *Lab) wireInternet() error {
	inet := l.internetAddr()
	for _, h := range []*Host{l.Internet, l.Outside} {
		if err := l.plug(h, clientLink, "", model.Internet); err != nil {
			return err
		}
	}
	steps := []struct {
		h     *Host
		batch string
	}{
		{l.Internet, fmt.Sprintf("addr add %s dev eth0\nlink add name eth1 type veth peer name eth0 netns far\naddr add %s dev eth1\nlink set dev eth1 up", inet, farRouter)},
		{l.Outside, fmt.Sprintf("addr add %s/%d dev eth0\nroute add default via %s", l.OutsideAddr(), inet.Bits(), inet.Addr())},
		{l.Far, fmt.Sprintf("addr add %s/%d dev eth0\nlink set dev lo up\nlink set dev eth0 up\nroute add default via %s", farAddr, farRouter.Bits(), farRouter.Addr())},
	}
	for _, s := range steps {
		if err := s.h.IP(s.batch); err != nil {
			return err
		}
	}
	return l.Internet.Sysctl("net/ipv4/ip_forward", "1")
}

// internetAddr is the internet router's address: what a static uplink names as its
// gateway, or the lab's own choice.
func (l *Lab) internetAddr() netip.Prefix {
	u := l.Config.Uplink
	if u == nil || u.IPv4.Mode != model.ModeStatic {
		return internetNet
	}
	return netip.PrefixFrom(u.IPv4.Gateway, u.IPv4.Address.Bits())
}

// OutsideAddr is the address of the machine on the uplink's network.
func (l *Lab) OutsideAddr() netip.Addr {
	u := l.Config.Uplink
	if u == nil || u.IPv4.Mode != model.ModeStatic {
		return outsideAddr
	}
	a := u.IPv4.Address.Masked().Addr().Next()
	for a == u.IPv4.Address.Addr() || a == u.IPv4.Gateway {
		a = a.Next()
	}
	return a
}

// Link returns the gateway's link to a zone or, for "internet", to the uplink.
func (l *Lab) Link(party string) string { return l.links[party] }

// writeProvided tells netcfgd which VLANs arrive on links of their own.
func (l *Lab) writeProvided(dir string) (string, error) {
	b, err := json.MarshalIndent(l.provided, "", "\t")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "provided.json")
	return file, os.WriteFile(file, b, 0o644)
}
