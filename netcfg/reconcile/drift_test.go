//go:build linux

package reconcile_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply/applytest"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

func (b *box) drift() []api.Drift {
	b.t.Helper()
	list, err := b.r.Drift(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// addAddress gives the gadgets' link one more address.
func addAddress(prefix string) func(*state.State) {
	return func(s *state.State) {
		s.Addrs = append(s.Addrs, state.Addr{Link: "eth2", Prefix: netip.MustParsePrefix(prefix)})
	}
}

func TestDriftIsRecordedAsItWasFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		if list := b.drift(); len(list) > 0 {
			t.Errorf("before any: %+v", list)
		}
		b.kernel.mess(func(s *state.State) {
			addAddress("10.9.9.9/24")(s)
			s.Ruleset = state.Ruleset{Foreign: true, Changes: []string{"chain forward had 1 rule more"}}
		})
		wait(time.Second)
		want := []api.Drift{
			{What: "rules of the packet filter: chain forward had 1 rule more", By: "culprit of rules", Times: 1},
			{What: "address 10.9.9.9/24 was added to eth2", By: "culprit of address", Times: 1},
		}
		got := b.drift()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
		for _, d := range got {
			if d.Noticed.Before(begin) || !d.Last.Equal(d.Noticed) || d.Repaired.Before(d.Noticed) {
				t.Errorf("times of %+v", d)
			}
		}
		if s := b.status(); s.Repaired == nil || len(s.Repaired.Found) != 2 {
			t.Errorf("status: %+v", s.Repaired)
		}

		b.stop() // the record outlives the process
		b.boot()
		if diff := cmp.Diff(got, b.drift()); diff != "" {
			t.Errorf("after a restart (-before +after):\n%s", diff)
		}
		b.stop()
	})
}

func TestWhatIsAskedForIsNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.mustApply(strings.ReplaceAll(home, "192.168.40.", "192.168.41."))
		b.kernel.mu.Lock() // a card is pulled, with all that was on it
		b.kernel.links = b.kernel.links[:2]
		b.kernel.mu.Unlock()
		b.kernel.mess(func(s *state.State) {
			s.Links, s.Addrs = s.Links[:2], s.Addrs[:1]
		})
		wait(10 * time.Second)
		if list := b.drift(); len(list) > 0 {
			t.Errorf("recorded %+v", list)
		}
		// Somebody uses the change of another.
		b.kernel.mu.Lock()
		b.kernel.state.Ruleset = state.Ruleset{}
		b.kernel.mu.Unlock()
		b.mustApply(strings.ReplaceAll(home, "tcp/8096", "tcp/8097"))
		if list := b.drift(); len(list) != 1 || list[0].What != "the rules of the packet filter were gone" {
			t.Errorf("recorded %+v", list)
		}
	})
}

func TestDriftThatCannotBePutRightStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.kernel.refuse(func(s plan.Step) error {
			if s.Change.Op() == plan.OpDeleteAddr {
				return errors.New("no")
			}
			return nil
		})
		b.kernel.mess(addAddress("10.9.9.9/24"))
		wait(5 * time.Minute)
		if list := b.drift(); len(list) != 1 || list[0].Times != 1 || !list[0].Repaired.IsZero() {
			t.Errorf("while it lasts: %+v", list)
		}
		b.kernel.refuse(nil)
		wait(time.Minute)
		if list := b.drift(); len(list) != 1 || list[0].Repaired.Sub(list[0].Noticed) < 5*time.Minute {
			t.Errorf("once it was put right: %+v", list)
		}
	})
}

// TestAStrangerThatFights changes things again and again: each is put right, and
// neither the record nor the log is filled.
func TestAStrangerThatFights(t *testing.T) {
	for name, test := range map[string]struct {
		address func(i int) string
		entries int // at most
	}{
		"with the same thing":   {func(int) string { return "10.9.9.9/24" }, 1},
		"with other things":     {func(i int) string { return fmt.Sprintf("10.9.%d.%d/24", i/200, i%200+1) }, 45},
		"with a few, in circle": {func(i int) string { return fmt.Sprintf("10.9.9.%d/24", i%7+1) }, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				var log strings.Builder
				b.log = slog.New(slog.NewTextHandler(&log, nil))
				b.boot()
				defer func() { b.stop() }()
				b.mustApply(home)
				said := strings.Count(log.String(), "\n")
				const rounds = 400
				for i := range rounds {
					b.kernel.mess(addAddress(test.address(i)))
					wait(500 * time.Millisecond)
					if got := b.kernel.addresses(); strings.Contains(got, "10.9.") {
						t.Fatalf("not put right: %s", got)
					}
				}
				list, times := b.drift(), 0
				for _, d := range list {
					times += d.Times
				}
				if len(list) > test.entries || times != rounds {
					t.Errorf("%d entries, %d times", len(list), times)
				}
				if n := strings.Count(log.String(), "\n") - said; n > 12 {
					t.Errorf("%d lines in the log:\n%s", n, log.String())
				}
			})
		})
	}
}

// TestAVLANLinkThatIsGoneIsMadeAgain is about what only kernels with 802.1Q have.
func TestAVLANLinkThatIsGoneIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const file = `
ports: {trunk: {mac: "52:54:00:00:00:01"}}
zones: {office: {port: trunk, vlan: 10, subnet: 192.168.10.0/24, admin: true}}
`
		kernel := applytest.New("eth0")
		b := newBox(t)
		b.linux = kernel
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(file)
		before := kernel.State()
		kernel.Meddle(func(s *state.State) {
			*s = plan.After(*s, plan.DeleteLink{Link: state.Link{Name: "trunk.10", Kind: state.VLAN}})
		})
		wait(10 * time.Second)
		if list := b.drift(); len(list) != 1 || list[0].What != "trunk.10 was gone" || list[0].Repaired.IsZero() {
			t.Errorf("recorded %+v", list)
		}
		if diff := cmp.Diff(before, kernel.State(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreTypes(&nft.Table{})); diff != "" {
			t.Errorf("the kernel is another (-before +after):\n%s", diff)
		}
	})
}
