//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// dhclientConf makes ISC's client as quick as a lab wants it: by default it may
// wait for minutes after a first question that found the server not yet there.
const dhclientConf = `send host-name = gethostname();
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name, ntp-servers;
timeout 60;
retry 1;
initial-interval 1;
backoff-cutoff 2;
select-timeout 0;
initial-delay 0;
reboot 1;
`

// dhcp starts a client's DHCP client. The returned channel is closed when the
// program has ended, which it does with the context.
func (l *Lab) dhcp(ctx context.Context, c *Client) (<-chan struct{}, error) {
	file := func(suffix string) string { return filepath.Join(l.World.Dir, c.Name+suffix) }
	var cmd *exec.Cmd
	switch c.Program {
	case "dhclient":
		if err := os.WriteFile(file(".dhclient.conf"), []byte(dhclientConf), 0o644); err != nil {
			return nil, err
		}
		cmd = exec.Command("dhclient", "-4", "-d", "-cf", file(".dhclient.conf"), "-lf", file(".leases"), "-pf", file(".pid"), clientLink)
	case "udhcpc":
		cmd = exec.Command("udhcpc", "-f", "-i", clientLink, "-x", "hostname:"+c.Name, "-t", "20", "-T", "1", "-A", "1", "-p", file(".pid"))
	default:
		return nil, fmt.Errorf("%s has no DHCP client %q", c.Name, c.Program)
	}
	return l.background(ctx, c.Host, c.Name, cmd)
}

// awaitAddress returns when the client's port has an IPv4 address.
func (c *Client) awaitAddress(ctx context.Context) (netip.Addr, error) {
	conn, err := rtnetlink.Dial(&netlink.Config{NetNS: c.NetNS(), Groups: 1 << (unix.RTNLGRP_IPV4_IFADDR - 1)})
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for {
		// Asking on the listening connection would mix answers with events.
		if a, err := c.address(); err != nil || a.IsValid() {
			return a, err
		}
		if _, _, err := conn.Receive(); err != nil {
			return netip.Addr{}, errors.Join(fmt.Errorf("%s: no address from DHCP (%s)", c.Name, c.Program), ctx.Err())
		}
	}
}

// address returns the IPv4 address of the client's port now, zero if it has none.
func (c *Client) address() (netip.Addr, error) {
	conn, err := rtnetlink.Dial(&netlink.Config{NetNS: c.NetNS()})
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	list, err := conn.Address.List()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range list {
		if a.Family == unix.AF_INET && a.Attributes != nil && a.Scope == unix.RT_SCOPE_UNIVERSE {
			if addr, ok := netip.AddrFromSlice(a.Attributes.Address.To4()); ok {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, nil
}
