//go:build linux

package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/plan"
)

// elsewhere has both zones change places and subnets, which takes many steps.
var elsewhere = strings.NewReplacer("192.168.10.0/24", "192.168.11.0/24", "192.168.40.0/24", "192.168.41.0/24",
	"port: lan", "port: iot", "port: iot", "port: lan").Replace(home)

// die has the process end before it takes another step after the next n: whatever it
// does from then on reaches neither the kernel nor the disk. What it returns brings the
// disk back to how it was then, and reports whether that came to be.
func (b *box) die(n int) (died func() bool) {
	b.t.Helper()
	disk := b.t.TempDir()
	dead := false
	b.kernel.refuse(func(plan.Step) error {
		if n--; n >= 0 {
			return nil
		}
		if !dead {
			dead = true
			if err := os.CopyFS(disk, os.DirFS(b.state)); err != nil {
				b.t.Error(err)
			}
		}
		return errors.New("the process is dead")
	})
	return func() bool {
		b.t.Helper()
		b.kernel.refuse(nil)
		if dead {
			if err := errors.Join(os.RemoveAll(b.state), os.CopyFS(b.state, os.DirFS(disk))); err != nil {
				b.t.Fatal(err)
			}
		}
		return dead
	}
}

// TestAProcessThatDiesBetweenTwoStepsLeavesTheConfirmedConfiguration ends the process
// before each step that puts a change into force, and before each that undoes it. With
// the power gone as well, the network has to be made from nothing.
func TestAProcessThatDiesBetweenTwoStepsLeavesTheConfirmedConfiguration(t *testing.T) {
	for _, power := range []bool{false, true} {
		for _, undoing := range []bool{false, true} {
			end := api.EndInterrupted
			if undoing {
				end = api.EndUnconfirmed
			}
			t.Run(fmt.Sprintf("power is cut %t, undoing %t", power, undoing), func(t *testing.T) {
				for n := 0; ; n++ {
					more := false
					synctest.Test(t, func(t *testing.T) { more = deathBefore(t, n, power, undoing, end) })
					if !more {
						if t.Logf("%d steps", n); n < 7 {
							t.Error("the change is not worth its name")
						}
						return
					}
				}
			})
		}
	}
}

// deathBefore tells one story. It reports false if there is no step n.
func deathBefore(t *testing.T, n int, power, undoing bool, end api.End) (more bool) {
	b := newBox(t)
	b.boot()
	b.mustApply(home)
	var died func() bool
	if undoing {
		b.mustTry(elsewhere)
		died = b.die(n)
		wait(5*time.Minute + time.Second) // the box moves
	} else {
		died = b.die(n)
		_, _ = b.try(elsewhere) // nobody hears of it
	}
	b.stop()
	if !died() {
		return false
	}
	if power {
		b.kernel = newKernel()
	}
	b.boot()
	defer func() { b.stop() }()
	when := fmt.Sprintf("before step %d", n)
	b.is(when, home, zonesHome)
	if steps := b.plan(home, "").Steps; len(steps) > 0 {
		t.Errorf("%s: left to do: %+v", when, steps)
	}
	if o := b.status().Last; o == nil || o.End != end || o.Author != "alex" {
		t.Errorf("%s: the outcome is %+v", when, o)
	}
	if got := len(b.story()); got != 1 {
		t.Errorf("%s: the history has %d changes", when, got)
	}
	b.mustApply(elsewhere)
	b.is(when+", and once more", elsewhere, "eth1 192.168.41.1/24, eth2 192.168.11.1/24")
	return true
}
