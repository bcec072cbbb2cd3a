//go:build linux

package reconcile_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/reach"
	"bulkhead/netcfg/svcconf"
)

// somebody is a machine among the gadgets that the file does not know.
var somebody = model.MAC{2, 0, 0, 0, 0, 7}

// reaches reports whether a machine among the gadgets may call the office, or be called
// from there.
func (b *box) reaches(mac model.MAC, addr string) (out, in bool) {
	b.kernel.mu.Lock()
	w := reach.New(b.kernel.state)
	b.kernel.mu.Unlock()
	it, office := netip.MustParseAddr(addr), netip.MustParseAddr("192.168.10.9")
	p := reach.Packet{In: "eth2", MAC: mac, Src: it, Dst: office, Proto: model.ProtoTCP, SrcPort: 40000, Port: 8096}
	q := reach.Packet{In: "eth1", MAC: model.MAC{2, 0, 0, 0, 0, 9}, Src: office, Dst: it, Proto: model.ProtoTCP, SrcPort: 40000, Port: 80}
	return w.Walk(p).Accepted, w.Walk(q).Accepted
}

func (b *box) mustIsolate(in api.Isolate) *api.Isolation {
	b.t.Helper()
	i, err := b.r.Isolate(b.t.Context(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}

func (b *box) wantReach(when string, mac model.MAC, addr string, want bool) {
	b.t.Helper()
	if out, in := b.reaches(mac, addr); out != want || in != want {
		b.t.Errorf("%s: %s reaches out: %t, is reached: %t, want %t both", when, addr, out, in, want)
	}
}

// both is home with a way into the room of the gadgets.
var both = strings.Replace(home, "\ntests:", "\n  - {name: remote, from: office, to: gadgets, protocols: any, why: a test}\ntests:", 1)

func TestIsolationOutlivesRestartsAndChangesAndEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(both)
		b.giveLeases(svcconf.Lease{Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.77"), MAC: somebody, Granted: begin, Expires: begin.Add(time.Hour)})
		tv := model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}
		b.wantReach("before", somebody, "192.168.40.77", true)

		b.conntrack.conns = append(b.conntrack.conns, conn("192.168.40.77", "192.168.10.9", 8096), conn("192.168.10.9", "192.168.40.77", 80), conn("192.168.40.78", "192.168.10.9", 8096))
		i := b.mustIsolate(api.Isolate{Machine: "192.168.40.77", Author: "kim", Via: api.ViaCLI, Why: "odd", Until: b.wall().Add(30 * time.Minute)})
		if i.MAC != somebody || i.Author != "kim" || i.Via != api.ViaCLI {
			t.Errorf("isolated %+v", i)
		}
		if n := b.conntrack.open(); n != 1 {
			t.Errorf("%d connections are open, want that of a neighbour", n)
		}
		b.mustIsolate(api.Isolate{Machine: "tv"})
		check := func(when string) {
			t.Helper()
			b.wantReach(when, somebody, "192.168.40.77", false)
			b.wantReach(when+", the tv", tv, b.tv(), false)
			if out, _ := b.reaches(somebody, "192.168.40.76"); out {
				t.Errorf("%s: another address helps", when)
			}
			b.wantReach(when+", a neighbour", model.MAC{2, 0, 0, 0, 0, 8}, "192.168.40.78", true)
		}
		check("isolated")
		b.mustApply(strings.Replace(both, "why: films", "why: pictures", 1))
		check("after another change")
		b.stop()
		b.boot()
		check("after a restart")
		if s, err := b.r.Status(t.Context()); err != nil || len(s.Isolated) != 2 {
			t.Errorf("the status shows %v, %v", s.Isolated, err)
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		b.wantReach("half an hour later", somebody, "192.168.40.77", true)
		b.wantReach("half an hour later", tv, b.tv(), false)
		list, err := b.r.Isolated(t.Context())
		if err != nil || len(list) != 1 || list[0].Machine != "tv" {
			t.Errorf("isolated are %+v, %v", list, err)
		}
		b.setClock(-2 * time.Hour)
		time.Sleep(time.Minute)
		b.wantReach("with a clock set back", somebody, "192.168.40.77", true)

		if _, err := b.r.Release(t.Context(), api.Release{Machine: tv.String(), Author: "alex", Why: "all is well"}); err != nil {
			t.Fatal(err)
		}
		b.wantReach("released", tv, b.tv(), true)
		if _, err := b.r.Release(t.Context(), api.Release{Machine: "tv"}); !errors.Is(err, api.ErrNothing) {
			t.Errorf("released twice: %v", err)
		}

		// All of it is in the history, and the configuration is what it was.
		entries, err := b.r.History(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprintf("%s (%s): %s", e.Author, e.Via, e.Why))
		}
		want := []string{
			"alex (api): release 52:54:00:40:00:12: all is well", "kim (cli): release 192.168.40.77: its time is over", "alex (api): a test", " (api): isolate tv",
			"kim (cli): isolate 192.168.40.77 until 2026-11-30T23:30:00Z: odd", "alex (api): a test",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		if d, err := b.r.Diff(t.Context(), entries[1].Number, entries[0].Number); err != nil || d.Text != "" {
			t.Errorf("the release changed the file: %+v, %v", d, err)
		}
		// Undo is of the last change of the file.
		trial, err := b.r.Undo(t.Context(), api.Undo{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.confirm(trial.Token); err != nil {
			t.Fatal(err)
		}
		rules, err := b.r.Rules(t.Context())
		if err != nil || !strings.Contains(fmt.Sprint(rules.Rules), "films") || strings.Contains(fmt.Sprint(rules.Rules), "pictures") {
			t.Errorf("after undo: %v, %v", rules.Rules, err)
		}
	})
}

// tv is the address that the box gave to the tv.
func (b *box) tv() string {
	devices, err := b.r.Devices(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return devices[0].Address.String()
}

// TestIsolationDuringATrial isolates a machine while a change waits for its author. It is
// no part of the change, and stays when that is undone.
func TestIsolationDuringATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(both)
		if _, err := b.try(strings.Replace(both, "why: films", "why: pictures", 1)); err != nil {
			t.Fatal(err)
		}
		b.mustIsolate(api.Isolate{Machine: somebody.String()})
		if out, _ := b.reaches(somebody, "192.168.40.77"); out {
			t.Error("it is not isolated")
		}
		time.Sleep(3 * time.Minute)
		if p, err := b.r.Pending(t.Context()); err != nil || p.Pending != nil || p.Last.End != api.EndUnconfirmed {
			t.Errorf("the trial: %+v, %v", p, err)
		}
		if out, _ := b.reaches(somebody, "192.168.40.77"); out {
			t.Error("it is no longer isolated")
		}
	})
}

// TestNobodyIsolatesThemselves asks from a machine in the only admin zone.
func TestNobodyIsolatesThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		me := netip.MustParseAddr("192.168.10.9")
		b.kernel.neighbours = map[netip.Addr]model.MAC{me: somebody}
		for _, machine := range []string{"192.168.10.9", somebody.String()} {
			_, err := b.r.Isolate(t.Context(), api.Isolate{Machine: machine, Origin: api.Origin{Address: me}})
			if refused, ok := errors.AsType[*api.Refused](err); !ok || refused.Lockout == "" {
				t.Errorf("%s: got %v, want a lock-out", machine, err)
			}
		}
		for _, machine := range []string{"192.168.10.1", "192.168.10.255", "203.0.113.9", "52:54:00:10:00:02", "ff:ff:ff:ff:ff:ff", "nobody", ""} {
			if _, err := b.r.Isolate(t.Context(), api.Isolate{Machine: machine}); !errors.Is(err, api.ErrUnknown) {
				t.Errorf("%q: got %v, want that it is no machine", machine, err)
			}
		}
		if _, err := b.r.Isolate(t.Context(), api.Isolate{Machine: "tv", Until: b.wall()}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("until now: %v", err)
		}
		if list, err := b.r.Isolated(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("isolated are %v, %v", list, err)
		}
		// From the console it can be meant.
		b.mustIsolate(api.Isolate{Machine: "192.168.10.9", AcceptLockout: true})
	})
}
