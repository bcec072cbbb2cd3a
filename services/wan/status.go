package wan

import (
	"fmt"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/wan/dhcp4"
)

// next says what a DHCP client in a state does when its timer ends.
var next = map[dhcp4.State]string{
	dhcp4.Init:       "look for a server",
	dhcp4.Selecting:  "look for a server again",
	dhcp4.Requesting: "ask for the offered address again",
	dhcp4.Rebooting:  "ask again whether the address is still ours",
	dhcp4.Probing:    "look whether a neighbour has the address",
	dhcp4.Bound:      "ask for a longer lease",
	dhcp4.Renewing:   "ask for a longer lease again",
	dhcp4.Rebinding:  "ask any server for a longer lease again",
}

// troubleEvery bounds how often trouble is logged. The status always has the
// latest.
const troubleEvery = time.Minute

// report writes the status if it changed, and logs trouble that is new.
func (d *daemon) report(now time.Time) {
	s, t := d.describe(now)
	if s != d.status {
		d.writeStatus(s)
	}
	if t.what != "" && t.what != d.logged.what && (d.logged.at.IsZero() || now.Sub(d.logged.at) >= troubleEvery) {
		d.log.Warn("trouble", "what", t.what)
		d.logged = trouble{t.what, now}
	}
}

func (d *daemon) writeStatus(s svcconf.WANStatus) {
	if err := d.files.writeStatus(s); err != nil {
		d.fail(err) // for the log: there is no other place left
		return
	}
	d.status = s
	d.shown.Store(&s)
}

// describe is the status and the latest trouble.
func (d *daemon) describe(now time.Time) (svcconf.WANStatus, trouble) {
	since := d.since
	s := svcconf.WANStatus{Link: d.cfg.Link}
	switch {
	case !d.begun:
		s.State, s.Next = "off", "wait for a configuration"
	case d.cfg.Mode == model.ModeNone:
		s.State = "off"
	case d.link.index == 0:
		s.State, s.Next = "no link", fmt.Sprintf("wait for the interface %s", d.cfg.Link)
	case d.cfg.Mode == model.ModeStatic:
		s.State = "static"
	case d.wire == nil:
		s.State, s.Next = "no carrier", fmt.Sprintf("wait for the link %s to come up", d.cfg.Link)
	default:
		var state dhcp4.State
		state, since = d.client.State()
		s.State = state.String()
		if at := d.client.Next(); !at.IsZero() {
			s.Next, s.NextAt = next[state], stamp(now, at)
		}
	}
	if l := onWall(now, d.want); l != nil {
		s.Address, s.Server, s.Expires = l.Address, l.Server, l.Expires
		if d.cfg.Mode == model.ModeDHCP && d.wire == nil {
			s.Next += "; the lease is kept until it expires and checked then"
			s.NextAt = l.Expires
		}
	}
	s.Since = stamp(now, since)
	t := d.trouble
	if d.client != nil {
		s.Refused = d.client.Refused()
		if what, at := d.client.Trouble(); what != "" && !at.Before(t.at) {
			t = trouble{what, at}
		}
	}
	if t.what != "" {
		s.LastError, s.LastErrorAt = t.what, stamp(now, t.at)
	}
	return s, t
}
