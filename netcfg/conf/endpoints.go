package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// endpoint is a name that stands for one or more endpoints.
type endpoint struct {
	kind    string // zone, device, group
	pos     diag.Pos
	zone    *zone
	device  *device
	group   *group
	members []model.Endpoint // of a group: once it is resolved
	broken  bool             // a problem is reported already; rules that use it say nothing
}

// reserved names are endpoints, or look like one, without being declared.
var reserved = map[string]string{
	model.Internet: "is the name of everything beyond the uplink",
	model.Box:      "is the name of the appliance itself",
	"any":          "means every protocol",
}

// declare makes a name known as an endpoint. It reports names that are taken.
func (d *decoder) declare(n *node, path string, e *endpoint) bool {
	name := n.text
	e.pos = d.at(n)
	if what, ok := reserved[name]; ok {
		d.error(n, path, "choose another name", "%q %s", name, what)
		return false
	}
	if other := d.endpoints[name]; other != nil {
		d.error(n, path, "choose another name: zones, devices and groups share one set of names", "%q is already a %s (%s)", name, other.kind, other.pos)
		return false
	}
	d.endpoints[name] = e
	d.order = append(d.order, name)
	return true
}

// device is a device's declaration.
type device struct {
	model *model.Device
	zone  *zone // nil: unknown
}

// addrKey is an address in a map that rules look addresses up in.
type addrKey [4]byte

func (d *decoder) devices(n *node) {
	macs := make(map[model.MAC]*model.Device)
	ports := make(map[model.MAC]*model.Port)
	for _, p := range d.cfg.Ports {
		ports[p.MAC] = p
	}
	d.each(n, "devices", func(e entry, path string) {
		dev := &device{model: &model.Device{Name: e.key.text, Pos: d.at(e.key)}}
		m := dev.model
		ok := validName(e.key.text)
		if ok && m.Name == d.cfg.System.Name {
			d.error(e.key, path, "choose another name, or give the box another one with system.name", "%q is the name of the box", m.Name)
		}
		if ok {
			ok = d.declare(e.key, path, &endpoint{kind: "device", device: dev})
		}
		f := d.fields(e.value, e.key, path, "devices.*")
		if f == nil {
			if ok {
				d.endpoints[m.Name].broken = true
			}
			return
		}
		dev.zone = d.zoneOf(f.get("zone"), path+".zone")
		if dev.zone != nil {
			m.Zone = dev.zone.model
		}
		if mn := f.get("mac"); mn != nil {
			if mac, ok := d.mac(mn, path+".mac"); ok {
				m.MAC = mac
				if p := ports[mac]; p != nil {
					d.error(mn, path+".mac", "look the address up on the device", "MAC %s is the box's own port %q (%s)", mac, p.Name, p.Pos)
				} else if other := macs[mac]; other != nil {
					d.error(mn, path+".mac", "look the address up on the device; each has its own", "MAC %s already belongs to device %q (%s)", mac, other.Name, other.Pos)
				} else {
					macs[mac] = m
				}
			}
		}
		d.deviceAddress(f, dev, path, e.key)
		m.Owner = d.text(f.get("owner"), path+".owner")
		m.Purpose = d.text(f.get("purpose"), path+".purpose")
		m.Note = d.note(f.get("note"), path+".note")
		m.Critical = d.bool(f.get("critical"), path+".critical", false)
		if ok {
			ep := d.endpoints[m.Name]
			ep.broken = dev.zone == nil
			ep.members = []model.Endpoint{{Kind: model.KindDevice, Zone: m.Zone, Device: m}}
			d.cfg.Devices = append(d.cfg.Devices, m)
		}
	})
}

// zoneOf reads the name of a zone; nil if it is none.
func (d *decoder) zoneOf(n *node, path string) *zone {
	v, ok := d.word(n, path, "the name of a zone", "name a zone declared under zones")
	if !ok {
		return nil
	}
	e := d.endpoints[v]
	if e != nil && e.kind == "zone" {
		return e.zone
	}
	if !d.broken["zones"] {
		d.unknownName(n, path, "zone", v, func() string {
			var names []string
			for _, z := range d.zones {
				names = append(names, z.model.Name)
			}
			return d.didYouMean("zone", v, names, "the zones are ")
		})
	}
	return nil
}

func (d *decoder) deviceAddress(f *fields, dev *device, path string, key *node) {
	m, an := dev.model, f.get("address")
	if an == nil {
		if z := dev.zone; z != nil && !f.has("address") && z.subnet != nil {
			d.fromPool(z, path, key)
		}
		return
	}
	path += ".address"
	if dev.zone == nil {
		m.Address, _ = d.address(an, path, true)
		return
	}
	a, ok := d.inside(an, dev.zone, path)
	if !ok {
		return
	}
	if a == dev.zone.gateway {
		d.error(an, path, "choose another address", "%s is the box's own address in zone %q", a, dev.zone.model.Name)
		return
	}
	if other := d.byAddress[a.As4()]; other != nil {
		d.error(an, path, "give each device its own address", "%s already belongs to device %q (%s)", a, other.Name, other.Pos)
		return
	}
	m.Address, d.byAddress[a.As4()] = a, m
}

// fromPool checks that a device without an address can be given one.
func (d *decoder) fromPool(z *zone, path string, key *node) {
	h := z.model.DHCP
	if !h.Enabled {
		d.error(key, path, fmt.Sprintf("add an address within %s", z.model.Subnet), "key \"address\" is missing: zone %q has no DHCP that could give the device one", z.model.Name)
		return
	}
	if z.devices++; h.Pool.First.IsValid() && uint32(z.devices) == number4(h.Pool.Last)-number4(h.Pool.First)+2 {
		d.error(key, path, "enlarge the pool, or give devices addresses outside it", "the pool %s-%s of zone %q has no address left for this device", h.Pool.First, h.Pool.Last, z.model.Name)
	}
}

// group is a group's declaration. Mark says how far resolving it has come.
type group struct {
	name  string
	path  string
	value *node
	mark  uint8 // 0: untouched, 1: in progress, 2: done
}

// maxMembers bounds what one group, or one side of a rule, may hold, and maxResolved
// what all rules may hold: groups of groups grow fast.
const (
	maxMembers  = 1024
	maxResolved = 1 << 19
)

func (d *decoder) groups(n *node) {
	var all []*endpoint
	d.each(n, "groups", func(e entry, path string) {
		ep := &endpoint{kind: "group", group: &group{name: e.key.text, path: path, value: e.value}}
		if !validName(e.key.text) || !d.declare(e.key, path, ep) {
			return
		}
		all = append(all, ep)
		if e.value.shape == empty {
			d.error(e.key, path, "list its members: [tv, radio]", "has no value")
			ep.broken, ep.group.mark = true, 2
		}
	})
	for _, ep := range all {
		d.resolveGroup(ep, nil)
		if !ep.broken {
			d.cfg.Groups = append(d.cfg.Groups, &model.Group{Name: ep.group.name, Members: ep.members, Pos: ep.pos})
		}
	}
}

// resolveGroup flattens a group. Within are the groups that are being flattened and
// contain it.
func (d *decoder) resolveGroup(ep *endpoint, within []string) {
	g := ep.group
	if g.mark == 2 {
		return
	}
	g.mark = 1
	within = append(within, g.name)
	var set endpointSet
	items := d.some(g.value, g.path)
	ep.broken = len(items) == 0
	for _, item := range items {
		members, ok := d.member(item, ep, within)
		if !ok {
			ep.broken = true
			continue
		}
		set.add(members)
	}
	ep.members = set.list
	if len(ep.members) > maxMembers {
		d.error(g.value, g.path, "name zones or prefixes instead of their members", "holds %d members; the limit is %d", len(ep.members), maxMembers)
		ep.broken = true
	}
	g.mark = 2
}

// member resolves one member of a group.
func (d *decoder) member(n *node, ep *endpoint, within []string) ([]model.Endpoint, bool) {
	g := ep.group
	v, ok := d.word(n, g.path, "the name of a member", "name a zone, a device, a group or an address")
	if !ok {
		return nil, false
	}
	if v == model.Internet || v == model.Box {
		d.error(n, g.path, fmt.Sprintf("name %s beside the group where it is used", v), "%q cannot be in a group", v)
		return nil, false
	}
	if other := d.endpoints[v]; other != nil && other.group != nil {
		switch other.group.mark {
		case 1:
			loop := append(slices.Clone(within[slices.Index(within, v):]), v)
			d.error(n, g.path, fmt.Sprintf("remove %q from %q", v, g.name), "the group contains itself: %s", strings.Join(loop, " > "))
			return nil, false
		case 0:
			d.resolveGroup(other, within)
		}
	}
	return d.resolve(n, g.path, v)
}

// endpointSet keeps endpoints in order and each once.
type endpointSet struct {
	list []model.Endpoint
	seen map[model.Endpoint]bool
}

func (s *endpointSet) add(list []model.Endpoint) {
	if len(s.list) == 0 {
		s.list = list[:len(list):len(list)] // shared until something is added
		return
	}
	if s.seen == nil {
		s.seen = make(map[model.Endpoint]bool, len(s.list)+len(list))
		for _, e := range s.list {
			s.seen[e] = true
		}
	}
	for _, e := range list {
		if !s.seen[e] {
			s.seen[e] = true
			s.list = append(s.list, e)
		}
	}
}

// resolve finds what a word in from or to stands for. Not ok: it reported a problem,
// or one is reported already.
func (d *decoder) resolve(n *node, path, word string) ([]model.Endpoint, bool) {
	switch word {
	case model.Box:
		return boxEndpoint, true
	case model.Internet:
		return internetEndpoint, true
	}
	if e := d.endpoints[word]; e != nil {
		return e.members, !e.broken
	}
	if looksLikeAddress(word) {
		return d.prefix(n, path, word)
	}
	if word == "*" {
		d.error(n, path, noEverything, "%q means nothing here", word)
		return nil, false
	}
	if !validName(word) {
		d.error(n, path, "write names as they are declared, with commas between them: [nas, tv]", "%q is not the name of an endpoint", cut(word))
		return nil, false
	}
	for _, section := range []string{"zones", "devices", "groups"} {
		if d.broken[section] {
			return nil, false // it may well stand in what could not be read
		}
	}
	d.unknownName(n, path, "zone, device or group", word, func() string { return d.endpointHint(word) })
	return nil, false
}

var (
	boxEndpoint      = []model.Endpoint{{Kind: model.KindBox}}
	internetEndpoint = []model.Endpoint{{Kind: model.KindInternet}}
)

const noEverything = "name the zones, and internet: there is no word for everything"

func looksLikeAddress(word string) bool {
	return word != "" && ('0' <= word[0] && word[0] <= '9' || strings.Contains(word, ":"))
}

func (d *decoder) endpointHint(word string) string {
	if d.ports[word] != nil {
		return fmt.Sprintf("%q is a port: name a zone on it", word)
	}
	if word == "any" || word == "all" {
		return noEverything
	}
	if d.names == nil {
		d.names = append(slices.Clone(d.order), model.Internet, model.Box)
	}
	return d.didYouMean("endpoint", word, d.names, "declare it, or name one of ")
}

// prefix resolves an address or a range of them, as they stand in from and to.
func (d *decoder) prefix(n *node, path, word string) ([]model.Endpoint, bool) {
	l := locator{zones: d.cfg.Zones, device: func(a netip.Addr) *model.Device { return d.byAddress[a.As4()] }}
	if d.uplink != nil {
		l.uplink = d.uplink.model
	}
	e, p := l.locate(word)
	switch {
	case p == nil:
	case p.Severity == diag.Warning:
		d.warn(n, path, p.Hint, "%s", p.Msg)
	default:
		d.error(n, path, p.Hint, "%s", p.Msg)
		return nil, false
	}
	if e.Zone == nil && (d.broken["zones"] || slices.ContainsFunc(d.zones, func(z *zone) bool { return z.subnet == nil })) {
		return nil, false // it may lie in a zone that could not be read
	}
	return []model.Endpoint{e}, true
}

// locator finds where addresses are.
type locator struct {
	zones  []*model.Zone
	uplink *model.Uplink
	device func(netip.Addr) *model.Device
}

// locate reads an address or prefix and says where it lies. The problem, if there is
// one, lacks a position.
func (l locator) locate(word string) (model.Endpoint, *diag.Problem) {
	fail := func(hint, format string, args ...any) (model.Endpoint, *diag.Problem) {
		return model.Endpoint{}, &diag.Problem{Msg: fmt.Sprintf(format, args...), Hint: hint}
	}
	p, err := netip.ParsePrefix(word)
	if a, aerr := netip.ParseAddr(word); aerr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		hint := "write an address such as 192.168.10.10 or a prefix such as 192.168.10.0/28"
		if p, ok := withMask(word); ok {
			hint = fmt.Sprintf("write %s", p.Masked())
		}
		return fail(hint, "%q is neither an address nor a prefix", cut(word))
	case !p.Addr().Is4():
		return fail("name the zone or device", "%s is an IPv6 address: rules hold for both families, and the prefixes come from the uplink", p.Addr())
	case p.Bits() == 0:
		return fail("name the zones, or internet", "%s is everything", p)
	case p != p.Masked():
		return fail(fmt.Sprintf("write %s, or %s for the one address", p.Masked(), p.Addr()), "%s has host bits set", p)
	}
	e := model.Endpoint{Kind: model.KindPrefix, Prefix: p}
	for _, z := range l.zones {
		if !z.Subnet.IsValid() || !z.Subnet.Overlaps(p) {
			continue
		}
		if p.Bits() < z.Subnet.Bits() {
			return fail(fmt.Sprintf("name the zone %s, or choose a prefix that lies in one zone or in none", z.Name), "%s is larger than zone %q (%s)", p, z.Name, z.Subnet)
		}
		e.Zone = z
		break
	}
	if what := special(p); what != "" && e.Zone == nil {
		return fail("write addresses that packets can be sent to", "%s cannot stand in a rule: it is %s", word, what)
	}
	return e, l.better(e, word)
}

// own reports whether an endpoint is one address of the box.
func (l locator) own(e model.Endpoint) bool {
	a := e.Prefix.Addr()
	return e.Prefix.IsSingleIP() && (e.Zone != nil && e.Zone.Gateway == a ||
		l.uplink != nil && l.uplink.IPv4.Address.IsValid() && l.uplink.IPv4.Address.Addr() == a)
}

// better reports that there is a better, or the only right, way to name an endpoint.
func (l locator) better(e model.Endpoint, word string) *diag.Problem {
	p, a := e.Prefix, e.Prefix.Addr()
	switch {
	case l.own(e):
		return &diag.Problem{Msg: fmt.Sprintf("%s is the box itself", a), Hint: "say box"}
	case e.Zone == nil:
		return nil
	case p == e.Zone.Subnet:
		return &diag.Problem{Msg: fmt.Sprintf("%s is the whole of zone %q", p, e.Zone.Name), Hint: fmt.Sprintf("say %s", e.Zone.Name), Severity: diag.Warning}
	case p.IsSingleIP() && (a == e.Zone.Subnet.Addr() || a == last(e.Zone.Subnet)):
		return &diag.Problem{Msg: fmt.Sprintf("%s is the network or broadcast address of zone %q", a, e.Zone.Name), Hint: "write the address of a machine"}
	case p.IsSingleIP():
		if dev := l.device(a); dev != nil {
			return &diag.Problem{
				Msg:  fmt.Sprintf("%s is device %q; by its name the rule also checks its MAC", word, dev.Name),
				Hint: fmt.Sprintf("say %s", dev.Name), Severity: diag.Warning,
			}
		}
	}
	return nil
}
