//go:build linux

package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/state"
)

// watchBuffer is the size in bytes of the buffers for notifications: a large ruleset
// that we load ourselves is told of, too, element by element.
const watchBuffer = 4 << 20

// Watch returns a channel on which a value stands after somebody else has changed
// links, addresses, forwarding, routes of ours, or our table of the packet filter. Any number of changes are one value until it is taken. What this Kernel does
// itself is no change of somebody else, as far as the kernel tells who did it: of links
// it does not. The channel is closed after ctx ends, and if the kernel can no longer be
// watched.
func (k *Kernel) Watch(ctx context.Context) (<-chan struct{}, error) {
	routes, err := k.subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return nil, err
	}
	rules, err := k.subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, errors.Join(err, routes.Close())
	}

	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		var listeners sync.WaitGroup
		defer listeners.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for c, concerns := range map[*netlink.Conn]func(netlink.Message) bool{
			routes: k.concernsNetwork,
			rules:  new(transaction{kernel: k}).concerns,
		} {
			listeners.Go(func() {
				defer cancel() // one without the other is not a watch
				k.listen(c, changed, concerns)
			})
			defer c.Close() // ends listen
		}
		<-ctx.Done()
	}()
	return changed, nil
}

func (k *Kernel) subscribe(family int, groups ...uint32) (*netlink.Conn, error) {
	c, err := netlink.Dial(family, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	if err := c.SetReadBuffer(watchBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("watch: set receive buffer: %w", err), c.Close())
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("watch group %d: %w", g, err), c.Close())
		}
	}
	return c, nil
}

// listen reads notifications until the connection is closed. Whoever is told looks for
// himself, so it does no harm if the kernel drops some because the queue is full
// (ENOBUFS), but for not knowing who did what.
func (k *Kernel) listen(c *netlink.Conn, changed chan<- struct{}, concerns func(netlink.Message) bool) {
	for {
		msgs, err := c.Receive()
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return
		}
		concerned := err != nil
		if concerned {
			k.hands.forget()
		}
		for _, m := range msgs {
			concerned = concerns(m) || concerned
		}
		if !concerned {
			continue
		}
		select {
		case changed <- struct{}{}:
		default: // the last one has not been taken yet
		}
	}
}

// concernsNetwork reports whether a notification of rtnetlink is of somebody else's
// change, and notes who that was.
func (k *Kernel) concernsNetwork(m netlink.Message) bool {
	if m.Header.PID == k.nl.PID() {
		return false
	}
	if (m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE) && !concernsRoute(m) {
		return false
	}
	k.hands.noteNetwork(m)
	return true
}

// concernsRoute reports whether a route is one of ours or may have taken the place of
// one. Routing daemons change others all day, and the kernel does with each address.
func concernsRoute(m netlink.Message) bool {
	const table, protocol = 4, 5 // in struct rtmsg
	return len(m.Data) >= unix.SizeofRtMsg && m.Data[table] == unix.RT_TABLE_MAIN &&
		(m.Data[protocol] == state.RouteProtocol || m.Header.Flags&netlink.Replace != 0)
}

// transaction follows the notifications of one transaction of the packet filter after
// the other. The kernel carries out one at a time, and ends each with NFT_MSG_NEWGEN.
type transaction struct {
	kernel *Kernel
	ours   bool // it has touched our table
}

func (t *transaction) concerns(m netlink.Message) bool {
	if t.kernel.sent.has(m.Header.PID) {
		t.ours = false
		return false
	}
	if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
		ours := t.ours
		if t.ours = false; ours {
			t.kernel.hands.noteRules(m)
		}
		return ours
	}
	t.ours = t.ours || ofOurTable(m)
	return false
}
