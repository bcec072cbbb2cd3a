//go:build linux

package reconcile_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
)

// plan asks what a file would change, from an address ("": from the box itself).
func (b *box) plan(file, from string) *api.Plan {
	b.t.Helper()
	p, err := b.r.Plan(b.t.Context(), api.Proposal{File: api.File{Name: "new.yaml", Data: []byte(file)}, Origin: origin(from)})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func origin(from string) api.Origin {
	if from == "" {
		return api.Origin{}
	}
	return api.Origin{Address: netip.MustParseAddr(from)}
}

func (b *box) giveLeases(leases ...svcconf.Lease) {
	b.t.Helper()
	data, err := json.Marshal(svcconf.Leases{Leases: leases})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.run, "dhcpd", svcconf.LeasesFile), data, 0o640); err != nil {
		b.t.Fatal(err)
	}
}

func TestAPlanCountsTheConnectionsThatItCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.giveLeases(svcconf.Lease{
			Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.7"), MAC: model.MAC{2, 0, 0, 0, 0, 7},
			Granted: begin.Add(-6 * time.Hour), Expires: begin.Add(6 * time.Hour),
		})
		film := conn("192.168.40.7", "192.168.10.5", 8096)
		b.conntrack.conns = []apply.Conn{film, conn("192.168.40.7", "192.168.40.1", 53), conn("192.168.10.5", "192.168.10.1", 443)}
		// As the rules marked them when they began.
		before := policy.New(parse(t, home), policy.Env{Now: begin})
		if ended, _, err := b.conntrack.Sweep(reconcile.JudgeOf(before, nil)); ended != 0 || err != nil {
			t.Fatal(ended, err)
		}
		next := strings.NewReplacer("192.168.40.0/24", "192.168.41.0/24", "8096", "8097").Replace(home)
		p := b.plan(next, "")
		if got := p.Cut; got.Count != 2 || len(got.Rules) != 2 || got.Rules[1].Rule != "films" || got.Rules[1].Examples[0] != "192.168.40.7 (gadgets) → 192.168.10.5 (office): tcp/8096" {
			t.Errorf("got %+v", got)
		}
		const interrupted = "192.168.40.0/24 moves to 192.168.41.0/24: 1 lease ends, gadgets devices are offline until they renew, at most 4 h 30 min"
		if len(p.Interrupts) != 1 || p.Interrupts[0].Text != interrupted {
			t.Errorf("got %+v", p.Interrupts)
		}
		if b.conntrack.open() != 3 {
			t.Error("the plan itself has ended connections")
		}
		b.mustApply(next)
		if got := b.conntrack.open(); got != 1 {
			t.Errorf("%d connections are left, and the plan said 1", got)
		}
	})
}

func TestAChangeThatLocksOutIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		blocked := home + "block:\n  - {name: no-visitors, from: 192.168.10.50, to: box, why: strict}\n"
		unplugged := strings.Replace(home, "52:54:00:10:00:02", "52:54:00:10:00:77", 1)
		for _, tt := range []struct{ name, file, from, reason string }{
			{"the author is blocked", blocked, "192.168.10.50", "block no-visitors"},
			{"somebody else is blocked", blocked, "192.168.10.51", ""},
			{"somebody at the box blocks", blocked, "", ""},
			{"the only admin zone is cut off", unplugged, "192.168.10.50", "port lan is missing"},
			{"the only admin zone is cut off, at the box", unplugged, "", "port lan is missing"},
			{"the admin zone moves", strings.Replace(home, "192.168.10.0/24", "192.168.11.0/24", 1), "192.168.10.50", ""},
		} {
			if got := b.plan(tt.file, tt.from).Lockout; (got == "") != (tt.reason == "") || !strings.Contains(got, tt.reason) {
				t.Errorf("%s: the plan says %q, want %q", tt.name, got, tt.reason)
			}
			if tt.reason == "" {
				continue
			}
			_, err := b.r.Apply(t.Context(), api.Change{File: api.File{Name: "new.yaml", Data: []byte(tt.file)}, Terms: api.Terms{Origin: origin(tt.from)}})
			if refused, ok := errors.AsType[*api.Refused](err); !ok || !strings.Contains(refused.Lockout, tt.reason) || b.confirmed() != home {
				t.Errorf("%s: applying it: %v", tt.name, err)
			}
		}
		_, err := b.keep(b.r.Apply(t.Context(), api.Change{File: api.File{Name: "new.yaml", Data: []byte(unplugged)}, Terms: api.Terms{AcceptLockout: true}}))
		if err != nil {
			t.Errorf("whoever sits at the box insists: %v", err)
		}
		if p := b.plan(unplugged+"\n", ""); p.Lockout != "" {
			t.Errorf("nobody can mend a box that nobody reaches: %s", p.Lockout)
		}
	})
}
