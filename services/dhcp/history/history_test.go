package history_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/lease"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(hours float64) time.Time { return start.Add(time.Duration(hours * float64(time.Hour))) }

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func mac(n int) model.MAC { return model.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)} }

// bound is client 1's lease of an address for two hours.
func bound(n int, hour float64) lease.Lease {
	return lease.Lease{
		Addr: address(n), State: lease.Bound, Client: lease.Client{MAC: mac(1)}, Hostname: "tv",
		Granted: at(hour), Until: at(hour + 2),
	}
}

func over(l lease.Lease, state lease.State, until time.Time) lease.Lease {
	l.State, l.Until = state, until
	return l
}

func spell(n int, first, renewed, end float64) history.Spell {
	return history.Spell{MAC: mac(1), Addr: address(n), Zone: "iot", Hostname: "tv", First: at(first), Renewed: at(renewed), End: at(end)}
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty())
}

func TestLeasesBecomeSpells(t *testing.T) {
	nameless := bound(1, 1)
	nameless.Hostname = ""
	for name, c := range map[string]struct {
		leases []lease.Lease
		want   []history.Spell
	}{
		"given":                          {[]lease.Lease{bound(1, 0)}, []history.Spell{spell(1, 0, 0, 2)}},
		"renewed":                        {[]lease.Lease{bound(1, 0), nameless}, []history.Spell{spell(1, 0, 1, 3)}},
		"run out and given again":        {[]lease.Lease{bound(1, 0), bound(1, 5)}, []history.Spell{spell(1, 0, 0, 2), spell(1, 5, 5, 7)}},
		"released":                       {[]lease.Lease{bound(1, 0), over(bound(1, 0), lease.Free, at(1))}, []history.Spell{spell(1, 0, 0, 1)}},
		"released and given again":       {[]lease.Lease{bound(1, 0), over(bound(1, 0), lease.Free, at(1)), bound(1, 1.5)}, []history.Spell{spell(1, 0, 0, 1), spell(1, 1.5, 1.5, 3.5)}},
		"declined":                       {[]lease.Lease{bound(1, 0), over(bound(1, 0), lease.Declined, at(1).Add(lease.Quarantine))}, []history.Spell{spell(1, 0, 0, 1)}},
		"run out before it is free":      {[]lease.Lease{bound(1, 0), over(bound(1, 0), lease.Free, at(9))}, []history.Spell{spell(1, 0, 0, 2)}},
		"two addresses at the same time": {[]lease.Lease{bound(1, 0), bound(2, 0.5), bound(1, 1), bound(2, 1.5)}, []history.Spell{spell(1, 0, 1, 3), spell(2, 0.5, 1.5, 3.5)}},
		"offered":                        {[]lease.Lease{over(bound(1, 0), lease.Offered, at(1))}, nil},
		"released by a stranger":         {[]lease.Lease{over(bound(1, 0), lease.Free, at(1))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var live, replayed history.Log
			for _, l := range c.leases {
				live.Note("iot", l)
			}
			if d := diff(c.want, live.Of(mac(1), start)); d != "" {
				t.Errorf("spells differ (-want +got):\n%s", d)
			}
			// However often a journal is read, alone or over what was kept of it.
			for range 2 {
				for _, l := range c.leases {
					replayed.Replay(l)
					live.Replay(l)
				}
			}
			replayed.NameZones(func(netip.Addr) string { return "iot" })
			if d := diff(c.want, replayed.Of(mac(1), start)); d != "" {
				t.Errorf("from a journal (-want +got):\n%s", d)
			}
			if d := diff(c.want, live.Of(mac(1), start)); d != "" {
				t.Errorf("live and from a journal (-want +got):\n%s", d)
			}
		})
	}
}

func TestWhatEndedFirstGoes(t *testing.T) {
	var g history.Log
	g.Note("iot", over(bound(1, 0), lease.Bound, at(1000))) // for long
	for i := range history.PerDevice + 4 {
		g.Note("iot", bound(10+i, float64(3*i+1)))
	}
	got := g.Of(mac(1), start)
	if len(got) != history.PerDevice || got[0].Addr != address(1) || got[1].Addr != address(15) {
		t.Errorf("%d are left, first %v and %v", len(got), got[0].Addr, got[1].Addr)
	}
}

// TestStrangersCostOtherZonesNothing has somebody in one zone make up clients.
func TestStrangersCostOtherZonesNothing(t *testing.T) {
	var g history.Log
	give := func(zone string, n int, hour float64) {
		l := bound(1, hour)
		l.Client.MAC = mac(n)
		g.Note(zone, l)
	}
	for n := range 50 {
		give("lan", n, 0)
	}
	for n := range 3 * history.Devices {
		give("guest", 1000+n, 1+float64(n)/1000)
	}
	devices := map[model.MAC]bool{}
	for s := range g.All(start) {
		devices[s.MAC] = true
	}
	if len(devices) != history.Devices {
		t.Errorf("%d devices are remembered, want %d", len(devices), history.Devices)
	}
	for n := range 50 {
		if !devices[mac(n)] {
			t.Errorf("device %d of the other zone is forgotten", n)
		}
	}
	if !devices[mac(1000+3*history.Devices-1)] {
		t.Error("the latest is forgotten")
	}
}

// TestTimesFollowTheClock gives a lease by a clock that is wrong and is set afterwards:
// what this process saw moves with it, and what is from a disk stays.
func TestTimesFollowTheClock(t *testing.T) {
	var g history.Log
	old := spell(9, -48, -47, -46)
	g.Restore(old)
	now := time.Now() // with a monotonic reading, as in a server
	l := bound(1, 0)
	l.Granted, l.Until = now, now.Add(time.Hour)
	g.Note("iot", l)
	got := g.Of(mac(1), now)
	want := []history.Spell{old, {MAC: mac(1), Addr: address(1), Zone: "iot", Hostname: "tv",
		First: now.Round(0), Renewed: now.Round(0), End: now.Round(0).Add(time.Hour)}}
	if d := diff(want, got); d != "" {
		t.Errorf("spells differ (-want +got):\n%s", d)
	}
	if slices.ContainsFunc(got, func(s history.Spell) bool { return s.End != s.End.Round(0) }) {
		t.Error("times run by a stopwatch, which means nothing elsewhere")
	}
}
