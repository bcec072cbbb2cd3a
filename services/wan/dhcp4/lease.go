package dhcp4

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/facts"
)

// Bounds on what a server may say.
const (
	// minLease is short because cable modems hand out leases of 30 seconds while
	// they have no line, and long enough that a client which believes it sends no
	// more than a packet every few seconds.
	minLease = 10 * time.Second
	maxLease = 365 * 24 * time.Hour
	// forever is how a lease without end is written, RFC 2131 section 3.3.
	forever = 0xffffffff

	maxResolvers   = 8
	minMTU, maxMTU = 576, 9000
	minBits        = 8 // of the subnet mask
)

// A Lease is an address in force, together with the times to ask for more of it.
type Lease struct {
	facts.Lease
	Renew  time.Time // T1: ask the server that gave it; zero: never
	Rebind time.Time // T2: ask any server; zero: never
}

// lease checks what a server offers or acknowledges and returns it as a lease on
// the named link that began at the given time, when the request was sent (RFC
// 2131 section 4.4.1). The error says in one line what is wrong with it.
func (r *reply) lease(link string, began time.Time) (*Lease, error) {
	if !isHost(r.yours) || r.yours.IsLinkLocalUnicast() {
		return nil, fmt.Errorf("%s is not a host's address", r.yours)
	}
	if r.yours == r.server {
		return nil, fmt.Errorf("%s is the server's own address", r.yours)
	}
	bits, err := maskBits(r.opts)
	if err != nil {
		return nil, err
	}
	subnet := netip.PrefixFrom(r.yours, bits)
	if !usable(subnet, r.yours) {
		return nil, fmt.Errorf("%s is no host's address in its subnet", subnet)
	}
	gateway, err := gateway(r.opts, subnet)
	if err != nil {
		return nil, err
	}
	l := &Lease{Lease: facts.Lease{
		Link: link, Address: subnet, Gateway: gateway, Server: r.server,
		Resolvers: resolvers(r.opts, r.yours),
		MTU:       mtu(r.opts),
		Obtained:  began,
	}}
	return l, l.setTimes(r.opts)
}

func maskBits(opts dhcpv4.Options) (int, error) {
	b := opts[uint8(dhcpv4.OptionSubnetMask)]
	if len(b) != 4 {
		return 0, fmt.Errorf("no subnet mask")
	}
	mask := binary.BigEndian.Uint32(b)
	bits := 0
	for mask&(1<<31) != 0 {
		mask <<= 1
		bits++
	}
	if mask != 0 || bits < minBits {
		return 0, fmt.Errorf("subnet mask %d.%d.%d.%d is not between /%d and /32", b[0], b[1], b[2], b[3], minBits)
	}
	return bits, nil
}

// usable reports whether a host may have the address a in its subnet: not the
// subnet's own and not its broadcast address, which /31 (RFC 3021) and /32 lack.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	if subnet.Bits() >= 31 {
		return true
	}
	v := binary.BigEndian.Uint32(a.AsSlice())
	host := uint32(1)<<(32-subnet.Bits()) - 1
	return v&host != 0 && v&host != host
}

// gateway returns the default gateway: that of the classless static routes if
// there are any (RFC 3442: the router option is to be ignored then), otherwise
// the first router that can be reached.
//
// All other routes are ignored, whoever sends them: a rogue server must not draw
// single networks away from the way to the internet.
func gateway(opts dhcpv4.Options, subnet netip.Prefix) (netip.Addr, error) {
	var candidates []netip.Addr
	var onLink []netip.Prefix
	if b, ok := opts[uint8(dhcpv4.OptionClasslessStaticRoute)]; ok {
		var routes dhcpv4.Routes
		if err := routes.FromBytes(b); err != nil {
			return netip.Addr{}, fmt.Errorf("classless static routes: %w", err)
		}
		for _, r := range routes {
			ones, _ := r.Dest.Mask.Size()
			via, _ := netip.AddrFromSlice(r.Router.To4())
			dst, _ := netip.AddrFromSlice(r.Dest.IP.To4())
			switch {
			case ones == 0:
				candidates = append(candidates, via)
			case via.IsUnspecified():
				onLink = append(onLink, netip.PrefixFrom(dst, ones))
			}
		}
	} else {
		candidates = addrs(opts[uint8(dhcpv4.OptionRouter)])
	}
	if len(candidates) == 0 {
		return netip.Addr{}, fmt.Errorf("no default gateway")
	}
	for _, c := range candidates {
		if isHost(c) && c != subnet.Addr() && reachable(c, subnet, onLink) {
			return c, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("gateway %s cannot be reached from %s", candidates[0], subnet)
}

// reachable reports whether a gateway is a neighbour: in the subnet, or on the
// link because the subnet is a lone address or because the server says so.
func reachable(gw netip.Addr, subnet netip.Prefix, onLink []netip.Prefix) bool {
	if subnet.Contains(gw) {
		return usable(subnet, gw)
	}
	return subnet.IsSingleIP() || slices.ContainsFunc(onLink, func(p netip.Prefix) bool { return p.Contains(gw) })
}

// resolvers returns the name servers that can be some, at most eight. Bad ones
// are left out: an address with too few resolvers is better than no address.
func resolvers(opts dhcpv4.Options, own netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range addrs(opts[uint8(dhcpv4.OptionDomainNameServer)]) {
		ok := isHost(a) && !a.IsLinkLocalUnicast() && a != own
		if ok && len(list) < maxResolvers && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// mtu returns the link's MTU, or 0 if the server says none or nonsense.
func mtu(opts dhcpv4.Options) uint16 {
	b := opts[uint8(dhcpv4.OptionInterfaceMTU)]
	if len(b) != 2 {
		return 0
	}
	v := binary.BigEndian.Uint16(b)
	if v < minMTU || v > maxMTU {
		return 0
	}
	return v
}

// setTimes sets when the lease ends and when to ask for more. Times that make no
// sense (RFC 2131 wants T1 < T2 < lease) are replaced by the RFC's defaults.
func (l *Lease) setTimes(opts dhcpv4.Options) error {
	lease, raw, ok := seconds(opts, dhcpv4.OptionIPAddressLeaseTime)
	switch {
	case !ok:
		return fmt.Errorf("no lease time")
	case raw == forever:
		return nil
	case lease < minLease:
		return fmt.Errorf("lease of %s is shorter than %s", lease, minLease)
	}
	lease = min(lease, maxLease)
	t1, _, ok1 := seconds(opts, dhcpv4.OptionRenewTimeValue)
	t2, _, ok2 := seconds(opts, dhcpv4.OptionRebindingTimeValue)
	if !ok1 || !ok2 || t1 < minLease/2 || t1 >= t2 || t2 >= lease {
		t1, t2 = lease/2, lease/8*7
	}
	l.Expires = l.Obtained.Add(lease)
	l.Renew, l.Rebind = l.Obtained.Add(t1), l.Obtained.Add(t2)
	return nil
}

func seconds(opts dhcpv4.Options, code dhcpv4.OptionCode) (d time.Duration, raw uint32, ok bool) {
	b := opts[code.Code()]
	if len(b) != 4 {
		return 0, 0, false
	}
	raw = binary.BigEndian.Uint32(b)
	return time.Duration(raw) * time.Second, raw, true
}

// addrs reads a list of IPv4 addresses; what is left over at the end is ignored.
func addrs(b []byte) []netip.Addr {
	var list []netip.Addr
	for c := range slices.Chunk(b, 4) {
		if a, ok := netip.AddrFromSlice(c); ok && len(c) == 4 {
			list = append(list, a)
		}
	}
	return list
}
