// Package api is what diagd is asked: whether a host answers, over which hops it is
// reached, and what is on a link. The values are JSON over HTTP; a capture is a file as
// package pcap writes it.
package api

import (
	"errors"
	"fmt"
	"net/netip"
)

// Bounds of what may be asked, and what is taken where nothing is said.
const (
	MaxCount, DefaultCount     = 10, 4
	MaxHops, DefaultHops       = 30, 20
	MaxPackets, DefaultPackets = 100_000, 1000
	MaxBytes, DefaultBytes     = 32 << 20, 8 << 20
	MaxSeconds, DefaultSeconds = 60, 30
	MaxSnap                    = 65535 // the default as well
)

// MaxLines bounds the answer to a [Ping] or a [Traceroute], in bytes: a line of JSON for each
// [Echo] or [Hop].
const MaxLines = 256 << 10

// Ping asks whether a host answers.
type Ping struct {
	Target string `json:"target"`          // an IPv4 address, or a name that the box knows or finds
	Count  int    `json:"count,omitempty"` // at most 10; 0: 4
}

// Traceroute asks over which hops a host is reached.
type Traceroute struct {
	Target string `json:"target"`         // as that of a Ping
	Hops   int    `json:"hops,omitempty"` // at most 30; 0: 20
}

// Capture asks for the packets on a zone's link.
type Capture struct {
	Zone    string `json:"zone"`              // or "internet"
	Filter  string `json:"filter,omitempty"`  // such as host 192.168.20.5 and not port 443; "": all packets
	Packets int    `json:"packets,omitempty"` // at most 100000; 0: 1000
	Bytes   int    `json:"bytes,omitempty"`   // of the file, at most 33554432; 0: 8388608
	Seconds int    `json:"seconds,omitempty"` // at most 60; 0: 30
	Snap    int    `json:"snap,omitempty"`    // bytes of each packet that are kept, at most 65535; 0: that many
}

// Watch is a [Capture] as diagd is asked for it.
type Watch struct {
	Capture
	// Without is who takes the file: what they speak with the management pages is left
	// out, or the capture would be of itself. Zero: nobody.
	Without netip.Addr `json:"without,omitzero"`
}

// Echo is what became of one request for an echo.
type Echo struct {
	Number       int        `json:"number"`                 // from 1
	Target       netip.Addr `json:"target"`                 // that was asked
	From         netip.Addr `json:"from,omitzero"`          // who answered; zero: nobody
	Milliseconds float64    `json:"milliseconds,omitempty"` // until then
	Trouble      string     `json:"trouble,omitempty"`      // in words; "": the target answered
}

// Hop is who is so many hops away on the way to a target.
type Hop struct {
	Number  int    `json:"number"` // from 1
	Echoes  []Echo `json:"echoes"`
	Reached bool   `json:"reached,omitempty"` // it is the target, or as far as it goes: the last hop
}

// Fill puts in what is taken where nothing was said. The error says what is out of bounds.
func (p *Ping) Fill() error { return bound("count", &p.Count, DefaultCount, 1, MaxCount) }

// Fill is as that of a [Ping].
func (t *Traceroute) Fill() error { return bound("hops", &t.Hops, DefaultHops, 1, MaxHops) }

// minBytes have room for one whole packet.
const minBytes = 70_000

// minSnap are the headers.
const minSnap = 64

// Fill is as that of a [Ping].
func (c *Capture) Fill() error {
	return errors.Join(
		bound("packets", &c.Packets, DefaultPackets, 1, MaxPackets),
		bound("bytes", &c.Bytes, DefaultBytes, minBytes, MaxBytes),
		bound("seconds", &c.Seconds, DefaultSeconds, 1, MaxSeconds),
		bound("snap", &c.Snap, MaxSnap, minSnap, MaxSnap),
	)
}

func bound(name string, v *int, otherwise, least, most int) error {
	if *v == 0 {
		*v = otherwise
	}
	if *v < least || *v > most {
		return fmt.Errorf("%s: %d is not between %d and %d", name, *v, least, most)
	}
	return nil
}

// CheckTarget says why an address is none of one host.
func CheckTarget(a netip.Addr) error {
	switch {
	case !a.Is4():
		return fmt.Errorf("%s is not IPv4, which is all that the box speaks", a)
	case a.IsMulticast() || a.As4()[0] >= 240:
		return fmt.Errorf("%s is not the address of one host", a)
	case a.As4()[0] == 0 || a.IsLoopback():
		return fmt.Errorf("%s is the box itself, or nobody", a)
	}
	return nil
}
