package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// port is a port of the file and who uses it.
type port struct {
	model *model.Port // nil: its declaration is wrong
	users []claim
}

// claim is the use of a port, or of one VLAN of it.
type claim struct {
	who  string // zone "iot", or: the uplink
	vlan uint16 // 0: the whole port
	at   *node  // the VLAN's number, or the port's name
	path string
	pos  diag.Pos
}

func (d *decoder) system(n *node) {
	s := &d.cfg.System
	*s = model.System{Name: "gw", Domain: "home.arpa", Timezone: "UTC", Location: time.UTC}
	if n == nil || n.shape == empty {
		return
	}
	f := d.fields(n, n, "system", "system")
	if f == nil {
		return
	}
	if v := f.get("name"); v != nil {
		if _, ok := d.word(v, "system.name", "a host name", "write a name such as gw"); ok && d.name(v, "system.name") {
			s.Name = v.text
		}
	}
	if v, ok := d.word(f.get("domain"), "system.domain", "a domain", "write a domain such as home.arpa"); ok {
		if d.domain(f.get("domain"), "system.domain") {
			s.Domain = v
		}
		if v == "local" || strings.HasSuffix(v, ".local") {
			d.warn(f.get("domain"), "system.domain", "use home.arpa (RFC 8375) or a domain of your own",
				"%q belongs to multicast DNS (RFC 6762): many clients will not ask the box for it", v)
		}
	}
	if v := f.get("updates"); v != nil {
		if u := d.fields(v, v, "system.updates", "system.updates"); u != nil {
			s.Updates.Gokrazy = d.bool(u.get("gokrazy"), "system.updates.gokrazy", false)
		}
	}
	if v := f.get("admin"); v != nil {
		if a := d.fields(v, v, "system.admin", "system.admin"); a != nil {
			const form = "write required, or leave it away"
			w, _ := d.choice(a.get("client-certificates"), "system.admin.client-certificates", []string{"required"}, "an answer to whether they are", form)
			s.ClientCertificates = w == "required"
		}
	}
	d.config = f.get("config") // leans on the devices
	if v, ok := d.word(f.get("timezone"), "system.timezone", "a time zone", "write a name such as Europe/Berlin"); ok {
		loc, err := location(v)
		if err != nil {
			d.error(f.get("timezone"), "system.timezone", zoneHint(v), "no time zone is called %q", cut(v))
			d.broken["system"] = true // dates cannot be read
			return
		}
		s.Timezone, s.Location = v, loc
	}
}

var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*){0,2}$`)

// location loads a time zone. Other names than those of zones would make the
// standard library look for files by them.
func location(name string) (*time.Location, error) {
	if len(name) > 64 || !zoneName.MatchString(name) || name == "Local" {
		return nil, fmt.Errorf("unknown time zone %q", name)
	}
	return time.LoadLocation(name)
}

// domain checks a domain name: lower case, no dot at the end.
func (d *decoder) domain(n *node, path string) bool {
	const form = "write labels of lower-case letters, digits and inner hyphens, joined by dots, such as home.arpa"
	v := n.text
	hint := form
	switch fixed := strings.ToLower(strings.Trim(strings.TrimPrefix(v, "*."), ".")); {
	case isDomain(v):
		return true
	case strings.HasPrefix(v, "*.") && isDomain(fixed):
		hint = fmt.Sprintf("write %q: names below it are always included", fixed)
	case isDomain(fixed):
		hint = fmt.Sprintf("write %q", fixed)
	}
	d.error(n, path, hint, "%q is not a domain name", cut(v))
	return false
}

func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func (d *decoder) readPorts(top *fields) {
	macs := make(map[model.MAC]*model.Port)
	n := top.get("ports")
	d.each(n, "ports", func(e entry, path string) {
		p := &port{}
		d.ports[e.key.text] = p
		if !validName(e.key.text) {
			return
		}
		f := d.fields(e.value, e.key, path, "ports.*")
		if f == nil {
			return
		}
		mac, ok := d.mac(f.get("mac"), join(path, "mac"))
		if !ok {
			return
		}
		if other := macs[mac]; other != nil {
			d.error(f.get("mac"), join(path, "mac"), "give each port the MAC address of its own network card",
				"MAC %s is already port %q (%s)", mac, other.Name, other.Pos)
			return
		}
		p.model = &model.Port{Name: e.key.text, MAC: mac, Pos: d.at(e.key)}
		macs[mac] = p.model
		d.cfg.Ports = append(d.cfg.Ports, p.model)
	})
	if n != nil && len(d.ports) == 0 && n.shape != str && n.shape != list && !d.broken["ports"] {
		d.error(top.key("ports"), "ports", missing[".ports"], "no port is declared")
	}
}

// mac returns a MAC address that a network card can have.
func (d *decoder) mac(n *node, path string) (model.MAC, bool) {
	const form = `write six pairs of hexadecimal digits, such as "52:54:00:12:34:56"`
	v, ok := d.word(n, path, "a MAC address", form)
	if !ok {
		return model.MAC{}, false
	}
	m, err := model.ParseMAC(v)
	switch {
	case err != nil:
		hint := form
		if m, err := model.ParseMAC(strings.NewReplacer("-", ":", ".", ":").Replace(v)); err == nil {
			hint = fmt.Sprintf("write it with colons: \"%s\"", m)
		}
		d.error(n, path, hint, "%q is not a MAC address", cut(v))
	case m.IsZero():
		d.error(n, path, "look the address up on the device", "MAC %s belongs to no device", m)
	case m == model.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, m[0]&1 != 0:
		d.error(n, path, "look the address up on the device: its second digit is even", "MAC %s is a multicast address, which no device has", m)
	default:
		return m, true
	}
	return model.MAC{}, false
}

// place reads port and VLAN of a zone or the uplink, and notes the use.
func (d *decoder) place(f *fields, who, path string, pos diag.Pos) (p *model.Port, vlan uint16, ok bool) {
	pn, vn := f.get("port"), f.get("vlan")
	name, found := d.word(pn, join(path, "port"), "the name of a port", "name a port declared under ports")
	vid, numbered := d.number(vn, join(path, "vlan"), 1, 4094, "choose a VLAN from 1 to 4094; leave vlan out to use the whole port")
	if !found {
		return nil, 0, false
	}
	entry := d.ports[name]
	if entry == nil {
		if !d.broken["ports"] {
			d.unknownName(pn, join(path, "port"), "port", name, func() string {
				return d.didYouMean("port", name, d.portNames(), "declare it under ports; declared there: ")
			})
		}
		return nil, 0, false
	}
	if f.has("vlan") && !numbered {
		return nil, 0, false
	}
	c := claim{who: who, vlan: uint16(vid), at: pn, path: join(path, "port"), pos: pos}
	if numbered {
		c.at, c.path = vn, join(path, "vlan")
	}
	entry.users = append(entry.users, c)
	return entry.model, uint16(vid), entry.model != nil
}

func (d *decoder) portNames() []string {
	var names []string
	for _, p := range d.cfg.Ports {
		names = append(names, p.Name)
	}
	return names
}

// didYouMean makes the hint for a name that does not exist: the nearest one there
// is, or what to do and all there are.
func (d *decoder) didYouMean(kind, name string, names []string, otherwise string) string {
	if guess := d.near.nearest(kind, name, names); guess != "" {
		return fmt.Sprintf("did you mean %q?", guess)
	}
	return otherwise + enumerate(names)
}

// checkUse reports ports and VLANs used twice. A zone without a VLAN has the whole
// port: were other zones' tags on the same wire, a host of the untagged zone could
// make such tags and be in all of them.
func (d *decoder) checkUse() {
	for name, p := range d.ports {
		slices.SortStableFunc(p.users, func(a, b claim) int {
			return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.col, b.at.col))
		})
		byVLAN := make(map[uint16]claim)
		for _, c := range p.users {
			whole, taken := byVLAN[0]
			switch other, twice := byVLAN[c.vlan]; {
			case twice && c.vlan != 0:
				d.error(c.at, c.path, fmt.Sprintf("give it another VLAN from 1 to 4094; %d is free", free(c.vlan, p.users)),
					"VLAN %d of port %q is already taken by %s (%s)", c.vlan, name, other.who, other.pos)
			case taken:
				hint := "choose another port, or give both a VLAN"
				if c.vlan != 0 {
					hint = "choose another port, or give " + whole.who + " a VLAN, too"
				}
				d.error(c.at, c.path, hint, "the whole port %q is already taken by %s (%s)", name, whole.who, whole.pos)
			case c.vlan == 0 && len(byVLAN) > 0:
				d.error(c.at, c.path, "choose another port, or add a VLAN",
					"the whole port %q cannot be taken: VLAN %d of it belongs to %s (%s)", name, p.users[0].vlan, p.users[0].who, p.users[0].pos)
				continue
			default:
				byVLAN[c.vlan] = c
			}
		}
	}
}

// free returns the next VLAN after id that no claim has.
func free(id uint16, claims []claim) uint16 {
	for {
		if id++; id > 4094 {
			id = 2
		}
		if !slices.ContainsFunc(claims, func(c claim) bool { return c.vlan == id }) {
			return id
		}
	}
}

// uplink is the uplink's declaration, for later checks.
type uplink struct {
	model   *model.Uplink
	address *node // of a static IPv4 uplink
}

func (d *decoder) readUplink(n, key *node) {
	if n == nil {
		return
	}
	if n.shape == empty {
		d.error(key, "internet", "say which port leads to the internet: {port: wan}", "has no value")
		d.broken["internet"] = true
		return
	}
	f := d.fields(n, key, "internet", "internet")
	if f == nil {
		d.broken["internet"] = true
		return
	}
	u := &model.Uplink{Pos: d.at(key), IPv4: model.Family{Mode: model.ModeDHCP}, IPv6: model.Family{Mode: model.ModeDelegated}}
	d.uplink = &uplink{model: u}
	d.cfg.Uplink = u
	u.Port, u.VLAN, _ = d.place(f, "the uplink", "internet", u.Pos)
	if v := f.get("ipv4"); v != nil {
		u.IPv4 = d.family(v, "ipv4", "dhcp", model.ModeDHCP)
	}
	if v := f.get("ipv6"); v != nil {
		u.IPv6 = d.family(v, "ipv6", "delegated", model.ModeDelegated)
	}
	if u.IPv4.Mode == model.ModeNone && u.IPv6.Mode == model.ModeNone && f.get("ipv4") != nil && f.get("ipv6") != nil &&
		f.get("ipv4").text == "none" && f.get("ipv6").text == "none" {
		d.error(f.get("ipv6"), "internet.ipv6", "set one of them, or remove the section internet", "ipv4 and ipv6 are both none: nothing is left of the uplink")
	}
}

// family reads how one address family of the uplink is set up: a word, or a static
// address.
func (d *decoder) family(n *node, name, auto string, mode model.Mode) model.Family {
	path := "internet." + name
	if n.shape == mapping {
		return d.static(n, path, name == "ipv4")
	}
	hint := fmt.Sprintf("write %s, none, or {address: 203.0.113.2/24, gateway: 203.0.113.1}", auto)
	if name == "ipv6" {
		hint = fmt.Sprintf("write %s, none, or {address: \"2001:db8::2/64\", gateway: \"2001:db8::1\"}", auto)
	}
	v, ok := d.word(n, path, "a word or a mapping", hint)
	switch {
	case !ok:
	case v == auto:
		return model.Family{Mode: mode}
	case v == "none":
		return model.Family{}
	default:
		d.error(n, path, hint, "%q is no way to set up the uplink", cut(v))
	}
	return model.Family{Mode: mode} // as good as any: the file is refused
}

func (d *decoder) static(n *node, path string, v4 bool) model.Family {
	fam := model.Family{Mode: model.ModeStatic}
	f := d.fields(n, n, path, path)
	if f == nil {
		return fam
	}
	form := "write address and length of the prefix, such as 203.0.113.2/24"
	if !v4 {
		form = "write address and length of the prefix, such as \"2001:db8::2/64\""
	}
	an, gn := f.get("address"), f.get("gateway")
	if v, ok := d.word(an, path+".address", "an address with a prefix", form); ok {
		p, err := netip.ParsePrefix(v)
		switch {
		case err != nil || p.Addr().Is4() != v4:
			if p, ok := withMask(v); ok && v4 {
				form = fmt.Sprintf("write %s", p)
			}
			d.error(an, path+".address", form, "%q is no address with a prefix", cut(v))
		case v4 && (p.Bits() < 8 || p.Bits() > 31):
			d.error(an, path+".address", "ask the provider for the length of the prefix: it is between 8 and 31", "prefix length %d cannot be used", p.Bits())
		case v4 && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == last(p)):
			d.error(an, path+".address", "write the box's own address within "+p.Masked().String(), "%s is the network or broadcast address of %s", p.Addr(), p.Masked())
		default:
			fam.Address = p
			if v4 {
				d.uplink.address = an
			}
		}
	}
	if a, ok := d.address(gn, path+".gateway", v4); ok {
		switch {
		case fam.Address.IsValid() && a == fam.Address.Addr():
			d.error(gn, path+".gateway", "write the provider's address", "the gateway is the box's own address")
		case v4 && fam.Address.IsValid() && !fam.Address.Contains(a):
			d.error(gn, path+".gateway", "write the provider's address within "+fam.Address.Masked().String(), "gateway %s is outside %s", a, fam.Address.Masked())
		default:
			fam.Gateway = a
		}
	}
	for _, r := range d.some(f.get("resolvers"), path+".resolvers") {
		if a, ok := d.address(r, path+".resolvers", v4); ok {
			fam.Resolvers = append(fam.Resolvers, a)
		}
	}
	return fam
}

// address returns a unicast address of one family.
func (d *decoder) address(n *node, path string, v4 bool) (netip.Addr, bool) {
	form := "write an IPv4 address such as 192.168.10.10"
	if !v4 {
		form = "write an IPv6 address such as \"2001:db8::1\""
	}
	v, ok := d.word(n, path, "an address", form)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil:
		d.error(n, path, form, "%q is not an address", cut(v))
	case a.Is4() != v4, a.Zone() != "":
		d.error(n, path, form, "%s is an address of the wrong kind", a)
	case a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		d.error(n, path, "write the address of one machine", "%s is no machine's address", a)
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// last returns the highest address of an IPv4 prefix: the broadcast address.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v |= uint32(1)<<(32-p.Bits()) - 1
	return addr(v)
}

// addr returns the IPv4 address of a number.
func addr(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// number4 returns the number of an IPv4 address.
func number4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// resolvers reads the DNS servers that questions are forwarded to.
func (d *decoder) resolvers(n *node) {
	if n == nil || n.shape == empty {
		if u := d.uplink; n == nil && u != nil && u.model.IPv4.Mode == model.ModeStatic && u.address != nil && len(u.model.IPv4.Resolvers) == 0 {
			d.warn(u.address, "internet.ipv4", "add resolvers: [9.9.9.9] to it, or a section resolvers", "nobody says which DNS servers to ask: names on the internet cannot be resolved")
		}
		return
	}
	seen := make(map[string]*node)
	for i, item := range d.some(n, "resolvers") {
		path := "resolvers[" + strconv.Itoa(i) + "]"
		r, ok := d.resolver(item, path)
		if !ok {
			continue
		}
		id := r.Secret + r.Addr.String()
		if first := seen[id]; first != nil {
			d.error(item, path, "remove it", "the resolver is already in line %d", first.line)
			continue
		}
		seen[id] = item
		d.cfg.Resolvers = append(d.cfg.Resolvers, r)
	}
}

// resolver reads one DNS server: what [resolverOf] takes, or a secret that stands for
// it, as providers put the customer's account into the name.
func (d *decoder) resolver(n *node, path string) (model.Resolver, bool) {
	if n.shape == mapping {
		name, ok := d.secret(n, path, "resolvers[]", model.SecretResolver)
		return model.Resolver{Secret: name, TLS: true, Pos: d.at(n)}, ok
	}
	v, ok := d.word(n, path, "a resolver", resolverForm)
	if !ok {
		return model.Resolver{}, false
	}
	r, msg, hint := resolverOf(v)
	switch a := r.Addr.Addr(); {
	case msg != "":
		d.error(n, path, hint, "%s", msg)
	case slices.ContainsFunc(d.zones, func(z *zone) bool { return z.gateway == a }):
		d.error(n, path, "write the address of another DNS server", "%s is the box itself", a)
	default:
		r.Pos = d.at(n)
		return r, true
	}
	return r, false
}

const resolverForm = `write an address such as 9.9.9.9, or tls://9.9.9.9#dns.quad9.net for DNS over TLS`

// resolverOf reads an address, an address with a port, or tls://ADDRESS#NAME for DNS
// over TLS (RFC 7858). Msg and hint say what is wrong with it; "": nothing is.
func resolverOf(v string) (r model.Resolver, msg, hint string) {
	rest, tls := strings.CutPrefix(v, "tls://")
	port := uint16(53)
	if tls {
		port = 853
		rest, r.Name, _ = strings.Cut(rest, "#")
		r.TLS = true
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")); err == nil {
			ap = netip.AddrPortFrom(a, port)
		}
	}
	r.Addr = ap
	switch a := ap.Addr(); {
	case strings.HasPrefix(v, "https://"):
		return r, "DNS over HTTPS is not supported", resolverForm
	case err != nil:
		return r, fmt.Sprintf("%q is not a resolver", cut(v)), resolverForm
	case a.IsMulticast(), a.IsUnspecified(), a.IsLoopback(), a.Zone() != "", ap.Port() == 0:
		return r, fmt.Sprintf("%s cannot be asked", ap), resolverForm
	case tls && r.Name == "":
		return r, "DNS over TLS needs the resolver's name", fmt.Sprintf("add the name that its certificate carries: %s#dns.example", v)
	case tls && !isDomain(r.Name):
		return r, fmt.Sprintf("%q is not a domain name", cut(r.Name)), "write the name that its certificate carries, in lower case"
	}
	return r, "", ""
}
