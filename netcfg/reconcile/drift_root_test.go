//go:build linux

package reconcile_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
)

// TestWhatStrangersDoIsPutRightAndRecorded has somebody change every kind of thing that
// is ours by hand, one after the other.
func TestWhatStrangersDoIsPutRightAndRecorded(t *testing.T) {
	l := newLab(t)
	nstest.Veth(t, l.gw, "wan", l.office, "uplink")
	l.gateway("ip", "link", "set", "wan", "address", "52:54:00:10:00:01")
	nstest.Veth(t, l.gw, "foreign", l.office, "foreign")
	for _, cmd := range []string{
		"ip addr add 10.99.0.1/24 dev foreign",
		"ip link set foreign alias theirs",
		"ip route add 10.98.0.0/16 via 10.99.0.2",
		"ip rule add from 10.98.0.0/16 lookup 98",
		"nft add table inet other",
		"nft add chain inet other forward { type filter hook forward priority 0; }",
	} {
		l.gateway(strings.Fields(cmd)...)
	}
	foreign := func() string {
		return l.gateway("ip", "-4", "addr", "show", "dev", "foreign") + l.gateway("ip", "route", "show", "10.98.0.0/16") +
			l.gateway("ip", "rule") + l.gateway("nft", "list", "table", "inet", "other")
	}
	before := foreign()
	l.start()
	file := strings.Replace(lasting, "ipv4: dhcp", "ipv4: {address: 203.0.113.2/24, gateway: 203.0.113.1, resolvers: [203.0.113.53]}", 1)
	l.apply(file)
	worst := time.Duration(0)
	for _, test := range []struct{ cmd, want, by string }{
		{"nft add rule inet bulkhead forward accept", "rules of the packet filter: chain forward had 1 rule more", "nft (process "},
		{"nft insert rule inet bulkhead input accept", "rules of the packet filter: chain input had 1 rule more", "nft (process "},
		{"nft flush chain inet bulkhead gadgets_office", "rules of the packet filter: chain gadgets_office had ", "nft (process "},
		{"nft add chain inet bulkhead forward { policy accept; }", "rules of the packet filter: chain forward had the policy accept", "nft (process "},
		{"nft add chain inet bulkhead mine", "rules of the packet filter: chain mine was added", "nft (process "},
		{"nft add element inet bulkhead devices.gadgets { 192.168.40.77 }", "rules of the packet filter: set devices.gadgets had 1 element more", "nft (process "},
		{"nft add table inet bulkhead { flags dormant; }", "rules of the packet filter: the table was switched off", "nft (process "},
		{"nft delete table inet bulkhead", "the rules of the packet filter were gone", "nft (process "},
		{"ip addr add 10.9.9.9/24 dev lan", "address 10.9.9.9/24 was added to lan", "netlink port "},
		{"ip addr del 192.168.40.1/24 dev iot", "address 192.168.40.1/24 was missing from iot", "netlink port "},
		{"ip route del default", "everything else was not routed by 203.0.113.1 at wan", "netlink port "},
		{"ip route replace default via 203.0.113.9 proto 180", "everything else was routed by 203.0.113.9 at wan", "netlink port "},
		{"ip route add 10.77.0.0/16 via 203.0.113.9 proto 180", "10.77.0.0/16 was routed by 203.0.113.9 at wan", "netlink port "},
		{"ip link set lan down", "lan was switched off", ""},
		{"ip link set lan alias mine", `lan had the alias "mine" instead of "bulkhead:`, ""},
		{"sysctl -w net.ipv4.ip_forward=0", "net/ipv4/ip_forward was 0 instead of 1", ""},
		{"sysctl -w net.netfilter.nf_conntrack_acct=0", "net/netfilter/nf_conntrack_acct was 0 instead of 1", ""},
		{"sysctl -w net.ipv4.conf.iot.send_redirects=1", "net/ipv4/conf/iot/send_redirects was 1 instead of 0", ""},
	} {
		began := time.Now()
		l.gateway(strings.Fields(test.cmd)...)
		l.eventually(test.cmd+" is recorded", func() bool { return l.recorded(test.want, test.by) })
		worst = max(worst, time.Since(began))
		l.eventually(test.cmd+" is put right", func() bool {
			p, err := l.client.Plan(t.Context(), api.Proposal{File: api.File{Name: "home.yaml", Data: []byte(file)}})
			return err == nil && len(p.Steps) == 0
		})
	}
	t.Logf("the slowest was put right after %v", worst.Round(time.Millisecond))
	if after := foreign(); after != before {
		t.Errorf("foreign things were\n%s\nand are\n%s", before, after)
	}
	if s := l.status(); len(s.Troubles) > 0 || s.Repairs == 0 {
		t.Errorf("status %+v", s)
	}

	count := len(l.drift())
	l.end(syscall.SIGTERM) // what is not saved yet is
	l.gateway("nft", "add", "rule", "inet", "bulkhead", "forward", "accept")
	l.start()
	if got := l.drift(); len(got) != count+1 || !l.recorded("the rules of the packet filter were not as Bulkhead left them", "") {
		t.Errorf("%d entries after a restart, %d before: %+v", len(got), count, got)
	}
}

func (l *lab) drift() []api.Drift {
	l.t.Helper()
	list, err := l.client.Drift(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// recorded reports whether the record has something that begins with what, by somebody
// whose name begins with by, and that was put right.
func (l *lab) recorded(what, by string) bool {
	for _, d := range l.drift() {
		if strings.HasPrefix(d.What, what) && strings.HasPrefix(d.By, by) && !d.Repaired.IsZero() {
			return true
		}
	}
	return false
}
