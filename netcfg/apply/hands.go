//go:build linux

package apply

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// Culprit returns who last changed what a finding is about: "nft (process 4711)" or
// "netlink port 4711", which is the number of the process if that has one socket of
// the kind. It is "" if the kernel did not tell: it never does for settings, nor what
// becomes of links, and nobody is told of what happens without a [Kernel.Watch].
func (k *Kernel) Culprit(f plan.Finding) string {
	if f.Kind == plan.KindRuleset {
		f.Name = ""
	}
	return k.hands.of(thing{f.Kind, f.Name})
}

// thing is what a [plan.Finding] is about.
type thing struct {
	kind plan.Kind
	name string
}

// maxHands bounds how many things are remembered.
const maxHands = 1000

// hands are those who last changed things, by what the notifications say. The zero
// value is ready for use.
type hands struct {
	mu   sync.Mutex
	last map[thing]string
}

func (h *hands) of(t thing) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[t]
}

// note remembers who changed something; "" for nobody knows.
func (h *hands) note(t thing, who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if who == "" {
		delete(h.last, t)
		return
	}
	if h.last == nil || len(h.last) >= maxHands {
		h.last = make(map[thing]string)
	}
	h.last[t] = who
}

func (h *hands) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.last)
}

// noteNetwork takes a notification of rtnetlink. Its port is 0 if the kernel itself has
// changed something, and for what is caused by a change of something else.
func (h *hands) noteNetwork(m netlink.Message) {
	who := ""
	if m.Header.PID != 0 {
		who = fmt.Sprintf("netlink port %d", m.Header.PID)
	}
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if l, err := decodeLink(m.Data); err == nil {
			h.note(thing{plan.KindLink, l.name}, who)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		var a rtnetlink.AddressMessage
		if err := a.UnmarshalBinary(m.Data); err == nil {
			h.note(thing{plan.KindAddr, prefixOf(a).String()}, who)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if dst, ok := destination(m.Data); ok {
			h.note(thing{plan.KindRoute, dst.String()}, who)
		}
	}
}

// destination is that of a route. There are many of them, of which package rtnetlink
// would decode all the rest.
func destination(data []byte) (netip.Prefix, bool) {
	if len(data) < unix.SizeofRtMsg {
		return netip.Prefix{}, false
	}
	m := rtnetlink.RouteMessage{Family: data[0], DstLength: data[1]}
	for typ, value := range attributes(data[unix.SizeofRtMsg:]) {
		if typ == unix.RTA_DST {
			m.Attributes.Dst = value
		}
	}
	return dstOf(m), true
}

// noteRules takes the notification that ends a transaction of the packet filter.
func (h *hands) noteRules(m netlink.Message) {
	o := decodeObject(payload(m))
	who := ""
	if pid := o.uint32(unix.NFTA_GEN_PROC_PID); pid != 0 {
		who = fmt.Sprintf("%s (process %d)", o.string(unix.NFTA_GEN_PROC_NAME), pid)
	}
	h.note(thing{kind: plan.KindRuleset}, who)
}

// ofOurTable reports whether a notification of the packet filter is about our table or
// anything in it.
func ofOurTable(m netlink.Message) bool {
	if len(m.Data) < sizeofNfGenMsg || m.Data[0] != unix.NFPROTO_INET {
		return false
	}
	for typ, value := range attributes(payload(m)) {
		if typ == unix.NFTA_TABLE_NAME { // attribute 1 is the table in all messages
			return (object{typ: value}).string(typ) == state.TableName
		}
	}
	return false
}

// ports are the netlink ports of the last transactions that this process has sent. The
// zero value is ready for use.
type ports struct {
	mu   sync.Mutex
	list []uint32
}

// keptPorts is more than there are transactions on their way.
const keptPorts = 16

func (p *ports) add(port uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == keptPorts {
		p.list = slices.Delete(p.list, 0, 1)
	}
	p.list = append(p.list, port)
}

func (p *ports) has(port uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.list, port)
}
