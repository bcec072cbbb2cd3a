//go:build linux

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Multicast groups, include/uapi/linux/netfilter/nfnetlink_compat.h. Updates are of no
// use here and cost a third more for each connection.
const (
	groupConntrackNew     = 1
	groupConntrackDestroy = 3
)

// eventBuffer is how much the kernel keeps for us, in bytes: the end of 80,000
// connections at once.
const eventBuffer = 8 << 20

// datagram is the largest that is read at once: the kernel's NLMSG_GOODSIZE, rounded up.
const datagram = 32 << 10

// ErrLost says that there were more events than the kernel kept: some are lost, and the
// table has to be looked at as a whole.
var ErrLost = errors.New("events were lost")

// Events tells of connections that begin and end. It is not safe for concurrent use.
type Events struct {
	nl   *netlink.Conn
	buf  []byte
	conn Conn

	// Unread counts messages that made no sense.
	Unread uint64
	// Drained says that the last Read left nothing that waits.
	Drained bool
}

// OpenEvents listens in the network namespace that the file descriptor netns refers to,
// or for 0 in that of the process. It needs CAP_NET_ADMIN.
func OpenEvents(netns int) (*Events, error) { return openEvents(netns, eventBuffer) }

func openEvents(netns, buffer int) (*Events, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open ctnetlink: %w", err)
	}
	err = nl.SetReadBuffer(buffer)
	for _, g := range []uint32{groupConntrackNew, groupConntrackDestroy} {
		err = errors.Join(err, nl.JoinGroup(g))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to ctnetlink: %w", err), nl.Close())
	}
	return &Events{nl: nl, buf: make([]byte, datagram)}, nil
}

// Close lets go of the kernel, and ends a Read.
func (e *Events) Close() error { return e.nl.Close() }

// batch is how many events are read at most before others get their turn.
const batch = 1024

// Read waits for an event, calls f with it and with all others that are there, up to a
// bound, and returns. What f is given is good until it returns. The error is [ErrLost] if
// some did not get here, and wraps [os.ErrDeadlineExceeded] after until.
func (e *Events) Read(until time.Time, f func(Change, *Conn)) error {
	if err := e.nl.SetReadDeadline(until); err != nil {
		return err
	}
	raw, err := e.nl.SyscallConn()
	if err != nil {
		return err
	}
	read := 0
	e.Drained = false
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for read < batch {
			n, _, flags, _, err := unix.Recvmsg(int(fd), e.buf, nil, unix.MSG_DONTWAIT)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				e.Drained = true
				return read > 0
			case err == unix.ENOBUFS:
				failed = ErrLost
				return true
			case err != nil:
				failed = fmt.Errorf("read from ctnetlink: %w", err)
				return true
			case flags&unix.MSG_TRUNC != 0:
				e.Unread++
			default:
				e.tell(e.buf[:n], f)
			}
			read++
		}
		return true
	})
	return errors.Join(err, failed)
}

func (e *Events) tell(b []byte, f func(Change, *Conn)) {
	err := each(b, func(typ uint16, data []byte) {
		change := Begun
		switch typ {
		case ctNew:
		case ctDelete:
			change = Ended
		default:
			return
		}
		switch err := e.conn.decode(data); {
		case err == nil:
			f(change, &e.conn)
		case !errors.Is(err, errFamily):
			e.Unread++
		}
	})
	if err != nil {
		e.Unread++
	}
}

// List calls f with the connections that there are. Of those that begin or end meanwhile
// some may be missed: those that begin are among the events of who listens already.
func List(ctx context.Context, netns int, f func(*Conn)) error {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return fmt.Errorf("open ctnetlink: %w", err)
	}
	defer nl.Close()
	stop := context.AfterFunc(ctx, func() { _ = nl.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = nl.Send(netlink.Message{
		Header: netlink.Header{Type: ctGet, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	var c Conn
	for m, err := range nl.ReceiveIter() {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("list connections: %w", err)
		}
		if c.decode(m.Data) == nil {
			f(&c)
		}
	}
	return nil
}
