//go:build linux

package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/state"
)

// family is the address family of an address, in the numbers of netlink.
func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addrMessage is an address as we give it to links: for good, and for IPv4 with the
// subnet's broadcast address, as ip(8) would with "brd +".
func addrMessage(index uint32, p netip.Prefix) *rtnetlink.AddressMessage {
	m := &rtnetlink.AddressMessage{
		Family:       family(p.Addr()),
		PrefixLength: uint8(p.Bits()),
		Scope:        unix.RT_SCOPE_UNIVERSE,
		Index:        index,
		Attributes: &rtnetlink.AddressAttributes{
			Address: p.Addr().AsSlice(),
			Local:   p.Addr().AsSlice(),
		},
	}
	if p.Addr().Is4() && p.Bits() <= 30 {
		b := p.Masked().Addr().As4()
		for bit := p.Bits(); bit < 32; bit++ {
			b[bit/8] |= 0x80 >> (bit % 8)
		}
		m.Attributes.Broadcast = b[:]
	}
	return m
}

// addAddr gives a link an address. An address that is there already stays, with
// its connections; if it was to expire, it no longer is, which is why the request
// says replace and not exclusive.
func (k *Kernel) addAddr(a state.Addr) error {
	l, err := k.link(a.Link)
	if err == nil {
		err = k.execute(unix.RTM_NEWADDR, netlink.Create|netlink.Replace, addrMessage(l.index, a.Prefix))
	}
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", a.Prefix, a.Link, plain(err))
	}
	return nil
}

// deleteAddr takes an address from a link of ours, and only that address.
func (k *Kernel) deleteAddr(a state.Addr) error {
	l, err := k.link(a.Link)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err == nil && !l.managed() {
		err = ErrNotOurs
	}
	if err == nil {
		err = k.deleteAddrOf(l, a.Prefix)
	}
	if err != nil {
		return fmt.Errorf("delete address %s from %s: %w", a.Prefix, a.Link, plain(err))
	}
	return nil
}

func (k *Kernel) deleteAddrOf(l link, p netip.Prefix) error {
	addrs, err := k.addrs(l.index)
	if err != nil {
		return err
	}
	var found *rtnetlink.AddressMessage
	neighbours := false
	for i, m := range addrs {
		switch q := prefixOf(m); {
		case q == p:
			found = &addrs[i]
		case q.Masked() == p.Masked():
			neighbours = true
		}
	}
	if found == nil {
		return nil
	}
	if neighbours && p.Addr().Is4() {
		// Linux takes the first address of a subnet for the primary one and deletes
		// all others with it, unless told to promote one of them: net/ipv4/devinet.c,
		// __inet_del_ifa. The plan relies on their staying.
		if err := k.setSysctl("net/ipv4/conf/"+l.name+"/promote_secondaries", "1"); err != nil {
			return err
		}
	}
	// Sent back as found, since an address with a peer must be named with its peer.
	err = k.execute(unix.RTM_DELADDR, 0, found)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

// addrs returns the addresses of a link, or for 0 of all.
func (k *Kernel) addrs(index uint32) ([]rtnetlink.AddressMessage, error) {
	// The header alone: what rtnetlink makes of it has attributes that strict kernels refuse.
	request := make([]byte, unix.SizeofIfAddrmsg)
	binary.NativeEndian.PutUint32(request[4:], index)
	msgs, err := k.dump(unix.RTM_GETADDR, request)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", plain(err))
	}
	list := make([]rtnetlink.AddressMessage, len(msgs))
	for i, m := range msgs {
		if err := list[i].UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
	}
	return list, nil
}

// prefixOf is the address that a message tells of; the zero Prefix for none.
func prefixOf(m rtnetlink.AddressMessage) netip.Prefix {
	if m.Attributes == nil {
		return netip.Prefix{}
	}
	local := m.Attributes.Local
	if local == nil { // IPv6 without a peer
		local = m.Attributes.Address
	}
	a, _ := netip.AddrFromSlice(local)
	return netip.PrefixFrom(a, int(m.PrefixLength))
}
