package vswitch

import (
	"fmt"
	"slices"
	"time"
)

// Mode says which frames a port takes and how it sends them: those of one VLAN
// without a tag, those of others with one. Everything else is dropped, in both
// directions. The zero Mode is a port that is switched off.
type Mode struct {
	Untagged uint16   // VLAN of frames without a tag, 1 to 4094; 0: they are dropped
	Tagged   []uint16 // VLANs whose frames carry a tag
}

// Access is the mode of a port for one machine that knows nothing of VLANs.
func Access(vlan uint16) Mode { return Mode{Untagged: vlan} }

// Trunk is the mode of a port that carries several VLANs, all of them tagged.
func Trunk(vlans ...uint16) Mode { return Mode{Tagged: vlans} }

func (m Mode) check() error {
	for _, v := range append([]uint16{max(m.Untagged, 1)}, m.Tagged...) {
		if v < 1 || v > 4094 {
			return fmt.Errorf("no VLAN has the number %d", v)
		}
	}
	if slices.Contains(m.Tagged, m.Untagged) {
		return fmt.Errorf("VLAN %d is to be tagged and untagged on one port", m.Untagged)
	}
	return nil
}

// Reason says why a frame was dropped.
type Reason uint8

// Reasons. The first is that of frames that were not dropped.
const (
	Passed      Reason = iota
	Malformed          // shorter than a header, too long, or from a group address
	Reserved           // to an address that no bridge passes on
	NotTagged          // without a tag where it needs one
	NotUntagged        // with a tag on a port that takes none
	Priority           // with a tag of VLAN 0, which is none
	Nested             // with a second tag inside the first, or a provider's tag
	Foreign            // of a VLAN that the port is no member of
	Local              // the receiver is behind the port that the frame came from
	QueueFull          // at the port it should have left by
	Unplugged          // no cable in the port it should have left by
	reasons
)

func (r Reason) String() string {
	return [...]string{"passed", "malformed", "reserved", "not tagged", "not untagged", "priority-tagged", "nested tags",
		"foreign VLAN", "local", "queue full", "unplugged"}[r]
}

// Limits of what is learnt.
const (
	maxAge    = 5 * time.Minute // IEEE 802.1Q-2018 table 8-6
	maxPerNet = 1024            // addresses in one VLAN; more are not learnt, and flooded
)

// Bridge decides where frames go. It is pure: it is told the time and sends
// nothing. The zero Bridge has no ports.
type Bridge struct {
	ports []bridgePort
	nets  map[uint16]*network
}

type bridgePort struct {
	mode   Mode
	member map[uint16]bool // of tagged VLANs
}

// network is what is known of one VLAN.
type network struct {
	hosts map[MAC]host
	swept time.Time // when the aged ones were last removed
}

type host struct {
	port int
	seen time.Time
}

// Out is a frame that leaves by a port.
type Out struct {
	Port  int
	Frame []byte // not to be changed: several ports may be given the same
}

// AddPort adds a port that is switched off and returns its number; the first is 0.
func (b *Bridge) AddPort() int {
	b.ports = append(b.ports, bridgePort{})
	return len(b.ports) - 1
}

// SetMode changes a port's mode and forgets who was behind it.
func (b *Bridge) SetMode(port int, m Mode) error {
	if err := m.check(); err != nil {
		return err
	}
	p := bridgePort{mode: Mode{m.Untagged, slices.Clone(m.Tagged)}, member: make(map[uint16]bool)}
	for _, v := range m.Tagged {
		p.member[v] = true
	}
	b.ports[port] = p
	b.Forget(port)
	return nil
}

// Forget forgets who was behind a port, as when its cable is pulled out.
func (b *Bridge) Forget(port int) {
	for _, n := range b.nets {
		for mac, h := range n.hosts {
			if h.port == port {
				delete(n.hosts, mac)
			}
		}
	}
}

// Forward decides on a frame that came in at a port: where it goes, in the order of
// the ports, or why nowhere. The frame must not change afterwards.
func (b *Bridge) Forward(in int, frame []byte, now time.Time) ([]Out, Reason) {
	if len(frame) < headerLen || len(frame) > MaxFrame {
		return nil, Malformed
	}
	dst, src := MAC(frame[:6]), MAC(frame[6:12])
	if src.group() {
		return nil, Malformed
	}
	if dst.reserved() {
		return nil, Reserved
	}
	vlan, tagged, drop := b.ports[in].classify(frame)
	if drop != Passed {
		return nil, drop
	}
	n := b.learn(vlan, src, in, now)
	if h, ok := n.hosts[dst]; ok && !dst.group() && now.Sub(h.seen) < maxAge {
		if h.port == in {
			return nil, Local
		}
		return b.copies(vlan, frame, tagged, h.port, h.port+1, in), Passed
	}
	return b.copies(vlan, frame, tagged, 0, len(b.ports), in), Passed
}

// classify says which VLAN a frame belongs to that came in at the port.
func (p *bridgePort) classify(frame []byte) (vlan uint16, tagged bool, drop Reason) {
	outer := etherType(frame, 12)
	if !isTag(outer) {
		if p.mode.Untagged == 0 {
			return 0, false, NotTagged
		}
		return p.mode.Untagged, false, Passed
	}
	if len(frame) < headerLen+tagLen {
		return 0, true, Malformed
	}
	vlan = etherType(frame, 14) & 0xfff // without priority
	switch {
	case outer != typeTag || isTag(etherType(frame, 16)):
		return 0, true, Nested
	case vlan == 0:
		return 0, true, Priority
	case len(p.member) == 0:
		return 0, true, NotUntagged
	case !p.member[vlan]:
		return 0, true, Foreign
	}
	return vlan, true, Passed
}

// learn notes that a machine is behind a port.
func (b *Bridge) learn(vlan uint16, src MAC, port int, now time.Time) *network {
	n := b.nets[vlan]
	if n == nil {
		if b.nets == nil {
			b.nets = make(map[uint16]*network)
		}
		n = &network{hosts: make(map[MAC]host)}
		b.nets[vlan] = n
	}
	if _, known := n.hosts[src]; !known && len(n.hosts) >= maxPerNet {
		// A flood of made-up addresses must not make every frame a walk.
		if now.Sub(n.swept) < time.Second {
			return n
		}
		n.swept = now
		for mac, h := range n.hosts {
			if now.Sub(h.seen) >= maxAge {
				delete(n.hosts, mac)
			}
		}
		if len(n.hosts) >= maxPerNet {
			return n
		}
	}
	n.hosts[src] = host{port, now}
	return n
}

// copies returns the frame for those of the ports from first to before last that
// belong to the VLAN, the one it came from left out.
func (b *Bridge) copies(vlan uint16, frame []byte, tagged bool, first, last, in int) []Out {
	var list []Out
	var with, without []byte
	if tagged {
		with = frame
		if etherType(frame, 14) != vlan { // priority ends here
			with = nil
		}
	} else {
		without = frame
	}
	for i := first; i < last; i++ {
		p := &b.ports[i]
		switch {
		case i == in:
		case p.mode.Untagged == vlan:
			if without == nil {
				without = withoutTag(frame)
			}
			list = append(list, Out{i, without})
		case p.member[vlan]:
			if with == nil {
				if without == nil {
					without = withoutTag(frame)
				}
				with = withTag(without, vlan)
			}
			list = append(list, Out{i, with})
		}
	}
	return list
}
