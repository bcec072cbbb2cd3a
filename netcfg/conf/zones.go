package conf

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// zone is a zone's declaration. Model is complete only if the file has no error.
type zone struct {
	model   *model.Zone
	path    string
	key     *node
	subnet  *node // nil: there is no valid subnet
	gateway netip.Addr
	poolAt  *node
	devices int // that get an address out of the pool
}

func (d *decoder) readZones(top *fields) {
	n := top.get("zones")
	admin := d.broken["zones"]
	d.each(n, "zones", func(e entry, path string) {
		ok := validName(e.key.text)
		z := &zone{model: &model.Zone{Name: e.key.text, Pos: d.at(e.key)}, path: path, key: e.key}
		if ok {
			ok = d.declare(e.key, path, &endpoint{kind: "zone", zone: z, members: []model.Endpoint{{Kind: model.KindZone, Zone: z.model}}})
		}
		f := d.fields(e.value, e.key, path, "zones.*")
		if f == nil {
			admin = true
			return
		}
		if d.readZone(z, f); ok {
			d.zones = append(d.zones, z)
			d.cfg.Zones = append(d.cfg.Zones, z.model)
		}
		admin = admin || z.model.Admin || f.has("admin") && (f.get("admin") == nil || f.get("admin").text != "false")
	})
	switch {
	case n == nil:
	case n.shape == empty && !d.broken["zones"], n.shape == mapping && len(n.keys) == 0:
		d.error(top.key("zones"), "zones", missing[".zones"], "no zone is declared")
	case n.shape == mapping && !admin:
		d.error(top.key("zones"), "zones", "add admin: true to the zone from which you manage the box", "no zone has admin: true, so nobody could reach the box")
	}
}

func (d *decoder) readZone(z *zone, f *fields) {
	m := z.model
	m.Port, m.VLAN, _ = d.place(f, fmt.Sprintf("zone %q", m.Name), z.path, m.Pos)
	m.Admin = d.bool(f.get("admin"), z.path+".admin", false)
	m.Ping = d.bool(f.get("ping"), z.path+".ping", true)
	m.IPv6 = d.bool(f.get("ipv6"), z.path+".ipv6", true)
	m.Flows = d.recorded(f, z.path+".flows")
	m.Observed = d.mode(f, z.path)
	if sn := f.get("subnet"); sn != nil {
		if p, ok := d.subnet(sn, z.path+".subnet"); ok {
			m.Subnet, z.subnet = p, sn
		}
	}
	gatewayOK := true
	if gn := f.get("gateway"); gn != nil {
		m.Gateway, gatewayOK = d.inside(gn, z, z.path+".gateway")
	} else if z.subnet != nil && !f.has("gateway") {
		m.Gateway = m.Subnet.Addr().Next()
	}
	z.gateway = m.Gateway
	if z.subnet == nil {
		gatewayOK = false
	}
	d.dhcp(z, f, gatewayOK && m.Gateway.IsValid())
	d.dns(z, f.get("dns"))
}

// subnet reads the range of addresses of a zone.
func (d *decoder) subnet(n *node, path string) (netip.Prefix, bool) {
	const form = "write network and length, such as 192.168.10.0/24"
	v, ok := d.word(n, path, "a subnet", form)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(v)
	switch {
	case err != nil:
		hint := form
		if a, err := netip.ParseAddr(v); err == nil && a.Is4() {
			if p := netip.PrefixFrom(a, 24).Masked(); p.Addr() == a {
				hint = fmt.Sprintf("add the length of the prefix, such as %s", p)
			}
		}
		if p, ok := withMask(v); ok {
			hint = fmt.Sprintf("write %s", p.Masked())
		}
		d.error(n, path, hint, "%q is not a subnet", cut(v))
	case !p.Addr().Is4():
		d.error(n, path, form+"; IPv6 prefixes come from the uplink", "%s is not an IPv4 subnet", p)
	case p.Bits() < 8 || p.Bits() > 30:
		d.error(n, path, "choose a length from 8 to 30; 24 suits most zones", "prefix length %d cannot be used", p.Bits())
	case p != p.Masked():
		d.error(n, path, fmt.Sprintf("write %s", p.Masked()), "%s has host bits set", p)
	case special(p) != "":
		d.error(n, path, "choose a private range, such as 192.168.10.0/24", "%s cannot be a zone: it is %s", p, special(p))
	default:
		if !private(p) {
			d.warn(n, path, "use a part of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, unless the range is yours",
				"%s is not a private range (RFC 1918): its owners on the internet cannot be reached from here", p)
		}
		return p, true
	}
	return netip.Prefix{}, false
}

// withMask reads a prefix whose length is written as a mask: 192.168.10.0/255.255.255.0.
func withMask(s string) (netip.Prefix, bool) {
	s, mask, _ := strings.Cut(s, "/")
	a, err1 := netip.ParseAddr(s)
	m, err2 := netip.ParseAddr(mask)
	if err1 != nil || err2 != nil || !a.Is4() || !m.Is4() {
		return netip.Prefix{}, false
	}
	ones := bits.LeadingZeros32(^number4(m))
	p := netip.PrefixFrom(a, ones)
	return p, number4(m)<<ones == 0
}

var (
	privateRanges = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	}
	specialRanges = []struct {
		prefix netip.Prefix
		what   string
	}{
		{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 1122)"},
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},
	}
)

func private(p netip.Prefix) bool {
	return slices.ContainsFunc(privateRanges, func(r netip.Prefix) bool { return r.Contains(p.Addr()) && p.Bits() >= r.Bits() })
}

// special says what a prefix touches that no packet may be sent from or to.
func special(p netip.Prefix) string {
	for _, s := range specialRanges {
		if s.prefix.Overlaps(p) {
			return s.what
		}
	}
	return ""
}

// inside reads the address of a machine in a zone. Without a valid subnet it checks
// what it can.
func (d *decoder) inside(n *node, z *zone, path string) (netip.Addr, bool) {
	a, ok := d.address(n, path, true)
	if !ok || z.subnet == nil {
		return a, ok
	}
	s := z.model.Subnet
	switch {
	case !s.Contains(a):
		d.error(n, path, fmt.Sprintf("choose an address within %s", s), "%s is outside the subnet %s of zone %q", a, s, z.model.Name)
	case a == s.Addr():
		d.error(n, path, "choose an address after it", "%s is the network address of zone %q", a, z.model.Name)
	case a == last(s):
		d.error(n, path, "choose an address before it", "%s is the broadcast address of zone %q", a, z.model.Name)
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// Bounds of a lease. Below, clients of an access point that restarts lose their
// addresses; above, an address is as good as given away.
const (
	minLease     = 2 * time.Minute
	maxLease     = 365 * 24 * time.Hour
	defaultLease = 12 * time.Hour
)

// dhcp reads what the zone's DHCP server hands out. Sound says that subnet and
// gateway are known.
func (d *decoder) dhcp(z *zone, f *fields, sound bool) {
	n, path := f.get("dhcp"), z.path+".dhcp"
	h := &z.model.DHCP
	*h = model.DHCP{Enabled: true, Lease: defaultLease}
	z.poolAt = f.key("dhcp")
	var df *fields
	switch {
	case n == nil && f.has("dhcp"):
		return
	case n == nil:
	case n.shape == boolean:
		if h.Enabled = d.bool(n, path, true); !h.Enabled {
			*h = model.DHCP{}
			return
		}
	case n.shape == mapping:
		if df = d.fields(n, f.key("dhcp"), path, "zones.*.dhcp"); df == nil {
			return
		}
		d.lease(df.get("lease"), path+".lease", h)
		for _, s := range d.some(df.get("ntp"), path+".ntp") {
			if a, ok := d.address(s, path+".ntp", true); ok {
				h.NTP = append(h.NTP, a)
			}
		}
	default:
		d.mismatch(n, path, "false or a mapping", "write false, or {pool: 192.168.10.100-192.168.10.199, lease: 12h}")
		return
	}
	switch {
	case df != nil && df.has("pool"):
		if pn := df.get("pool"); pn != nil {
			z.poolAt = pn
			h.Pool, _ = d.pool(pn, z, path+".pool", sound)
		}
	case sound:
		var ok bool
		if h.Pool, ok = upperHalf(z.model.Subnet, z.model.Gateway); !ok {
			d.error(z.poolAt, z.path, "set dhcp: false, or use a larger subnet", "%s has no room for a pool of addresses beside the gateway", z.model.Subnet)
		}
	}
}

func (d *decoder) lease(n *node, path string, h *model.DHCP) {
	const form = "write a time with a unit, such as 12h or 30m"
	v, ok := d.word(n, path, "a time", form)
	if !ok {
		return
	}
	t, err := time.ParseDuration(v)
	days, isDays := strings.CutSuffix(v, "d")
	switch {
	case err != nil && isDays && n.shape == str:
		if t, err := time.ParseDuration(days + "h"); err == nil && t < maxLease {
			d.error(n, path, fmt.Sprintf("write %dh", int((24*t).Hours())), "%q is not a time: there is no unit for days", cut(v))
			return
		}
		fallthrough
	case err != nil:
		d.error(n, path, form, "%q is not a time", cut(v))
	case t < minLease || t > maxLease || t%time.Second != 0:
		d.error(n, path, "choose whole seconds from 2m to 8760h", "lease time %s is out of range", v)
	default:
		h.Lease = t
	}
}

// pool reads the addresses that are handed out.
func (d *decoder) pool(n *node, z *zone, path string, sound bool) (model.Range, bool) {
	form := "write first and last address, such as 192.168.10.100-192.168.10.199"
	if sound {
		if r, ok := upperHalf(z.model.Subnet, z.model.Gateway); ok {
			form = fmt.Sprintf("write first and last address, such as %s-%s", r.First, r.Last)
		}
	}
	v, ok := d.word(n, path, "a range of addresses", form)
	if !ok {
		return model.Range{}, false
	}
	lo, hi, _ := strings.Cut(v, "-")
	first, err1 := netip.ParseAddr(strings.TrimSpace(lo))
	end, err2 := netip.ParseAddr(strings.TrimSpace(hi))
	s, r := z.model.Subnet, model.Range{First: first, Last: end}
	switch {
	case err1 != nil || err2 != nil || !first.Is4() || !end.Is4():
		d.error(n, path, form, "%q is not a range of addresses", cut(v))
	case end.Less(first):
		d.error(n, path, fmt.Sprintf("write %s-%s", end, first), "the range ends before it begins")
	case !sound:
		return r, true
	case !s.Contains(first) || !s.Contains(end):
		d.error(n, path, form, "pool %s-%s is not within the subnet %s", first, end, s)
	case r.Contains(z.model.Gateway):
		d.error(n, path, form, "the pool contains the gateway %s", z.model.Gateway)
	case r.Contains(s.Addr()) || r.Contains(last(s)):
		d.error(n, path, form, "the pool contains the network or broadcast address of %s", s)
	default:
		return r, true
	}
	return model.Range{}, false
}

// upperHalf returns the pool that a zone has if the file names none: the upper half
// of the subnet without the broadcast address, on the larger side of the gateway.
func upperHalf(s netip.Prefix, gateway netip.Addr) (model.Range, bool) {
	hi := number4(last(s)) - 1
	lo := hi + 1 - (uint32(1)<<(32-s.Bits()))/2 + 1
	if g := number4(gateway); lo <= g && g <= hi {
		if g-lo > hi-g {
			hi = g - 1
		} else {
			lo = g + 1
		}
	}
	if lo > hi {
		return model.Range{}, false
	}
	return model.Range{First: addr(lo), Last: addr(hi)}, true
}

func (d *decoder) dns(z *zone, n *node) {
	path := z.path + ".dns"
	s := &z.model.DNS
	s.Enabled = true
	switch {
	case n == nil:
	case n.shape == boolean:
		s.Enabled = d.bool(n, path, true)
	case n.shape == mapping:
		f := d.fields(n, n, path, "zones.*.dns")
		if f == nil {
			return
		}
		s.Force = d.bool(f.get("force"), path+".force", false)
		for _, b := range d.some(f.get("block"), path+".block") {
			if v, ok := d.word(b, path+".block", "a domain", "write a domain such as tracking.example"); ok && d.domain(b, path+".block") {
				s.Block = append(s.Block, v)
			}
		}
	default:
		d.mismatch(n, path, "false or a mapping", "write false, or {block: [tracking.example], force: true}")
	}
}

// checkSubnets reports zones, and an uplink, whose addresses overlap: at the one that
// comes later in the file, naming the earlier.
func (d *decoder) checkSubnets() {
	type user struct {
		prefix    netip.Prefix
		at        *node
		path, who string
		order     int
	}
	var users []user
	for _, z := range d.zones {
		if z.subnet != nil {
			users = append(users, user{z.model.Subnet, z.subnet, z.path + ".subnet", fmt.Sprintf("zone %q", z.model.Name), 0})
		}
	}
	if u := d.uplink; u != nil && u.address != nil {
		users = append(users, user{u.model.IPv4.Address.Masked(), u.address, "internet.ipv4.address", "the uplink", 0})
	}
	slices.SortFunc(users, func(a, b user) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.col, b.at.col))
	})
	for i := range users {
		users[i].order = i
	}
	slices.SortFunc(users, func(a, b user) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.order, b.order))
	})
	// Prefixes are nested or apart: whatever overlaps one stands on the stack.
	var stack []user
	clash := make(map[int]user)
	byOrder := make(map[int]user)
	for _, u := range users {
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Contains(u.prefix.Addr()) {
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 {
			early, late := stack[len(stack)-1], u
			if early.order > late.order {
				early, late = late, early
			}
			if old, ok := clash[late.order]; !ok || early.order < old.order {
				clash[late.order] = early
			}
			byOrder[late.order] = late
		}
		stack = append(stack, u)
	}
	for i, early := range clash {
		late := byOrder[i]
		d.error(late.at, late.path, "give each of them a range of its own", "%s overlaps %s of %s (%s)", late.prefix, early.prefix, early.who, d.at(early.at))
	}
}
