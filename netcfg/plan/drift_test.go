package plan_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// leftBehind is what Bulkhead made of a box with one port that carries one zone.
func leftBehind() state.State {
	return state.State{
		Links: []state.Link{
			{Name: "eth0", Up: true, Alias: "bulkhead:port trunk"},
			{Name: "trunk.10", Kind: state.VLAN, Parent: "eth0", VLAN: 10, Up: true, Alias: "bulkhead:zone office", MTU: 1500},
		},
		Addrs:  []state.Addr{{Link: "trunk.10", Prefix: netip.MustParsePrefix("192.168.10.1/24")}},
		Routes: []state.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.168.10.9"), Link: "trunk.10"}},
		Sysctls: []state.Sysctl{
			{Key: "net/ipv4/conf/trunk.10/rp_filter", Value: "1"},
			{Key: "net/ipv4/ip_forward", Value: "1"},
		},
		Ruleset: state.Ruleset{Digest: "ours"},
	}
}

func TestDriftInWords(t *testing.T) {
	other := state.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.168.10.7"), Link: "trunk.10"}
	for name, test := range map[string]struct {
		mess func(*state.State)
		want []string
	}{
		"nothing":      {func(*state.State) {}, nil},
		"foreign card": {func(s *state.State) { s.Links = append(s.Links, state.Link{Name: "eth7", Up: true}) }, nil},
		"address added": {func(s *state.State) {
			s.Addrs = append(s.Addrs, state.Addr{Link: "trunk.10", Prefix: netip.MustParsePrefix("10.9.9.9/24")})
		}, []string{"address 10.9.9.9/24 was added to trunk.10"}},
		"address removed": {func(s *state.State) { s.Addrs = nil }, []string{"address 192.168.10.1/24 was missing from trunk.10"}},
		"route removed":   {func(s *state.State) { s.Routes = nil }, []string{"everything else was not routed by 192.168.10.9 at trunk.10"}},
		"route turned":    {func(s *state.State) { s.Routes = []state.Route{other} }, []string{"everything else was routed by 192.168.10.7 at trunk.10"}},
		"switched off":    {func(s *state.State) { s.Links[0].Up = false }, []string{"eth0 was switched off"}},
		"alias":           {func(s *state.State) { s.Links[0].Alias = "" }, []string{`eth0 had the alias "" instead of "bulkhead:port trunk"`}},
		"marked":          {func(s *state.State) { s.Links = append(s.Links, state.Link{Name: "eth7", Alias: "bulkhead:x"}) }, []string{`eth7 had Bulkhead's mark (alias "bulkhead:x")`}},
		"MTU":             {func(s *state.State) { s.Links[0].MTU, s.Links[1].MTU = 9000, 1400 }, []string{"the MTU of trunk.10 was 1400 bytes instead of 1500"}},
		"other VLAN":      {func(s *state.State) { s.Links[1].VLAN = 11 }, []string{"trunk.10 was another link of that name"}},
		"setting":         {func(s *state.State) { s.Sysctls[1].Value = "0" }, []string{"net/ipv4/ip_forward was 0 instead of 1"}},
		"link removed": {func(s *state.State) {
			s.Links, s.Addrs, s.Routes, s.Sysctls[0].Value = s.Links[:1], nil, nil, ""
		}, []string{"trunk.10 was gone"}},
		"rules removed": {func(s *state.State) { s.Ruleset = state.Ruleset{} }, []string{"the rules of the packet filter were gone"}},
		"rules changed": {func(s *state.State) { s.Ruleset = state.Ruleset{Foreign: true} }, []string{"the rules of the packet filter were not as Bulkhead left them"}},
		"rules changed, known how": {func(s *state.State) {
			s.Ruleset = state.Ruleset{Foreign: true, Unhooked: true, Changes: []string{"chain forward had 1 rule more", "set x was gone"}}
		}, []string{"rules of the packet filter: chain forward had 1 rule more", "rules of the packet filter: set x was gone"}},
		"flowtable": {func(s *state.State) { s.Ruleset = state.Ruleset{Foreign: true, Unhooked: true} }, []string{"the flowtable of the packet filter had lost a device"}},
	} {
		found := leftBehind()
		test.mess(&found)
		var got []string
		for _, f := range plan.Drift(leftBehind(), leftBehind(), found) {
			got = append(got, f.What)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		// What a plan would do nothing about is no drift, and the other way round.
		if steps := plan.Make(found, leftBehind()).Steps; (len(steps) > 0) != (len(got) > 0) {
			t.Errorf("%s: %d steps for %q", name, len(steps), got)
		}
	}
}

// TestWhatIsNotWantedAnyMoreIsNoDrift has a card pulled, and a lease end that was
// the reason for a route.
func TestWhatIsNotWantedAnyMoreIsNoDrift(t *testing.T) {
	wanted, found := leftBehind(), leftBehind()
	wanted.Links, wanted.Addrs, wanted.Routes = nil, nil, nil
	wanted.Sysctls = slices.DeleteFunc(wanted.Sysctls, func(s state.Sysctl) bool { return plan.LinkOfSysctl(s.Key) != "" })
	wanted.Ruleset.Digest = "without the zone"
	found.Links, found.Addrs, found.Routes = nil, nil, nil
	found.Ruleset = state.Ruleset{Foreign: true, Unhooked: true}
	if got := plan.Drift(leftBehind(), wanted, found); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	// Somebody has used the occasion.
	found.Ruleset.Changes = []string{"chain forward had the policy accept"}
	if got := plan.Drift(leftBehind(), wanted, found); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}
