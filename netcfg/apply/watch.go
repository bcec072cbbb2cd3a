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
)

// Watch returns a channel on which a value stands after links, addresses, routes or
// nftables of the namespace have changed, by whomever. Any number of changes are
// one value until it is taken. The channel is closed after ctx ends, and if the
// kernel can no longer be watched.
func (k *Kernel) Watch(ctx context.Context) (<-chan struct{}, error) {
	routes, err := k.subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE)
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
		for _, c := range []*netlink.Conn{routes, rules} {
			listeners.Go(func() {
				defer cancel() // one without the other is not a watch
				listen(c, changed)
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
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("watch group %d: %w", g, err), c.Close())
		}
	}
	return c, nil
}

// listen reads notifications until the connection is closed. What they say does
// not matter: whoever is told looks for himself. That is also why it does no harm
// if the kernel drops some because the queue is full (ENOBUFS).
func listen(c *netlink.Conn, changed chan<- struct{}) {
	for {
		if _, err := c.Receive(); err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return
		}
		select {
		case changed <- struct{}{}:
		default: // the last one has not been taken yet
		}
	}
}
