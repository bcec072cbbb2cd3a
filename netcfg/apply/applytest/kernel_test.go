package applytest_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"bulkhead/netcfg/apply/applytest"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

var desired = state.State{
	Links: []state.Link{
		{Name: "eth0", Up: true, Alias: "bulkhead:port trunk"},
		{Name: "trunk.40", Kind: state.VLAN, Parent: "eth0", VLAN: 40, Up: true, Alias: "bulkhead:zone iot"},
	},
	Addrs: []state.Addr{{Link: "trunk.40", Prefix: netip.MustParsePrefix("192.168.40.1/24")}},
	Routes: []state.Route{{
		Dst: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("192.168.40.9"), Link: "trunk.40",
	}},
	Sysctls: []state.Sysctl{
		{Key: "net/ipv4/conf/all/accept_redirects", Value: "0"},
		{Key: "net/ipv4/conf/trunk.40/send_redirects", Value: "0"},
		{Key: "net/ipv4/ip_forward", Value: "1"},
	},
	Ruleset: state.Ruleset{Digest: "one"},
}

func makePlan(t *testing.T, k *applytest.Kernel) *plan.Plan {
	t.Helper()
	observed, err := k.Observe(desired)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Make(observed, desired)
}

func TestKernelTakesPlans(t *testing.T) {
	k := applytest.New("eth0", "eth1")
	p := makePlan(t, k)
	for _, s := range p.Steps {
		if err := k.Do(s); err != nil {
			t.Fatal(err)
		}
	}
	if again := makePlan(t, k); len(again.Steps) > 0 {
		t.Errorf("still to do:\n%safter:\n%s", again, p)
	}
	if got, want := len(k.Steps()), len(p.Steps); got != want {
		t.Errorf("got %d steps, want %d", got, want)
	}

	k.Meddle(func(s *state.State) { s.Ruleset.Foreign, s.Addrs = true, nil })
	if p := makePlan(t, k); len(p.Steps) != 2 {
		t.Errorf("after meddling: got %d steps, want 2:\n%s", len(p.Steps), p)
	}
}

func TestKernelFails(t *testing.T) {
	k := applytest.New()
	p := makePlan(t, k)
	var err error
	for _, s := range p.Steps {
		if err = k.Do(s); err != nil {
			break
		}
	}
	if !errors.Is(err, applytest.ErrNoDevice) {
		t.Errorf("without network cards: got %v, want ErrNoDevice", err)
	}

	broken := errors.New("broken")
	k = applytest.New("eth0")
	k.Fail = func(s plan.Step) error {
		if s.Change.Op() == plan.OpLoadRuleset {
			return broken
		}
		return nil
	}
	if err := k.Do(p.Steps[0]); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if k.State().Ruleset.Present() {
		t.Error("a step that failed was carried out")
	}
}

func TestWatchTellsOfChanges(t *testing.T) {
	k := applytest.New("eth0")
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := k.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.Meddle(func(*state.State) {})
	}
	<-changed
	cancel()
	for range changed {
	}
}
