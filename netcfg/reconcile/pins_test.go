//go:build linux

package reconcile_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// given lists the addresses that the box gave to devices.
func (b *box) given() string {
	b.t.Helper()
	devices, err := b.r.Devices(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, d := range devices {
		list = append(list, fmt.Sprintf("%s %s", d.Name, d.Address))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// withDevice is a file with another device, before those that it has.
func withDevice(file, name string, n int) string {
	return strings.Replace(file, "devices:\n", fmt.Sprintf("devices:\n  %s: {zone: gadgets, mac: \"52:54:00:40:01:%02x\", owner: kim, purpose: a test}\n", name, n), 1)
}

// TestDevicesHaveTheirAddressesAgainAfterATrial tries a change that moves their zone to
// another network, where they need others.
func TestDevicesHaveTheirAddressesAgainAfterATrial(t *testing.T) {
	elsewhere := strings.NewReplacer("192.168.40.0/24", "192.168.41.0/24")
	for name, end := range map[string]func(*box){
		"canceled": func(b *box) {
			if _, err := b.r.Cancel(b.t.Context(), api.Cancel{}); err != nil {
				b.t.Fatal(err)
			}
		},
		"killed": func(b *box) {
			b.stop()
			b.boot()
		},
		"power cut": func(b *box) {
			b.stop()
			b.kernel = newKernel()
			b.boot()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				defer func() { b.stop() }()
				b.mustApply(home)
				b.mustApply(withDevice(home, "radio", 1)) // comes second in the pool, and first in the file
				const before = "radio 192.168.40.129, tv 192.168.40.128"
				if got := b.given(); got != before {
					t.Fatalf("before: got %s, want %s", got, before)
				}
				b.mustTry(elsewhere.Replace(withDevice(home, "radio", 1)))
				if got, want := b.given(), "radio 192.168.41.128, tv 192.168.41.129"; got != want {
					t.Errorf("on trial: got %s, want %s", got, want)
				}
				end(b)
				if got := b.given(); got != before {
					t.Errorf("afterwards: got %s, want %s", got, before)
				}
			})
		})
	}
}

// TestAddressesOfAConfirmedTrialSurviveACrash has netcfgd end between confirming a change
// and writing down the addresses that came with it.
func TestAddressesOfAConfirmedTrialSurviveACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		pins := filepath.Join(b.state, "addresses.json")
		before, err := os.ReadFile(pins)
		if err != nil {
			t.Fatal(err)
		}
		b.giveLeases(svcconf.Lease{
			Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.129"), MAC: model.MAC{2, 0, 0, 0, 0, 1}, Granted: b.wall(), Expires: b.wall().Add(1e12),
		})
		b.mustApply(withDevice(home, "radio", 1)) // takes the next, for this is somebody else's
		const want = "radio 192.168.40.130, tv 192.168.40.128"
		if got := b.given(); got != want {
			t.Fatalf("confirmed: got %s, want %s", got, want)
		}
		b.stop()
		if err := os.WriteFile(pins, before, 0o600); err != nil {
			t.Fatal(err)
		}
		b.giveLeases()
		b.boot()
		if got := b.given(); got != want {
			t.Errorf("after a crash: got %s, want %s", got, want)
		}
	})
}
