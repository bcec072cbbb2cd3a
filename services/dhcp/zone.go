package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/lease"
)

// zone is one zone's service: what it tells clients, and who has which address.
type zone struct {
	name   string
	link   string
	subnet netip.Prefix
	box    netip.Addr // the server identifier
	table  *lease.Table
	device map[netip.Addr]string // reservations' names

	// Options ready for the wire.
	timing     []byte // of an address: lease time, T1, T2
	essential  []byte // sent to every client: without them its network does not work
	additional []extra
}

// extra is an option that is sent to clients that ask for it, the most useful first:
// what comes last is left out first if the client takes short messages only.
type extra struct {
	code byte
	wire []byte // code and length included
}

// newZone returns the zone that c asks for, or says what is wrong with c. netcfgd
// writes only sound values; the check keeps a broken file from becoming a crash.
func newZone(c svcconf.DHCPZone) (*zone, error) {
	subnet := c.Address.Masked()
	for what, addr := range map[string]netip.Addr{
		"address": c.Address.Addr(), "first": c.First, "last": c.Last, "router": c.Router,
	} {
		if !addr.Is4() || !subnet.Contains(addr) {
			return nil, fmt.Errorf("zone %s: %s %s is no IPv4 address in %s", c.Zone, what, addr, subnet)
		}
	}
	if c.Last.Less(c.First) {
		return nil, fmt.Errorf("zone %s: the pool ends at %s before it begins at %s", c.Zone, c.Last, c.First)
	}
	length := time.Duration(c.Lease).Truncate(time.Second)
	if length < time.Second || length > maxLease {
		return nil, fmt.Errorf("zone %s: lease of %s", c.Zone, time.Duration(c.Lease))
	}
	z := &zone{
		name: c.Zone, link: c.Link, subnet: subnet, box: c.Address.Addr(),
		device: make(map[netip.Addr]string),
	}
	kept := make(map[model.MAC]netip.Addr)
	for _, r := range c.Reservations {
		_, twice := kept[r.MAC]
		if !r.Address.Is4() || !subnet.Contains(r.Address) || r.Address == z.box || twice || z.device[r.Address] != "" {
			return nil, fmt.Errorf("zone %s: reservation %s of %s for %s", c.Zone, r.Name, r.Address, r.MAC)
		}
		kept[r.MAC] = r.Address
		z.device[r.Address] = r.Name
	}
	z.table = lease.New(lease.Config{
		Subnet: subnet, Box: z.box, First: c.First, Last: c.Last, Lease: length, Reserved: kept,
	})
	return z, z.setOptions(c, length)
}

// maxLease bounds lease times: its seconds fit 32 bits, and times stay in the range
// of a journal's nanoseconds.
const maxLease = 10 * 365 * 24 * time.Hour

// newZones checks that the zones can be served side by side.
func newZones(conf svcconf.DHCP) (map[string]*zone, error) {
	byLink := make(map[string]*zone, len(conf.Zones))
	for _, c := range conf.Zones {
		z, err := newZone(c)
		if err != nil {
			return nil, err
		}
		if z.link == "" || len(z.link) > 15 {
			return nil, fmt.Errorf("zone %s: link %q", z.name, z.link)
		}
		for _, other := range byLink {
			if other.link == z.link || other.subnet.Overlaps(z.subnet) {
				return nil, fmt.Errorf("zone %s and %s have a link or addresses in common", other.name, z.name)
			}
		}
		byLink[z.link] = z
	}
	return byLink, nil
}

// setOptions encodes the zone's options (RFC 2132). T1 and T2 are half and seven
// eighths of the lease time, as RFC 2131 section 4.4.5 advises.
func (z *zone) setOptions(c svcconf.DHCPZone, length time.Duration) error {
	z.timing = appendSeconds(z.timing, dhcpv4.OptionIPAddressLeaseTime, length)
	z.timing = appendSeconds(z.timing, dhcpv4.OptionRenewTimeValue, length/2)
	z.timing = appendSeconds(z.timing, dhcpv4.OptionRebindingTimeValue, length*7/8)

	mask := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-z.subnet.Bits()))))
	z.essential = appendAddrs(z.essential, dhcpv4.OptionSubnetMask, mask)
	z.essential = appendAddrs(z.essential, dhcpv4.OptionRouter, c.Router)
	z.essential = appendAddrs(z.essential, dhcpv4.OptionDomainNameServer, c.Resolvers...)

	z.additional = nil
	if c.Domain != "" {
		search, err := searchList(c.Domain)
		if err != nil {
			return fmt.Errorf("zone %s: %w", c.Zone, err)
		}
		z.add(appendOption(nil, dhcpv4.OptionDomainName, []byte(c.Domain)))
		z.add(appendOption(nil, dhcpv4.OptionDNSDomainSearchList, search))
	}
	z.add(appendAddrs(nil, dhcpv4.OptionBroadcastAddress, lastAddr(z.subnet)))
	z.add(appendAddrs(nil, dhcpv4.OptionNTPServers, c.NTP...))
	return nil
}

func (z *zone) add(wire []byte) {
	if len(wire) > 0 {
		z.additional = append(z.additional, extra{wire[0], wire})
	}
}

// searchList encodes a domain for option 119 (RFC 3397): labels with their lengths.
func searchList(domain string) ([]byte, error) {
	var b []byte
	for part := range strings.SplitSeq(domain, ".") {
		if len(part) == 0 || len(part) > 63 {
			return nil, fmt.Errorf("domain %q", domain)
		}
		b = append(append(b, byte(len(part))), part...)
	}
	if len(b) > 254 {
		return nil, errors.New("domain is too long")
	}
	return append(b, 0), nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	v := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

func appendOption(b []byte, code dhcpv4.OptionCode, value []byte) []byte {
	return append(append(b, code.Code(), byte(len(value))), value...)
}

func appendSeconds(b []byte, code dhcpv4.OptionCode, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(append(b, code.Code(), 4), uint32(d/time.Second))
}

// appendAddrs appends an option of IPv4 addresses, at most sixteen, and nothing at
// all if there are none.
func appendAddrs(b []byte, code dhcpv4.OptionCode, addrs ...netip.Addr) []byte {
	addrs = addrs[:min(len(addrs), 16)]
	if len(addrs) == 0 {
		return b
	}
	b = append(b, code.Code(), byte(4*len(addrs)))
	for _, a := range addrs {
		v := a.As4()
		b = append(b, v[:]...)
	}
	return b
}
