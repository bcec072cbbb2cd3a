//go:build linux

package apply

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/state"
)

// ErrNotOurs says that a link does not carry our mark and is therefore left alone.
var ErrNotOurs = errors.New("it does not carry Bulkhead's mark")

// ErrNoVLAN says that the kernel has no 802.1Q.
var ErrNoVLAN = errors.New("this kernel has no 802.1Q VLANs: it needs CONFIG_VLAN_8021Q=y; " +
	"run a kernel that has it, or give the zone a port of its own (no \"vlan\")")

// kindVLAN is IFLA_INFO_KIND of 802.1Q links.
const kindVLAN = "vlan"

// link is what the kernel says of a network interface.
type link struct {
	index   uint32
	parent  uint32 // index; 0: none
	name    string
	alias   string
	kind    string // of its driver; "" for most hardware
	vlan    uint16
	mtu     int
	up      bool
	carrier bool             // something is at the other end; false if not up
	ether   bool             // ARPHRD_ETHER, which loopback is not
	mac     net.HardwareAddr // in force
	permMAC net.HardwareAddr // burnt in; nil if the driver does not tell
}

// links returns all network interfaces of the namespace, sorted by name.
func (k *Kernel) links() ([]link, error) {
	msgs, err := k.dump(unix.RTM_GETLINK, linkRequest(""))
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	list := make([]link, len(msgs))
	for i, m := range msgs {
		if list[i], err = decodeLink(m.Data); err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
	}
	slices.SortFunc(list, func(a, b link) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// link returns the interface with the name. The error wraps ENODEV if there is none.
func (k *Kernel) link(name string) (link, error) {
	msgs, err := k.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   linkRequest(name),
	})
	if err == nil && len(msgs) != 1 {
		err = fmt.Errorf("got %d answers", len(msgs))
	}
	if err != nil {
		return link{}, fmt.Errorf("find interface %s: %w", name, plain(err))
	}
	return decodeLink(msgs[0].Data)
}

// plain takes an errno out of what package netlink wraps around it, which says
// nothing to people. The kernel's own words stay.
func plain(err error) error {
	op, ok := errors.AsType[*netlink.OpError](err)
	switch {
	case !ok:
		return err
	case op.Message != "":
		return fmt.Errorf("%w (%s)", op.Err, op.Message)
	}
	return op.Err
}

// linkRequest asks for one interface, or with "" for all, without its counters.
func linkRequest(name string) []byte {
	ae := netlink.NewAttributeEncoder()
	if name != "" {
		ae.String(unix.IFLA_IFNAME, name)
	}
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	ae.Uint32(unix.IFLA_EXT_MASK, skipStats)
	attrs, _ := ae.Encode() // fails for attributes over 64 KiB only
	return append(make([]byte, unix.SizeofIfInfomsg), attrs...)
}

// decodeLink reads an RTM_NEWLINK. Package rtnetlink could do it, but knows no
// permanent addresses and refuses messages of kernels with more counters than it has.
func decodeLink(data []byte) (link, error) {
	if len(data) < unix.SizeofIfInfomsg {
		return link{}, errors.New("interface message too short")
	}
	l := link{
		index: binary.NativeEndian.Uint32(data[4:]),
		up:    binary.NativeEndian.Uint32(data[8:])&unix.IFF_UP != 0,
		// The kernel shows it for links that are up only.
		carrier: binary.NativeEndian.Uint32(data[8:])&unix.IFF_LOWER_UP != 0,
		ether:   binary.NativeEndian.Uint16(data[2:]) == unix.ARPHRD_ETHER,
	}
	ad, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return link{}, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.name = ad.String()
		case unix.IFLA_IFALIAS:
			l.alias = ad.String()
		case unix.IFLA_MTU:
			l.mtu = int(ad.Uint32())
		case unix.IFLA_LINK:
			l.parent = ad.Uint32()
		case unix.IFLA_ADDRESS:
			l.mac = bytes.Clone(ad.Bytes())
		case unix.IFLA_PERM_ADDRESS:
			l.permMAC = bytes.Clone(ad.Bytes())
		case unix.IFLA_LINKINFO:
			ad.Nested(l.decodeInfo)
		}
	}
	return l, ad.Err()
}

func (l *link) decodeInfo(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			l.kind = ad.String()
		case unix.IFLA_INFO_DATA: // the kind comes before
			if l.kind == kindVLAN {
				ad.Nested(l.decodeVLAN)
			}
		}
	}
	return nil
}

func (l *link) decodeVLAN(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() == unix.IFLA_VLAN_ID {
			l.vlan = ad.Uint16()
		}
	}
	return nil
}

func (l *link) managed() bool { return state.Link{Alias: l.alias}.Managed() }

// createLink makes a VLAN link. One that is there already is taken for ours if it
// is the same and nobody else has marked it: the kernel does not set the mark in
// the moment of creation, so that a crash leaves such links behind.
func (k *Kernel) createLink(want state.Link) error {
	err := k.createVLAN(want)
	if err != nil {
		return fmt.Errorf("create %s, VLAN %d of %s: %w", want.Name, want.VLAN, want.Parent, err)
	}
	if err := k.setAlias(want.Name, want.Alias); err != nil {
		return err
	}
	if want.MTU == 0 {
		return nil
	}
	return k.setMTU(want.Name, want.MTU)
}

func (k *Kernel) createVLAN(want state.Link) error {
	if want.Kind != state.VLAN {
		return errors.New("only VLAN links can be created")
	}
	parent, err := k.link(want.Parent)
	if err != nil {
		return err
	}
	err = k.execute(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, vlanMessage(want, parent.index))
	switch {
	case errors.Is(err, unix.EEXIST):
		return k.checkVLAN(want, parent.index)
	case errors.Is(err, unix.EOPNOTSUPP) && !k.hasVLAN():
		return fmt.Errorf("%w: %w", ErrNoVLAN, unix.EOPNOTSUPP)
	}
	return plain(err)
}

// vlanMessage asks for a VLAN link. The kernel's defaults are what is wanted else:
// 802.1Q, headers put right (REORDER_HDR), up and down together with the parent.
func vlanMessage(want state.Link, parent uint32) *rtnetlink.LinkMessage {
	return &rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: want.Name,
		Type: parent, // IFLA_LINK
		Info: &rtnetlink.LinkInfo{Kind: kindVLAN, Data: &driver.Vlan{ID: &want.VLAN}},
	}}
}

// checkVLAN returns nil if the link that is there already will do.
func (k *Kernel) checkVLAN(want state.Link, parent uint32) error {
	got, err := k.link(want.Name)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("another link has that VLAN: %w", unix.EEXIST)
	case err != nil:
		return err
	case got.kind != kindVLAN || got.vlan != want.VLAN || got.parent != parent:
		return fmt.Errorf("a different link has that name: %w", unix.EEXIST)
	case got.alias != "" && !got.managed():
		return fmt.Errorf("%w: its alias is %q", ErrNotOurs, got.alias)
	}
	return nil
}

// deleteLink removes a VLAN link of ours. One that is gone is fine.
func (k *Kernel) deleteLink(want state.Link) error {
	l, err := k.link(want.Name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err == nil && (l.kind != kindVLAN || !l.managed()) {
		err = ErrNotOurs
	}
	if err == nil {
		err = k.execute(unix.RTM_DELLINK, 0, &rtnetlink.LinkMessage{Index: l.index})
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", want.Name, plain(err))
	}
	return nil
}

func (k *Kernel) setUp(name string, up bool) error {
	m := &rtnetlink.LinkMessage{Change: unix.IFF_UP}
	if up {
		m.Flags = unix.IFF_UP
	}
	if err := k.changeLink(name, m); err != nil {
		return fmt.Errorf("switch %s %s: %w", name, onOff(up), err)
	}
	return nil
}

func onOff(up bool) string {
	if up {
		return "on"
	}
	return "off"
}

func (k *Kernel) setMTU(name string, mtu int) error {
	m := &rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{MTU: uint32(mtu)}}
	if err := k.changeLink(name, m); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", name, mtu, err)
	}
	return nil
}

func (k *Kernel) setAlias(name, alias string) error {
	m := &rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{Alias: &alias}}
	if err := k.changeLink(name, m); err != nil {
		return fmt.Errorf("set alias of %s to %q: %w", name, alias, err)
	}
	return nil
}

// changeLink sends a change of one interface, which RTM_NEWLINK without NLM_F_CREATE is.
func (k *Kernel) changeLink(name string, m *rtnetlink.LinkMessage) error {
	l, err := k.link(name)
	if err != nil {
		return err
	}
	m.Index = l.index
	return plain(k.execute(unix.RTM_NEWLINK, 0, m))
}

// hasVLAN asks for a VLAN link with a number that no VLAN can have. A kernel with
// 802.1Q says that the number is out of range (net/8021q/vlan_netlink.c,
// vlan_validate), one without that it does not know links of that kind, after it
// has looked for a module. Neither makes a link.
func (k *Kernel) hasVLAN() bool {
	const reserved = 0xfff
	err := k.execute(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, vlanMessage(state.Link{VLAN: reserved}, 0))
	return errors.Is(err, unix.ERANGE)
}
