package dns

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Times to live, in seconds. Leases come and go, and so does what a client was told
// about a name that was not there yet: it must not remember that for long.
const (
	localTTL       = 60
	localAbsentTTL = 10
	emptyTTL       = 10800 // RFC 6303 section 3
)

// maxLeases bounds how many leases become names.
const maxLeases = 1 << 16

// unclaimable are host names that no DHCP client may take, because programs ask for
// them by convention and believe the answer (WPAD: CERT VU#598349).
var unclaimable = []string{"wpad", "isatap", "localhost"}

// table is every local name. It is immutable: changes make a new one.
type table struct {
	apexes  map[string]*apex
	records map[string]*record // all existing names, by name as on the wire
	holders map[string]holder  // of names that come from leases, by label
}

// holder is whose lease a name comes from.
type holder struct {
	zone string
	addr netip.Addr
	mac  model.MAC
}

func holderOf(l *svcconf.Lease) holder { return holder{l.Zone, l.Address, l.MAC} }

// apex is the top of a domain that is answered here and nowhere else.
type apex struct {
	soa, ns []byte // record data
	absent  uint32 // negative TTL, seconds
	// only are the addresses that a reverse domain is about, if not all below it.
	only []netip.Prefix
	// dsAbove: DS records of the name are the parent's to give. RFC 8375 section 4.
	dsAbove bool
}

// record is what is known of one name. The zero record is a name without data.
type record struct {
	v4, v6  netip.Addr
	self    bool   // the box: v4 is its address in the zone that asks
	ptr     []byte // a name as on the wire
	top     *apex
	expires time.Time // zero: as long as the table
}

// newTable builds the names of a configuration and the leases in force at now. The
// order of precedence is box, device, lease; among leases that of a device, then the
// one that had the name in the table before (last, or nil), then the older one.
func newTable(cfg *svcconf.DNS, leases []svcconf.Lease, last *table, now time.Time) (*table, error) {
	domain := wireName(cfg.Domain)
	if len(domain) < 2 {
		return nil, fmt.Errorf("domain %q is not a domain name", cfg.Domain)
	}
	t := &table{
		apexes:  make(map[string]*apex),
		records: make(map[string]*record),
		holders: make(map[string]holder),
	}
	t.addEmptyDomains()
	for _, z := range cfg.Zones {
		t.addReverseDomain(z.Subnet)
	}
	box := under(cfg.Name, domain)
	if box == nil {
		return nil, fmt.Errorf("box name %q is not one label", cfg.Name)
	}
	t.addApex(domain, box, localAbsentTTL)
	t.records[string(box)] = &record{self: true}
	for _, z := range cfg.Zones {
		t.addPTR(z.Address, box, time.Time{})
	}
	for _, h := range cfg.Hosts {
		name := under(h.Name, domain)
		if name == nil || !h.Address.Is4() {
			return nil, fmt.Errorf("host %q with address %s: not one label with an IPv4 address", h.Name, h.Address)
		}
		t.addHost(name, h.Address, time.Time{})
	}
	leases = slices.DeleteFunc(slices.Clone(leases), func(l svcconf.Lease) bool { return !now.Before(l.Expires) })
	t.addLeases(cfg, leases, last, domain)
	t.fillGaps()
	return t, nil
}

// addLeases names clients as they call themselves. A name that belongs to the box or
// a device stays theirs, whoever claims it.
func (t *table) addLeases(cfg *svcconf.DNS, leases []svcconf.Lease, last *table, domain []byte) {
	rank := func(l *svcconf.Lease) int {
		switch {
		case l.Device != "":
			return 0
		case last != nil && last.holders[strings.ToLower(l.Hostname)] == holderOf(l):
			// A lease is granted anew when it is renewed, which must not cost it its name.
			return 1
		}
		return 2
	}
	slices.SortStableFunc(leases, func(a, b svcconf.Lease) int {
		return cmp.Or(rank(&a)-rank(&b), a.Granted.Compare(b.Granted), a.Address.Compare(b.Address))
	})
	for _, l := range leases[:min(len(leases), maxLeases)] {
		name := under(l.Hostname, domain)
		if name == nil || !hostLabel(l.Hostname) || slices.Contains(unclaimable, strings.ToLower(l.Hostname)) {
			continue
		}
		// dhcpd says which zone the lease is of; an address of elsewhere in that zone
		// would let a client name other people's machines.
		zone := slices.IndexFunc(cfg.Zones, func(z svcconf.DNSZone) bool { return z.Zone == l.Zone })
		if !l.Address.Is4() || zone >= 0 && !cfg.Zones[zone].Subnet.Contains(l.Address) {
			continue
		}
		if t.addHost(name, l.Address, l.Expires) {
			t.holders[strings.ToLower(l.Hostname)] = holderOf(&l)
		}
	}
}

// addHost adds a name and its address, unless the name is taken, and the way back,
// unless the address has another name. It reports whether it added the name.
func (t *table) addHost(name []byte, addr netip.Addr, expires time.Time) bool {
	if t.records[string(name)] != nil {
		return false
	}
	t.records[string(name)] = &record{v4: addr, expires: expires}
	t.addPTR(addr, name, expires)
	return true
}

func (t *table) addPTR(addr netip.Addr, name []byte, expires time.Time) {
	if reverse := string(reverseName(addr)); t.records[reverse] == nil {
		t.records[reverse] = &record{ptr: name, expires: expires}
	}
}

// newApex returns the top of a domain that the server answers for.
func newApex(server []byte, absent uint32) *apex {
	soa := slices.Concat(server, wireName("nobody.invalid"))
	for _, v := range []uint32{1, 3600, 1200, 604800, absent} { // RFC 6303 section 3
		soa = binary.BigEndian.AppendUint32(soa, v)
	}
	return &apex{soa: soa, ns: server, absent: absent}
}

// addApex makes name and all below it local. Names of servers are of use to nobody
// here, but SOA and NS queries at the top must have an answer.
func (t *table) addApex(name, server []byte, absent uint32) *apex {
	a := newApex(server, absent)
	if old := t.apexes[string(name)]; old != nil { // the local domain may be a special one
		a.dsAbove = old.dsAbove
	}
	t.apexes[string(name)] = a
	r := t.records[string(name)]
	if r == nil {
		r = new(record)
		t.records[string(name)] = r
	}
	r.top = a
	return a
}

// addReverseDomain makes the way back from the addresses of a subnet local, where it
// is not anyway, as with the private ranges. Domains end at dots: a prefix between
// takes several, or the part of one.
func (t *table) addReverseDomain(subnet netip.Prefix) {
	if !subnet.Addr().Is4() || t.apexOf(reverseName(subnet.Addr())) != nil {
		return
	}
	octets := min(max((subnet.Bits()+7)/8, 1), 3)
	base := subnet.Masked().Addr().As4()
	n := 1 << max(8*octets-subnet.Bits(), 0)
	for i := range n {
		b := base
		b[octets-1] += byte(i)
		labels := reverseName(netip.AddrFrom4(b))
		for range 4 - octets {
			labels = labels[1+labels[0]:]
		}
		a := t.apexes[string(labels)]
		if a == nil {
			a = t.addApex(labels, labels, localAbsentTTL)
		}
		if subnet.Bits() > 8*octets {
			a.only = append(a.only, subnet)
		}
	}
}

// apexOf returns the closest apex at or above a name, or nil.
func (t *table) apexOf(name []byte) *apex {
	for at := 0; at < len(name); at += 1 + int(name[at]) {
		if a := t.apexes[string(name[at:])]; a != nil {
			return a
		}
	}
	return nil
}

// fillGaps adds the names between a record and its apex: they exist without data,
// and a client that is told otherwise may conclude that nothing lies below them
// (RFC 8020).
func (t *table) fillGaps() {
	var names []string
	for name := range t.records {
		names = append(names, name)
	}
	for _, name := range names {
		for t.apexes[name] == nil && len(name) > 1 {
			name = name[1+name[0]:]
			if t.records[name] == nil && t.apexOf([]byte(name)) != nil {
				t.records[name] = new(record)
			}
		}
	}
}

// under returns the name of one label below a domain, or nil.
func under(label string, domain []byte) []byte {
	if label == "" || strings.Contains(label, ".") {
		return nil
	}
	name := wireName(label)
	if name == nil || len(name)-1+len(domain) > nameBytes {
		return nil
	}
	return slices.Concat(name[:len(name)-1], domain)
}

// hostLabel reports whether s is letters, digits and inner hyphens: clients choose
// their names, and these end up in other people's logs and pages.
func hostLabel(s string) bool {
	for i, c := range []byte(s) {
		c = lower(c)
		inner := i > 0 && i < len(s)-1
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' && inner) {
			return false
		}
	}
	return s != ""
}

// reverseName is the name of the PTR record of an IPv4 address, RFC 1035 section 3.5.
func reverseName(a netip.Addr) []byte {
	b := a.As4()
	name := make([]byte, 0, len("255.255.255.255.in-addr.arpa.")+1)
	for _, octet := range slices.Backward(b[:]) {
		at := len(name)
		name = strconv.AppendUint(append(name, 0), uint64(octet), 10)
		name[at] = byte(len(name) - at - 1)
	}
	return append(name, "\x07in-addr\x04arpa\x00"...)
}

// reverseAddr is the inverse of reverseName.
func reverseAddr(name []byte) (netip.Addr, bool) {
	var b [4]byte
	for i := 3; i >= 0; i-- {
		n := int(name[0])
		if n == 0 {
			return netip.Addr{}, false
		}
		v, err := strconv.ParseUint(string(name[1:1+n]), 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		b[i] = byte(v)
		name = name[1+n:]
	}
	return netip.AddrFrom4(b), string(name) == "\x07in-addr\x04arpa\x00"
}
