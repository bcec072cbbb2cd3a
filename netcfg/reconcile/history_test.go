//go:build linux

package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
)

// ssh reports whether gadgets may log in to the office.
func (b *box) ssh() bool {
	b.t.Helper()
	why, err := b.r.Why(b.t.Context(), "gadgets", "office", "ssh")
	if err != nil {
		b.t.Fatal(err)
	}
	return why.Allowed()
}

// opened is home with one more allow.
var opened = strings.NewReplacer("expect: deny", "expect: allow", "allow:\n", "allow:\n  - {name: back, from: gadgets, to: office, protocols: [ssh], why: a test}\n").Replace(home)

func TestHistoryKeepsWhatAChangeMadePossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.mustApply(opened)
		e, err := b.r.Entry(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"gadgets → office: tcp/22 becomes possible"}; !cmp.Equal(want, e.Reach) || e.MoreReach != 0 || e.Sum == "" || e.Parent == "" {
			t.Errorf("entry 2 is %+v", e)
		}
		d, err := b.r.Diff(t.Context(), 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := []api.Reach{{From: "gadgets", To: "office", Services: []string{"tcp/22"}}}; !cmp.Equal(want, d.Reach) {
			t.Errorf("reach is %v, want %v", d.Reach, want)
		}
		if !strings.HasPrefix(d.Text, "--- change 2: home.yaml\n+++ change 1: home.yaml\n") || !strings.Contains(d.Text, "\n-  - {name: back,") {
			t.Errorf("the files differ by\n%s", d.Text)
		}
		if _, err := b.r.Diff(t.Context(), 2, 3); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("a change that never was: %v", err)
		}
	})
}

func TestALongListOfWhatBecamePossibleIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		var devices, names []string
		for i := range 60 {
			names = append(names, fmt.Sprintf("thing-%d", i))
			devices = append(devices, fmt.Sprintf("  thing-%d: {zone: gadgets, mac: \"02:00:00:00:01:%02x\", address: 192.168.40.%d}\n", i, i, 10+i))
		}
		rules := "allow:\n"
		for i, name := range names {
			rules += fmt.Sprintf("  - {name: b%d, from: %s, to: office, protocols: [tcp/%d], why: a test}\n", i, name, 1000+i)
		}
		text := strings.Replace(home, "allow:\n", rules, 1)
		text = strings.Replace(text, "devices:\n", "devices:\n"+strings.Join(devices, ""), 1)
		b.mustApply(text)
		e, err := b.r.Entry(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Reach) != 40 || e.MoreReach < 20 {
			t.Errorf("%d lines and %d more", len(e.Reach), e.MoreReach)
		}
	})
}

func TestWhatWasConfirmedIsInForceThoughItsFileIsAnother(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"gone":    os.Remove,
		"garbage": func(path string) error { return os.WriteFile(path, []byte("zones: ["), 0o600) },
		"opened":  func(path string) error { return os.WriteFile(path, []byte(opened), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				b.mustApply(home)
				b.stop()
				if err := damage(filepath.Join(b.state, "confirmed.yaml")); err != nil {
					t.Fatal(err)
				}
				b.kernel = newKernel()
				b.boot()
				defer func() { b.stop() }()
				s := b.status()
				if s.Mode != api.Running || b.confirmed() != home || b.ssh() {
					t.Errorf("status is %s: %q; confirmed.yaml holds %q", s.Mode, s.Reason, b.confirmed())
				}
				if len(s.Damage) != 1 || !strings.Contains(s.Damage[0], "confirmed.broken.yaml") {
					t.Errorf("said %q", s.Damage)
				}
				b.mustApply(home)
				if s := b.status(); s.Damage != nil {
					t.Errorf("after the next change: %q", s.Damage)
				}
			})
		})
	}
}
