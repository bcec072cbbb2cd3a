package plan_test

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func addr(link, prefix string) state.Addr {
	return state.Addr{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func route(dst, gateway, link string) state.Route {
	r := state.Route{Dst: netip.MustParsePrefix(dst), Link: link}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

func vlan(parent, name string, id uint16, alias string) state.Link {
	return state.Link{Name: name, Kind: state.VLAN, Parent: parent, VLAN: id, Up: true, Alias: alias, MTU: 1500}
}

func port(name, alias string) state.Link {
	return state.Link{Name: name, Up: true, Alias: alias, MTU: 1500}
}

var sysctls = []state.Sysctl{
	{Key: "net/ipv4/conf/all/accept_redirects", Value: "0"},
	{Key: "net/ipv4/ip_forward", Value: "1"},
	{Key: "net/netfilter/nf_conntrack_acct", Value: "1"},
}

// fresh is a machine that Bulkhead has never run on.
func fresh() state.State {
	return state.State{
		Links: []state.Link{{Name: "eth0", MTU: 1500}, {Name: "eth1", MTU: 1500}},
		Sysctls: []state.Sysctl{
			{Key: "net/ipv4/conf/all/accept_redirects", Value: "1"},
			{Key: "net/ipv4/ip_forward", Value: "0"},
			{Key: "net/netfilter/nf_conntrack_acct", Value: "0"},
		},
	}
}

// gateway is a machine that does its work: an uplink, and two zones on one port.
func gateway() state.State {
	return state.State{
		Links: []state.Link{
			port("eth0", "bulkhead:uplink"),
			port("eth1", "bulkhead:port trunk, admin"),
			vlan("eth1", "trunk.10", 10, "bulkhead:zone management, admin"),
			vlan("eth1", "trunk.40", 40, "bulkhead:zone iot"),
		},
		Addrs: []state.Addr{
			addr("eth0", "203.0.113.7/24"),
			addr("trunk.10", "192.168.10.1/24"),
			addr("trunk.40", "192.168.40.1/24"),
		},
		Routes:  []state.Route{route("0.0.0.0/0", "203.0.113.1", "eth0")},
		Sysctls: slices.Clone(sysctls),
		Ruleset: state.Ruleset{Digest: "one"},
	}
}

// with returns a copy of the state after changes to it.
func with(s state.State, change func(*state.State)) state.State {
	s.Links, s.Addrs, s.Routes = slices.Clone(s.Links), slices.Clone(s.Addrs), slices.Clone(s.Routes)
	s.Sysctls = slices.Clone(s.Sysctls)
	change(&s)
	return s
}

// TestGolden holds the plans for people, complete, in testdata/<name>.txt. Why
// is the file's first line.
func TestGolden(t *testing.T) {
	tests := []struct {
		name, why         string
		observed, desired state.State
	}{
		{"first-start", "The rules are in before any link is up, and packets pass last of all.",
			fresh(), gateway()},
		{"first-start-while-open", "Whoever left forwarding on finds it off until the rules are in.",
			with(fresh(), func(s *state.State) { s.Sysctls[1].Value = "1" }), gateway()},
		{"nothing", "A state that is as desired needs no steps.",
			gateway(), gateway()},
		{"zone-added", "A new zone disturbs nobody.",
			gateway(), with(gateway(), func(s *state.State) {
				s.Links = append(s.Links, vlan("eth1", "trunk.50", 50, "bulkhead:zone guest"))
				s.Addrs = append(s.Addrs, addr("trunk.50", "192.168.50.1/24"))
				s.Ruleset.Digest = "two"
			})},
		{"zone-removed", "What goes, goes from the top: routes, addresses, the link.",
			with(gateway(), func(s *state.State) {
				s.Routes = append(s.Routes, route("10.9.0.0/16", "192.168.40.9", "trunk.40"))
			}),
			with(gateway(), func(s *state.State) {
				s.Links, s.Addrs = s.Links[:3], s.Addrs[:2]
				s.Ruleset.Digest = "two"
			})},
		{"lease-changed", "A new lease is in force before the old one goes: the way out is never lost.",
			gateway(), with(gateway(), func(s *state.State) {
				s.Addrs[0] = addr("eth0", "198.51.100.20/24")
				s.Routes[0] = route("0.0.0.0/0", "198.51.100.1", "eth0")
				s.Ruleset.Digest = "two"
			})},
		{"management-renumbered", "Changing the way to the box is dangerous and says so.",
			gateway(), with(gateway(), func(s *state.State) {
				s.Addrs[1] = addr("trunk.10", "192.168.10.254/24")
			})},
		{"zone-moves-to-own-port", "A network is never on two links at once.",
			with(gateway(), func(s *state.State) { s.Links = append(s.Links, state.Link{Name: "eth2", MTU: 1500}) }),
			with(gateway(), func(s *state.State) {
				s.Links[3] = port("eth2", "bulkhead:zone iot")
				s.Addrs[2] = addr("eth2", "192.168.40.1/24")
			})},
		{"vlan-changes-its-number", "A VLAN link with another number is another link.",
			gateway(), with(gateway(), func(s *state.State) { s.Links[3].VLAN = 41 })},
		{"rules-tampered", "Rules that somebody else has touched are loaded again.",
			with(gateway(), func(s *state.State) { s.Ruleset.Foreign = true }), gateway()},
		{"rules-lost", "Without rules nothing passes, not even while they are being loaded.",
			with(gateway(), func(s *state.State) { s.Ruleset = state.Ruleset{} }), gateway()},
		{"turned-off", "Rules go last, when nothing is left for them to protect.",
			gateway(), with(fresh(), func(s *state.State) { s.Sysctls = nil })},
		{"small-uplink", "The MTU of a port comes before that of what stands on it.",
			gateway(), with(gateway(), func(s *state.State) {
				s.Links[0].MTU = 1492
				s.Links[1].MTU, s.Links[2].MTU = 9000, 9000
			})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := "# " + tt.why + "\n\n" + plan.Make(tt.observed, tt.desired).String()
			file := filepath.Join("testdata", tt.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStepsSurviveJSON(t *testing.T) {
	p := plan.Make(gateway(), with(fresh(), func(s *state.State) { s.Sysctls = nil }))
	p.Steps = append(p.Steps, plan.Make(fresh(), gateway()).Steps...)
	p.Steps = append(p.Steps, plan.Make(gateway(), with(gateway(), func(s *state.State) {
		s.Routes[0] = route("0.0.0.0/0", "203.0.113.2", "eth0")
		s.Links[0].MTU = 1492
	})).Steps...)
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got plan.Plan
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for i, want := range p.Steps {
		if diff := cmp.Diff(want.Change, got.Steps[i].Change, values); diff != "" {
			t.Errorf("step %d differs (-want +got):\n%s", i+1, diff)
		}
		if got.Steps[i].String() != want.String() {
			t.Errorf("step %d: got %q, want %q", i+1, got.Steps[i], want)
		}
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Errorf("second encoding differs (-first +second):\n%s", diff)
	}
}

func TestUnknownStepIsRefused(t *testing.T) {
	var s plan.Step
	if err := json.Unmarshal([]byte(`{"op":"format-disk","change":{}}`), &s); err == nil {
		t.Error("got no error")
	}
}

func TestUndoOfUndoIsTheStep(t *testing.T) {
	for _, p := range []*plan.Plan{plan.Make(fresh(), gateway()), plan.Make(gateway(), fresh())} {
		for _, s := range p.Steps {
			undo, ok := s.Undo()
			if !ok {
				continue
			}
			again, ok := undo.Undo()
			if ok && again.String() != s.String() {
				t.Errorf("got %q, want %q", again, s)
			}
		}
	}
}

// TestRulesOfUnknownContentCannotBeUndone: the undo of a reload would be to remove
// the table, which opens what the table closed.
func TestRulesOfUnknownContentCannotBeUndone(t *testing.T) {
	p := plan.Make(with(gateway(), func(s *state.State) { s.Ruleset = state.Ruleset{Foreign: true} }), gateway())
	if len(p.Steps) != 1 {
		t.Fatalf("got %d steps, want 1:\n%s", len(p.Steps), p)
	}
	if undo, ok := p.Steps[0].Undo(); ok {
		t.Errorf("got undo %q, want none", undo)
	}
}

func TestWorstRisk(t *testing.T) {
	if got := plan.Make(gateway(), gateway()).Worst().Level; got != plan.None {
		t.Errorf("no steps: got %v, want none", got)
	}
	renumbered := with(gateway(), func(s *state.State) { s.Addrs[1] = addr("trunk.10", "192.168.11.1/24") })
	if got, want := plan.Make(gateway(), renumbered).Worst(), (plan.Risk{Level: plan.Management, What: "zone management"}); got != want {
		t.Errorf("management renumbered: got %v, want %v", got, want)
	}
}

// FuzzStep reads steps as a client of the API does.
func FuzzStep(f *testing.F) {
	for _, s := range plan.Make(fresh(), gateway()).Steps {
		data, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s plan.Step
		if json.Unmarshal(data, &s) != nil {
			return
		}
		if undo, ok := s.Undo(); ok && undo.String() == "" {
			t.Error("undo without words")
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("encode again: %v", err)
		}
	})
}
