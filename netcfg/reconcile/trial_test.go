//go:build linux

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
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
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/txn"
)

const (
	zonesHome  = "eth1 192.168.10.1/24, eth2 192.168.40.1/24"
	zonesOther = "eth1 192.168.10.1/24, eth2 192.168.41.1/24"
)

var other = strings.Replace(home, "192.168.40.0/24", "192.168.41.0/24", 1)

// mustTry tries a file.
func (b *box) mustTry(file string) *api.Trial {
	b.t.Helper()
	t, err := b.try(file)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// is holds that a configuration is in force and confirmed, and nothing is pending.
func (b *box) is(when, file, addresses string) {
	b.t.Helper()
	if got := b.kernel.addresses(); got != addresses || b.confirmed() != file {
		b.t.Errorf("%s: addresses are %q, want %q; the right file is confirmed: %t", when, got, addresses, b.confirmed() == file)
	}
	if p := b.status().Pending; p != nil {
		b.t.Errorf("%s: still pending: %+v", when, p)
	}
}

func (b *box) last() string {
	b.t.Helper()
	o := b.status().Last
	if o == nil {
		return ""
	}
	return strings.Join([]string{o.Author, string(o.Via), o.Why, string(o.End), o.By}, "|")
}

func TestAChangeThatNobodyConfirmsIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.conntrack.conns = []apply.Conn{conn("192.168.10.5", "198.51.100.1", 443)}
		tr := b.mustTry(other)
		if tr.Left != api.Window(2*time.Minute) || len(tr.Moves) > 0 || tr.Steps == 0 || tr.Phase != api.Waiting {
			t.Errorf("the trial is %+v", tr.Pending)
		}
		if got := b.kernel.addresses(); got != zonesOther || b.confirmed() != home {
			t.Errorf("on trial: addresses %q", got)
		}
		wait(2*time.Minute - time.Millisecond)
		s := b.status()
		if s.Pending == nil || s.Pending.Author != "alex" || s.Pending.Left != api.Window(time.Millisecond) || s.Digest != "" || s.Confirmed.Number != 1 {
			t.Errorf("just before the end: %+v", s)
		}
		wait(time.Millisecond)
		b.is("at the end", home, zonesHome)
		const want = "alex|api|a test|unconfirmed|"
		if got := b.last(); got != want {
			t.Errorf("the outcome is %q", got)
		}
		if b.conntrack.open() != 1 {
			t.Error("a connection that was always allowed did not survive")
		}
		if err := b.confirm(tr.Token); !errors.Is(err, api.ErrNothing) || !strings.Contains(err.Error(), "nobody confirmed it in time") {
			t.Errorf("confirmed too late: %v", err)
		}
		b.stop()
		b.boot()
		defer func() { b.stop() }()
		if got := b.last(); got != want {
			t.Errorf("after a restart the outcome is %q", got)
		}
	})
}

func TestAProcessThatEndsDuringATrialHasNotConfirmedIt(t *testing.T) {
	for _, power := range []bool{false, true} {
		t.Run(fmt.Sprint("power is cut: ", power), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				b.mustApply(home)
				b.mustTry(other)
				b.stop()
				if power {
					b.kernel = newKernel()
				}
				b.boot()
				defer func() { b.stop() }()
				b.is("after it", home, zonesHome)
				if got, want := b.last(), "alex|api|a test|interrupted|"; got != want {
					t.Errorf("the outcome is %q, want %q", got, want)
				}
				b.mustApply(other)
				b.is("later", other, zonesOther)
			})
		})
	}
}

func TestOneChangeIsPendingAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		if _, err := b.r.Cancel(t.Context(), api.Cancel{}); !errors.Is(err, api.ErrNothing) {
			t.Errorf("canceled nothing: %v", err)
		}
		b.mustApply(home)
		b.mustTry(other)
		wait(30 * time.Second)
		_, err := b.try(home)
		busy, ok := errors.AsType[*api.Busy](err)
		if !ok || busy.Pending.Author != "alex" || busy.Pending.Left != api.Window(90*time.Second) {
			t.Errorf("a second change: %v", err)
		}
		if err := b.undo(); !errors.As(err, &busy) {
			t.Errorf("an undo: %v", err)
		}
		if _, err := b.r.Cancel(t.Context(), api.Cancel{ID: "another", Author: "kim"}); !errors.Is(err, api.ErrNothing) || b.status().Pending == nil {
			t.Errorf("canceled another: %v", err)
		}
		if o, err := b.r.Cancel(t.Context(), api.Cancel{ID: busy.Pending.ID, Author: "kim"}); err != nil || o.String() != "it was undone: kim canceled it" {
			t.Errorf("cancel: %v, %v", o, err)
		}
		b.is("after it was canceled", home, zonesHome)
		b.mustApply(other)
	})
}

func TestConfirmingTakesTheAuthorOnANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		c := change(other)
		c.Token, c.Origin = strings.Repeat("x", api.MinToken), api.Origin{Identity: "alex@desk", Connected: uptime()}
		tr, err := b.r.Apply(t.Context(), c)
		if err != nil || tr.Token != c.Token {
			t.Fatalf("got %+v, %v", tr, err)
		}
		for _, tt := range []struct {
			name, token, identity string
			later                 time.Duration
			want                  error
		}{
			{"another token", "", "alex@desk", 1, api.ErrDenied},
			{"somebody else", c.Token, "kim@desk", 1, api.ErrDenied},
			{"root on the box", c.Token, "", 1, api.ErrDenied},
			{"the same connection", c.Token, "alex@desk", 0, api.ErrDenied},
			{"right", c.Token, "alex@desk", 1, nil},
		} {
			_, err := b.r.Confirm(t.Context(), api.Confirm{Token: tt.token, Origin: api.Origin{Identity: tt.identity, Connected: c.Origin.Connected + tt.later}})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			}
		}
		b.is("confirmed", other, zonesOther)
		c.Token = "short"
		if _, err := b.r.Apply(t.Context(), c); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a token that can be guessed: %v", err)
		}
		c.Token, c.Window = "", api.Window(time.Hour)
		if _, err := b.r.Apply(t.Context(), c); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("an hour to confirm: %v", err)
		}
	})
}

func TestTheWindowIsLongerWhenTheBoxMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		tr := b.mustTry(strings.ReplaceAll(home, "office: {port: lan, subnet: 192.168.10.0/24", "office: {port: lan, subnet: 192.168.11.0/24"))
		want := []api.Move{{Zone: "office", From: netip.MustParseAddr("192.168.10.1"), To: netip.MustParseAddr("192.168.11.1")}}
		if diff := cmp.Diff(want, tr.Moves, cmpopts.EquateComparable(netip.Addr{})); diff != "" || tr.Left != api.Window(5*time.Minute) {
			t.Errorf("%s to confirm; moves differ (-want +got):\n%s", tr.Left, diff)
		}
		wait(5 * time.Minute)
		b.is("undone", home, zonesHome)
		c := change(other)
		c.Window = api.Window(30 * time.Minute)
		if _, err := b.r.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		wait(30*time.Minute - time.Second)
		if b.status().Pending == nil {
			t.Error("undone before half an hour that was asked for")
		}
		wait(time.Second)
		b.is("undone", home, zonesHome)
	})
}

// TestTheWindowIsLongerWhenItsAuthorMoves blocks the author, who can go to another admin
// zone and confirm there.
func TestTheWindowIsLongerWhenItsAuthorMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		two := strings.Replace(home, "subnet: 192.168.40.0/24", "subnet: 192.168.40.0/24, admin: true", 1)
		b.mustApply(two)
		c := change(two + "block:\n  - {name: no-visitors, from: 192.168.10.50, to: box, why: strict}\n")
		for from, want := range map[string]time.Duration{"192.168.10.50": txn.MovedWindow, "192.168.10.51": txn.UsualWindow} {
			c.Origin = origin(from)
			tr, err := b.r.Apply(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if tr.Left != api.Window(want) || len(tr.Moves) > 0 {
				t.Errorf("from %s: %s to confirm, and %v moves; want %s", from, tr.Left, tr.Moves, want)
			}
			wait(want)
		}
	})
}

func TestAServiceThatTookTheLastConfigurationMustTakeTheNext(t *testing.T) {
	next := strings.Replace(home, "subnet: 192.168.40.0/24", "subnet: 192.168.40.0/24, dhcp: {lease: 1h}", 1)
	for _, tt := range []struct {
		name   string
		ran    bool          // dhcpd took the configuration before
		takes  time.Duration // how long it takes with the new one; 0: for ever
		ignore []string
		want   string // error
	}{
		{"it takes it", true, 9 * time.Second, nil, ""},
		{"it takes too long", true, 11 * time.Second, nil, "dhcpd did not take the new configuration within 10s"},
		{"it does not", true, 0, nil, "dhcpd did not take the new configuration within 10s"},
		{"it does not, and is ignored", true, 0, []string{"dhcpd"}, ""},
		{"it never took any", false, 0, nil, ""},
		{"there is no such service", true, 1, []string{"httpd"}, `no service is called "httpd"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				defer func() { b.stop() }()
				b.mustApply(home)
				b.acknowledge("dnsd")
				if tt.ran {
					b.acknowledge("dhcpd")
				}
				if tt.takes > 0 {
					time.AfterFunc(tt.takes, func() { b.acknowledge("dhcpd") })
				}
				c := change(next)
				c.Ignore = tt.ignore
				_, err := b.keep(b.r.Apply(t.Context(), c))
				if got := fmt.Sprint(err); tt.want != "" && got != tt.want || tt.want == "" && err != nil {
					t.Errorf("got error %v, want %q", err, tt.want)
				}
				if kept := b.confirmed() == next; kept != (tt.want == "") {
					t.Errorf("confirmed: %t", kept)
				}
				if b.status().Pending != nil {
					t.Error("still pending")
				}
				wait(time.Minute) // for the late one
			})
		})
	}
}

// TestFactsAndEndsOfRulesGoOnDuringATrial has a rule end and a lease come while a change
// is pending, which is undone then.
func TestFactsAndEndsOfRulesGoOnDuringATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		wait(end.Sub(begin) - 10*time.Minute)
		c := change(other)
		c.Window = api.Window(30 * time.Minute)
		if _, err := b.r.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		lease := facts.Lease{Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1")}
		b.writeLease(lease)
		if got, want := b.kernel.addresses(), "eth0 198.51.100.7/24, "+zonesOther; got != want {
			t.Errorf("with a lease: addresses %q, want %q", got, want)
		}
		wait(10*time.Minute - 2*time.Second)
		if !b.allows() {
			t.Error("the rule ended too early")
		}
		wait(2 * time.Second)
		if b.allows() || b.status().Pending == nil {
			t.Error("the rule did not end, or the trial did")
		}
		b.setClock(-time.Hour)
		wait(20 * time.Minute)
		b.is("undone", home, "eth0 198.51.100.7/24, "+zonesHome)
		if b.allows() {
			t.Error("the rule is back with the configuration before")
		}
	})
}

func TestWhatEndedDuringATrialStaysEndedAfterAPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		wait(end.Sub(begin) - time.Minute)
		b.mustTry(other)
		wait(90 * time.Second)
		if b.allows() || b.status().Pending == nil {
			t.Fatal("the rule did not end, or the trial did")
		}
		b.stop()
		b.kernel = newKernel()
		b.setClock(-24 * time.Hour)
		b.boot()
		defer func() { b.stop() }()
		if b.allows() {
			t.Error("the rule is back")
		}
	})
}

func TestGoingBackIsTriedUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.mustTry(other)
		b.kernel.refuse(func(s plan.Step) error {
			if c, ok := s.Change.(plan.AddAddr); ok && c.Addr.Prefix == netip.MustParsePrefix("192.168.40.1/24") {
				return errors.New("no such device")
			}
			return nil
		})
		wait(2 * time.Minute)
		if s := b.status(); len(s.Troubles) != 1 || s.Pending != nil {
			t.Errorf("troubles %q", s.Troubles)
		}
		b.kernel.refuse(nil)
		wait(31 * time.Second) // the longest pause between two tries
		b.is("in the end", home, zonesHome)
	})
}

func TestRulesThatDoNotLoadDuringATrialEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		wait(end.Sub(begin) - time.Minute)
		b.mustTry(other)
		b.kernel.refuse(func(s plan.Step) error {
			c, ok := s.Change.(plan.LoadRuleset)
			if ok && strings.Contains(c.To.Table.String(), "192.168.41.") {
				return errors.New("no buffer space available")
			}
			return nil
		})
		wait(61 * time.Second) // a rule ends, so others are to be loaded
		b.is("undone", home, zonesHome)
		if got, want := b.last(), "alex|api|a test|failed|"; got != want || !strings.Contains(b.status().Last.Detail, "no buffer space") {
			t.Errorf("the outcome is %q: %s", got, b.status().Last)
		}
	})
}

func TestAFirstConfigurationThatNobodyConfirmsLeavesABoxInSetup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.setup = true
		b.kernel.links[1].Carrier = true
		b.boot()
		defer func() { b.stop() }()
		wait(time.Minute)
		before := b.kernel.addresses()
		tr := b.mustTry(home)
		if !slices.ContainsFunc(tr.Moves, func(m api.Move) bool { return m.Zone == "office" && !m.From.IsValid() }) {
			t.Errorf("moves are %+v", tr.Moves)
		}
		if s := b.status(); s.Mode != api.Running || s.Confirmed != nil {
			t.Errorf("on trial: %+v", s)
		}
		wait(5*time.Minute + time.Second)
		if s := b.status(); s.Mode != api.Setup || b.confirmed() != "" || b.kernel.addresses() != before {
			t.Errorf("undone: %s, addresses %q, want %q", s.Mode, b.kernel.addresses(), before)
		}
		if _, err := os.Stat(filepath.Join(b.state, "rescue.json")); err == nil {
			t.Error("a way in was kept that nobody confirmed")
		}
		b.stop()
		b.kernel = newKernel()
		b.kernel.links[1].Carrier = true
		b.boot()
		if s := b.status(); s.Mode != api.Setup {
			t.Errorf("after a restart: %s", s.Mode)
		}
	})
}

func TestACallerThatIsGoneDoesNotEndTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.acknowledge("dhcpd")
		c := change(other)
		c.Token = strings.Repeat("x", api.MinToken)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		time.AfterFunc(2*time.Second, func() { b.acknowledge("dhcpd") })
		if _, err := b.r.Apply(ctx, c); err == nil {
			t.Fatal("answered to nobody")
		}
		if err := b.confirm(c.Token); !errors.Is(err, api.ErrTooEarly) {
			t.Errorf("before the services took it: %v", err)
		}
		wait(2 * time.Second)
		if err := b.confirm(c.Token); err != nil {
			t.Error(err)
		}
		b.is("confirmed", other, zonesOther)
	})
}
