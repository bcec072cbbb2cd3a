//go:build linux

package reconcile_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// acknowledge does as a service that serves what it was told.
func (b *box) acknowledge(service string) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.run, service, svcconf.ConfigFile))
	if err != nil {
		b.t.Fatal(err)
	}
	ack := fmt.Appendf(nil, "%x\n", sha256.Sum256(data))
	if err := os.WriteFile(filepath.Join(b.run, service, svcconf.AckFile), ack, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func TestStatusTellsWhetherTheConfigurationIsEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		if s := b.status(); s.Digest != "" || !s.Applied {
			t.Errorf("without a configuration: digest %q, applied %t", s.Digest, s.Applied)
		}
		b.mustApply(home)
		services := []string{"wand", "dhcpd", "dnsd", "webuid", "flowd", "updated", "diagd"}
		if s := b.status(); !slices.Equal(s.Untaken, services) || s.Digest != fmt.Sprintf("%x", sha256.Sum256([]byte(home))) || !s.Applied {
			t.Errorf("before any service runs: %+v", s)
		}
		for _, name := range services {
			b.acknowledge(name)
		}
		if s := b.status(); len(s.Untaken) > 0 {
			t.Errorf("not taken by %q", s.Untaken)
		}
		c := change(strings.Replace(home, "subnet: 192.168.40.0/24", "subnet: 192.168.40.0/24, dhcp: {lease: 1h}", 1))
		c.Ignore = []string{"dhcpd"} // which does not run any more
		if _, err := b.keep(b.r.Apply(t.Context(), c)); err != nil {
			t.Fatal(err)
		}
		if s := b.status(); !slices.Equal(s.Untaken, []string{"dhcpd"}) {
			t.Errorf("after a change for one of them, not taken by %q", s.Untaken)
		}
		b.kernel.refuse(func(plan.Step) error { return errors.New("no such device") })
		b.kernel.mess(func(s *state.State) { s.Addrs = nil })
		wait(time.Second)
		if s := b.status(); s.Applied {
			t.Error("applied, though an address cannot be set")
		}
	})
}
