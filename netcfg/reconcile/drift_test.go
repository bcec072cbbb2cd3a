//go:build linux

package reconcile_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

// still is the state in words, to be compared.
func (k *fakeKernel) still() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprint(k.state.Links, k.state.Addrs, k.state.Routes, k.state.Sysctls, k.state.Ruleset.Digest, k.state.Ruleset.Foreign)
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

func TestDriftOfAChangeOnTrialIsPutRightToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		trial, err := b.try(strings.ReplaceAll(home, "192.168.40.", "192.168.41."))
		if err != nil {
			t.Fatal(err)
		}
		tried := b.kernel.still()
		b.kernel.mess(addAddress("10.9.9.9/24"))
		wait(time.Second)
		if got := b.kernel.still(); got != tried {
			t.Errorf("got %s, want %s", got, tried)
		}
		if err := b.confirm(trial.Token); err != nil {
			t.Error(err)
		}
		if list := b.drift(); len(list) != 1 || list[0].What != "address 10.9.9.9/24 was added to eth2" {
			t.Errorf("recorded %+v", list)
		}
	})
}

func TestAnUndoneChangeIsNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		before := b.kernel.still()
		if _, err := b.try(strings.ReplaceAll(home, "192.168.40.", "192.168.41.")); err != nil {
			t.Fatal(err)
		}
		wait(30 * time.Minute) // a rule ends in an hour
		if got := b.kernel.still(); got != before {
			t.Errorf("got %s, want %s", got, before)
		}
		if list := b.drift(); len(list) > 0 {
			t.Errorf("recorded %+v", list)
		}
	})
}

func TestDriftWhileNobodyLookedIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		again := func(mess func(*state.State)) (new []string) {
			b.stop()
			b.kernel.mu.Lock()
			mess(&b.kernel.state)
			b.kernel.mu.Unlock()
			b.boot()
			for _, d := range b.drift() {
				if !d.Last.Before(b.status().Started) && !d.Repaired.IsZero() {
					new = append(new, d.What)
				}
			}
			wait(time.Minute)
			return new
		}
		for _, test := range []struct {
			name string
			mess func(*state.State)
			want []string
		}{
			{"nothing", func(*state.State) {}, nil},
			{"an address", addAddress("10.9.9.9/24"), []string{"address 10.9.9.9/24 was added to eth2"}},
			{"the rules", func(s *state.State) { s.Ruleset = state.Ruleset{} }, []string{"the rules of the packet filter were gone"}},
			{"nothing again", func(*state.State) {}, nil},
		} {
			if diff := cmp.Diff(test.want, again(test.mess)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}

		// After a reboot the kernel has nothing of ours, which is nobody's doing.
		if err := os.RemoveAll(b.run); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(b.run, "netcfgd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := again(func(s *state.State) { *s = newKernel().state }); got != nil {
			t.Errorf("after a reboot: %q", got)
		}
		b.stop()
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

// TestAStrangerThatFights changes things again and again: each is put right, at once if
// it is a door, and neither the record nor the log is filled.
func TestAStrangerThatFights(t *testing.T) {
	address := func(format string, n int) func(int) func(*state.State) {
		return func(i int) func(*state.State) { return addAddress(fmt.Sprintf(format, i%n/250, i%n%250+1)) }
	}
	for name, test := range map[string]struct {
		mess    func(i int) func(*state.State)
		door    bool
		entries int // at most
	}{
		"with the same address": {address("10.9.%d.%d/24", 1), false, 1},
		"with other addresses":  {address("10.9.%d.%d/24", 1e6), false, 45},
		"with a few, in circle": {address("10.9.%d.%d/24", 7), false, 7},
		"with rules": {func(i int) func(*state.State) {
			return func(s *state.State) {
				s.Ruleset = state.Ruleset{Foreign: true, Changes: []string{fmt.Sprintf("chain forward had %d rules more", i)}}
			}
		}, true, 45},
		"with forwarding": {func(int) func(*state.State) {
			return func(s *state.State) {
				s.Sysctls = slices.Clone(s.Sysctls)
				i := slices.IndexFunc(s.Sysctls, func(c state.Sysctl) bool { return c.Key == "net/ipv4/conf/all/accept_redirects" })
				s.Sysctls[i].Value = "1"
			}
		}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				var log strings.Builder
				b.log = slog.New(slog.NewTextHandler(&log, nil))
				b.boot()
				defer func() { b.stop() }()
				b.mustApply(home)
				before := b.kernel.still()
				said := strings.Count(log.String(), "\n")
				const rounds = 150
				for i := range rounds {
					b.kernel.mess(test.mess(i))
					wait(500 * time.Millisecond)
					if got := b.kernel.still(); test.door && got != before {
						t.Fatalf("not put right at once: %s", got)
					}
				}
				wait(10 * time.Second)
				if got := b.kernel.still(); got != before {
					t.Errorf("not put right: %s", got)
				}
				list, times := b.drift(), 0
				for _, d := range list {
					times += d.Times
				}
				if len(list) > test.entries || test.door && times != rounds || times == 0 {
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
