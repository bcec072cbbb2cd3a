package gate_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/update/gate"
)

var admin = netip.MustParseAddr("192.168.10.1")

// well is a box with all that can be asked for.
func well() gate.Look {
	return gate.Look{
		Before: gate.Before{
			Netcfgd: &gate.Netcfgd{Mode: "running", Confirmed: &gate.Confirmed{Number: 3, Time: time.Unix(9, 0)}, Uplink: true, Troubles: []string{"old"}},
			Digest:  "abc",
		},
		Config: &svcconf.Update{
			Admin: []netip.Addr{admin}, Uplink: true,
			DHCP: []svcconf.UpdateDHCP{{Zone: "iot"}, {Zone: "guest"}}, DNS: []svcconf.UpdateDNS{{Zone: "iot"}},
		},
		DHCP: map[string]string{"iot": "", "guest": ""}, DNS: map[string]string{"iot": ""},
		Admin: map[netip.Addr]string{admin: ""},
	}
}

func TestOnlyWhatBecameWorseCounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*gate.Before)
		now    func(*gate.Look)
		want   []string
	}{
		{name: "all is well"},
		{name: "netcfgd is gone", now: func(l *gate.Look) { l.Netcfgd, l.NoNetcfgd = nil, "connection refused" },
			want: []string{"netcfgd does not answer: connection refused"}},
		{name: "closed", now: func(l *gate.Look) { l.Netcfgd.Mode, l.Netcfgd.Reason = "closed", "the file cannot be read" },
			want: []string{"netcfgd is closed and was running before: the file cannot be read"}},
		{name: "closed as before", before: func(b *gate.Before) { b.Netcfgd.Mode = "closed" }, now: func(l *gate.Look) { l.Netcfgd.Mode = "closed" }},
		{name: "better than before", before: func(b *gate.Before) { b.Netcfgd.Mode, b.Netcfgd.Uplink = "closed", false }},
		{name: "another number", now: func(l *gate.Look) { l.Netcfgd.Confirmed.Number = 2 },
			want: []string{"netcfgd has confirmed configuration 2 in force, and had 3 before"}},
		{name: "no configuration left", now: func(l *gate.Look) { l.Netcfgd.Confirmed, l.Digest = nil, "" },
			want: []string{"the confirmed configuration is another file than before", "netcfgd has confirmed configuration 0 in force, and had 3 before"}},
		{name: "another file", now: func(l *gate.Look) { l.Digest = "abd" },
			want: []string{"the confirmed configuration is another file than before"}},
		{name: "no uplink", now: func(l *gate.Look) { l.Netcfgd.Uplink = false },
			want: []string{"the uplink has no address, and had one before"}},
		{name: "no uplink as before", before: func(b *gate.Before) { b.Netcfgd.Uplink = false }, now: func(l *gate.Look) { l.Netcfgd.Uplink = false }},
		{name: "a new trouble", now: func(l *gate.Look) { l.Netcfgd.Troubles = []string{"new"} },
			want: []string{"netcfgd has a new trouble: new"}},
		{name: "services", now: func(l *gate.Look) {
			l.DHCP["guest"], l.DNS["iot"], l.Admin = "no answer", "SERVFAIL", nil
		}, want: []string{"DHCP in zone guest does not answer: no answer", "DNS in zone iot does not answer: SERVFAIL", "the management address 192.168.10.1 does not answer: it was not asked"}},
		{name: "services as before", before: func(b *gate.Before) { b.Silent = []string{"DHCP in zone guest"} }, now: func(l *gate.Look) { l.DHCP["guest"] = "no answer" }},
		{name: "no word on services", now: func(l *gate.Look) { l.Config = nil },
			want: []string{"netcfgd has not said which services there are to be"}},
		{name: "unclaimed", before: func(b *gate.Before) { *b = gate.Before{Netcfgd: &gate.Netcfgd{Mode: "setup"}} }, now: func(l *gate.Look) {
			*l = gate.Look{Before: gate.Before{Netcfgd: &gate.Netcfgd{Mode: "setup"}}, Config: &svcconf.Update{}}
		}},
		{name: "nothing to compare with", before: func(b *gate.Before) { b.Netcfgd = nil }, now: func(l *gate.Look) {
			l.Netcfgd.Troubles, l.Netcfgd.Mode = []string{"new"}, "closed"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, now := well().Before, well()
			if c.before != nil {
				c.before(&before)
			}
			if c.now != nil {
				c.now(&now)
			}
			if diff := cmp.Diff(c.want, gate.Judge(before, now)); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}
