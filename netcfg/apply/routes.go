//go:build linux

package apply

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/state"
)

// routeMessage is a route as we make it: unicast, in the main table, of metric 0
// (IPv6: 1024), with our protocol number.
func routeMessage(r state.Route, index uint32) *rtnetlink.RouteMessage {
	m := &rtnetlink.RouteMessage{
		Family:    family(r.Dst.Addr()),
		DstLength: uint8(r.Dst.Bits()),
		Table:     unix.RT_TABLE_MAIN,
		Protocol:  state.RouteProtocol,
		Scope:     unix.RT_SCOPE_LINK,
		Type:      unix.RTN_UNICAST,
		Attributes: rtnetlink.RouteAttributes{
			OutIface: index,
		},
	}
	if r.Dst.Bits() > 0 {
		m.Attributes.Dst = r.Dst.Addr().AsSlice()
	}
	if r.Gateway.IsValid() {
		m.Scope = unix.RT_SCOPE_UNIVERSE
		m.Attributes.Gateway = r.Gateway.AsSlice()
		// The gateway is on the link because the route says so, also where a provider
		// hands out addresses that do not contain it.
		m.Flags = unix.RTNH_F_ONLINK
	}
	return m
}

func (k *Kernel) addRoute(r state.Route) error {
	if err := k.putRoute(r, netlink.Create|netlink.Excl); err != nil {
		return fmt.Errorf("add route to %s at %s: %w", r.Dst, r.Link, plain(err))
	}
	return nil
}

// replaceRoute turns the way to a destination. It is the same as addRoute if there
// is none yet.
func (k *Kernel) replaceRoute(r state.Route) error {
	if err := k.putRoute(r, netlink.Create|netlink.Replace); err != nil {
		return fmt.Errorf("replace route to %s at %s: %w", r.Dst, r.Link, plain(err))
	}
	return nil
}

func (k *Kernel) putRoute(r state.Route, flags netlink.HeaderFlags) error {
	l, err := k.link(r.Link)
	if err != nil {
		return err
	}
	// Linux knows a route by destination and metric, whoever made it: replacing
	// could hit a stranger's.
	there, err := k.routesTo(r.Dst)
	if err != nil {
		return err
	}
	for _, m := range there {
		if m.Protocol != state.RouteProtocol {
			return fmt.Errorf("a route of protocol %d is in the way: %w", m.Protocol, unix.EEXIST)
		}
		if routeOf(m, r.Link) == r && m.Attributes.OutIface == l.index {
			return nil
		}
	}
	return k.execute(unix.RTM_NEWROUTE, flags, routeMessage(r, l.index))
}

// routesTo lists the routes that compete with one of ours for a destination.
func (k *Kernel) routesTo(dst netip.Prefix) ([]rtnetlink.RouteMessage, error) {
	all, err := k.routes(family(dst.Addr()), 0)
	if err != nil {
		return nil, err
	}
	var list []rtnetlink.RouteMessage
	for _, m := range all {
		const metric6 = 1024 // of IPv6 routes made without one
		if p := m.Attributes.Priority; dstOf(m) == dst && (p == 0 || m.Family == unix.AF_INET6 && p == metric6) {
			list = append(list, m)
		}
	}
	return list, nil
}

// deleteRoute removes a route of ours. One that is gone, or went with its link, is fine.
func (k *Kernel) deleteRoute(r state.Route) error {
	l, err := k.link(r.Link)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err == nil {
		m := routeMessage(r, l.index)
		m.Scope, m.Flags = unix.RT_SCOPE_NOWHERE, 0 // any
		err = k.execute(unix.RTM_DELROUTE, 0, m)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route to %s at %s: %w", r.Dst, r.Link, plain(err))
	}
	return nil
}

// routes lists the unicast routes of the main table, of one protocol or with 0 of all.
func (k *Kernel) routes(family, protocol uint8) ([]rtnetlink.RouteMessage, error) {
	filter := rtnetlink.RouteMessage{Family: family, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: protocol}
	request, err := filter.MarshalBinary()
	if err != nil {
		return nil, err
	}
	msgs, err := k.dump(unix.RTM_GETROUTE, request)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // the table does not exist yet; the kernel has no such family
	}
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", plain(err))
	}
	var list []rtnetlink.RouteMessage
	for _, msg := range msgs {
		var m rtnetlink.RouteMessage
		if err := m.UnmarshalBinary(msg.Data); err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		// Dumps of IPv4 without IPv6 and the like come unfiltered.
		if m.Family == family && m.Table == unix.RT_TABLE_MAIN && m.Type == unix.RTN_UNICAST &&
			(protocol == 0 || m.Protocol == protocol) {
			list = append(list, m)
		}
	}
	return list, nil
}

func dstOf(m rtnetlink.RouteMessage) netip.Prefix {
	a, ok := netip.AddrFromSlice(m.Attributes.Dst)
	switch {
	case ok:
	case m.Family == unix.AF_INET6:
		a = netip.IPv6Unspecified()
	default:
		a = netip.IPv4Unspecified()
	}
	return netip.PrefixFrom(a, int(m.DstLength))
}

func routeOf(m rtnetlink.RouteMessage, link string) state.Route {
	gateway, _ := netip.AddrFromSlice(m.Attributes.Gateway)
	return state.Route{Dst: dstOf(m), Gateway: gateway, Link: link}
}
