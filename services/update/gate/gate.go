// Package gate decides whether a system that was just updated is as good as the one
// before it: netcfgd has applied the same confirmed configuration, every service
// answers a real request, the uplink is back, and the box can be managed.
//
// Deciding is pure, [Judge]; asking is [Asker]. It keeps and undoes nothing itself.
package gate

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/svcconf"
)

// Netcfgd is what matters here of what netcfgd says about itself. It is read out of
// netcfgd's status without minding the rest: the versions on both sides of an update
// need not agree on that.
type Netcfgd struct {
	Mode      string     `json:"mode"`
	Reason    string     `json:"reason,omitempty"` // why it is not running
	Confirmed *Confirmed `json:"confirmed,omitempty"`
	// Uplink tells whether the uplink has an address.
	Uplink   bool     `json:"uplink"`
	Troubles []string `json:"troubles,omitempty"`
}

// Confirmed is the configuration that is in force.
type Confirmed struct {
	Number int       `json:"number"`
	Time   time.Time `json:"time"`
}

// running is netcfgd's mode on a box that is configured and well.
const running = "running"

// Before is how the box was before an update. It is written down when that begins.
type Before struct {
	Netcfgd *Netcfgd `json:"netcfgd,omitempty"` // nil: it did not answer
	Digest  string   `json:"digest,omitempty"`  // of the confirmed file: SHA-256, hexadecimal; "" without one
	Silent  []string `json:"silent,omitempty"`  // what did not answer
}

// A Look is how the box is now.
type Look struct {
	Before
	NoNetcfgd string          // why netcfgd does not answer
	Config    *svcconf.Update // what to ask for; nil if netcfgd has not said
	// What went wrong when each was asked for. Those that are not in here were not
	// asked, and those with "" are well.
	DHCP, DNS map[string]string // by zone
	Admin     map[netip.Addr]string
}

// Judge lists what keeps the box from being as good as it was before, in words; nothing
// if it is. What was wrong before the update does not count against it.
func Judge(before Before, now Look) []string {
	if now.Netcfgd == nil {
		return []string{"netcfgd does not answer: " + now.NoNetcfgd}
	}
	bad := judgeNetcfgd(before, now)
	if now.Config == nil {
		return append(bad, "netcfgd has not said which services there are to be")
	}
	for what, why := range now.silent() {
		if !slices.Contains(before.Silent, what) {
			bad = append(bad, what+" does not answer: "+why)
		}
	}
	return bad
}

// silent returns what ought to answer and does not, and why.
func (l Look) silent() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for what, why := range l.Answers() {
			if why != "" && !yield(what, why) {
				return
			}
		}
	}
}

// Answers returns what ought to answer, and why it does not: "" if it does.
func (l Look) Answers() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if l.Config == nil {
			return
		}
		for _, z := range l.Config.DHCP {
			if !yield("DHCP in zone "+z.Zone, lacks(l.DHCP, z.Zone)) {
				return
			}
		}
		for _, z := range l.Config.DNS {
			if !yield("DNS in zone "+z.Zone, lacks(l.DNS, z.Zone)) {
				return
			}
		}
		for _, a := range l.Config.Admin {
			if !yield("the management address "+a.String(), lacks(l.Admin, a)) {
				return
			}
		}
	}
}

func lacks[K comparable](answers map[K]string, key K) string {
	why, asked := answers[key]
	if !asked {
		return "it was not asked"
	}
	return why
}

func judgeNetcfgd(before Before, now Look) []string {
	var bad []string
	if now.Digest != before.Digest {
		bad = append(bad, "the confirmed configuration is another file than before")
	}
	was, is := before.Netcfgd, now.Netcfgd
	if was == nil {
		return bad // nothing to compare with
	}
	if is.Mode != running && is.Mode != was.Mode {
		bad = append(bad, strings.TrimSuffix(fmt.Sprintf("netcfgd is %s and was %s before: %s", is.Mode, was.Mode, is.Reason), ": "))
	}
	if c, d := number(is), number(was); c != d {
		bad = append(bad, fmt.Sprintf("netcfgd has confirmed configuration %d in force, and had %d before", c, d))
	}
	if was.Uplink && !is.Uplink {
		bad = append(bad, "the uplink has no address, and had one before")
	}
	for _, t := range is.Troubles {
		if !slices.Contains(was.Troubles, t) {
			bad = append(bad, "netcfgd has a new trouble: "+t)
		}
	}
	return bad
}

func number(n *Netcfgd) int {
	if n.Confirmed == nil {
		return 0
	}
	return n.Confirmed.Number
}
