//go:build linux

// Package neighbour reads from the kernel whom the box has spoken with on its links. It
// changes nothing there.
package neighbour

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
)

// Neighbour is an entry of the kernel's neighbour table that has a MAC: somebody
// answered for the address.
type Neighbour struct {
	Index int // of the link
	MAC   model.MAC
	Addr  netip.Addr
	Age   time.Duration // since it was last sure that the neighbour is there
}

// Table is the kernel's neighbour table.
//
// It is read as a whole every few seconds and not followed: the kernel keeps entries for
// a minute and longer, a thousand at most by default, while who scans a zone causes any
// number of messages about changes.
type Table struct{ conn *netlink.Conn }

// Open opens the table of the network namespace that a file descriptor stands for, or of
// the process's own for 0.
func Open(netns int) (*Table, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: netns, Strict: true})
	if err != nil {
		return nil, fmt.Errorf("open the neighbour table: %w", err)
	}
	return &Table{conn}, nil
}

// Close closes the table.
func (t *Table) Close() error { return t.conn.Close() }

// List returns the neighbours there are.
func (t *Table) List() ([]Neighbour, error) {
	list, err := t.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETNEIGH, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofNdMsg), // of every family and link
	})
	if err != nil {
		return nil, fmt.Errorf("read the neighbour table: %w", err)
	}
	var found []Neighbour
	for _, m := range list {
		if m.Header.Type != unix.RTM_NEWNEIGH {
			continue
		}
		n, ok, err := Decode(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read the neighbour table: %w", err)
		}
		if ok {
			found = append(found, n)
		}
	}
	return found, nil
}

// Attributes of a neighbour, linux/neighbour.h.
const (
	attrDst       = 1 // NDA_DST
	attrLLAddr    = 2 // NDA_LLADDR
	attrCacheInfo = 3 // NDA_CACHEINFO
)

// answered are the states of neighbours that have answered: not those that somebody has
// put there (permanent) or that are looked for in vain.
const answered = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// tick is the unit of ages: 1/USER_HZ, which is 100 everywhere.
const tick = 10 * time.Millisecond

// Decode reads the payload of a message about a neighbour (struct ndmsg and attributes).
// It reports false for one that has not answered, or not by Ethernet.
func Decode(data []byte) (n Neighbour, ok bool, err error) {
	if len(data) < unix.SizeofNdMsg {
		return n, false, fmt.Errorf("neighbour of %d bytes", len(data))
	}
	family, state := data[0], binary.NativeEndian.Uint16(data[8:])
	n.Index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	attrs, err := netlink.NewAttributeDecoder(data[unix.SizeofNdMsg:])
	if err != nil {
		return n, false, fmt.Errorf("attributes of a neighbour: %w", err)
	}
	aged := false
	for attrs.Next() {
		b := attrs.Bytes()
		switch attrs.Type() {
		case attrDst:
			n.Addr, _ = netip.AddrFromSlice(b)
		case attrLLAddr:
			if len(b) == len(n.MAC) {
				n.MAC = model.MAC(b)
			}
		case attrCacheInfo: // struct nda_cacheinfo: confirmed, used, updated, references
			if len(b) < 4 {
				return n, false, errors.New("neighbour with a short age")
			}
			n.Age, aged = time.Duration(binary.NativeEndian.Uint32(b))*tick, true
		}
	}
	if err := attrs.Err(); err != nil {
		return n, false, fmt.Errorf("attributes of a neighbour: %w", err)
	}
	inet := family == unix.AF_INET && n.Addr.Is4() || family == unix.AF_INET6 && n.Addr.Is6()
	return n, inet && aged && state&answered != 0 && !n.MAC.IsZero() && n.Index > 0, nil
}
