package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/boot/boottest"
)

// stage does to the boot partition what an update does.
func stage(dev boot.Device, slot boot.Slot, version string) error {
	e, err := boot.Open(dev)
	if err != nil {
		return err
	}
	if err := e.Disable(slot); err != nil {
		return err
	}
	k, err := e.Kernel(slot)
	if err != nil {
		return err
	}
	if _, err := k.WriteAt(kernel(version), 0); err != nil {
		return err
	}
	if err := k.Sync(); err != nil {
		return err
	}
	if _, err := e.SetEntry(boot.Entry{Slot: slot, Version: version, Options: boottest.Cmdline}); err != nil {
		return err
	}
	return e.Arm(slot)
}

func bless(dev boot.Device, slot boot.Slot) error {
	e, err := boot.Open(dev)
	if err != nil {
		return err
	}
	return e.Bless(slot)
}

// TestPowerMayGoAtEveryWrite stages an update and cuts the power after each sector in
// turn. What starts then is the old system, or, once, the new one.
func TestPowerMayGoAtEveryWrite(t *testing.T) {
	fresh := newESP(t)
	armed := false
	for cut := 0; ; cut++ {
		d := &disk{bytes.Clone(fresh), cut}
		err := stage(d, boot.B, "2")
		if err != nil && !errors.Is(err, errPower) {
			t.Fatal(err)
		}
		version, _ := turnOn(t, d.data)
		switch {
		case version == "2":
			armed = true
			for range 3 { // it fails: never again
				if v, _ := turnOn(t, d.data); v != "1" {
					t.Fatalf("after %d sectors and a failed try: version %s starts", cut, v)
				}
			}
		case version != "1" || armed || err == nil:
			t.Fatalf("after %d sectors: version %s starts, staging said %v", cut, version, err)
		}
		// Whatever is left can be built upon.
		d.left = -1
		if err := stage(d, boot.B, "3"); err != nil {
			t.Fatalf("after %d sectors: stage again: %v", cut, err)
		}
		if v, slot := turnOn(t, d.data); v != "3" || slot != boot.B {
			t.Fatalf("after %d sectors: version %s starts from slot %s, want 3", cut, v, slot)
		}
		if err := bless(d, boot.B); err != nil {
			t.Fatal(err)
		}
		if v, _ := turnOn(t, d.data); v != "3" {
			t.Fatalf("after %d sectors: version %s starts after 3 was blessed", cut, v)
		}
		if err == nil {
			t.Logf("%d sectors in one update", cut)
			return
		}
	}
}

// TestAnythingMayHappenInAnyOrder lives through years of updates that are good, bad, or
// end in a power cut, and of power cuts while a slot is blessed. What runs is always
// the system that was blessed last, or one on its only try.
func TestAnythingMayHappenInAnyOrder(t *testing.T) {
	fresh := newESP(t)
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		d := &disk{bytes.Clone(fresh), -1}
		blessed, slot := "1", boot.A
		for n := range 60 {
			version := fmt.Sprint(n + 2)
			if random.IntN(2) == 0 {
				d.left = random.IntN(25)
			}
			err := stage(d, slot.Other(), version)
			d.left = -1
			if err != nil && !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			runs, at := turnOn(t, d.data)
			if runs == blessed {
				if err == nil {
					t.Fatalf("seed %d: %s was armed, and %s starts", seed, version, runs)
				}
				continue
			}
			if runs != version || at != slot.Other() {
				t.Fatalf("seed %d: %s starts, want %s or %s", seed, runs, blessed, version)
			}
			if random.IntN(3) == 0 { // it does not prove itself
				if runs, _ = turnOn(t, d.data); runs != blessed {
					t.Fatalf("seed %d: %s starts after a failed try, want %s", seed, runs, blessed)
				}
				continue
			}
			d.left = random.IntN(2)
			err = bless(d, at)
			d.left = -1
			runs, slot = turnOn(t, d.data)
			if want := map[bool]string{true: version, false: blessed}[err == nil]; runs != want && err == nil {
				t.Fatalf("seed %d: %s starts, want %s (blessing said %v)", seed, runs, want, err)
			}
			blessed = runs
		}
	}
}

// TestForeignToolsAgree renames as the firmware might, giving the file another place in
// the directory and another short name, and has dosfstools look at the result.
func TestForeignToolsAgree(t *testing.T) {
	image := filepath.Join(t.TempDir(), "esp")
	data := newESP(t)
	d := &disk{data, -1}
	for n := range 3 {
		slot := []boot.Slot{boot.B, boot.A}[n%2]
		if err := stage(d, slot, fmt.Sprint(n+2)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(image, d.data, 0o600); err != nil {
			t.Fatal(err)
		}
		boottest.Tool(t, "fsck.vfat", "-n", image)
		text := boottest.Tool(t, "mtype", "-i", image, "::/loader/entries/"+boot.EntryName(slot, boot.Armed))
		want, err := boot.ParseEntry(text)
		if err != nil {
			t.Fatal(err)
		}
		boottest.Tool(t, "mren", "-i", image, "::/loader/entries/"+boot.EntryName(slot, boot.Armed), boot.EntryName(slot, boot.Tried))
		if d.data, err = os.ReadFile(image); err != nil {
			t.Fatal(err)
		}
		e, err := boot.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		st, err := e.Status(slot)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(boot.Status{State: boot.Tried, Entry: want}, st); diff != "" {
			t.Errorf("slot %s after the firmware's rename (-want +got):\n%s", slot, diff)
		}
		if err := e.Bless(slot); err != nil {
			t.Fatal(err)
		}
	}
}
