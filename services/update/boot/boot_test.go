package boot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/boot/boottest"
)

func TestEntriesComeBackAsWritten(t *testing.T) {
	e := boot.Entry{Slot: boot.B, Serial: 12, Version: "2026.11.27-abcdef0", Built: "2026-11-27T08:00:00Z", Options: boottest.Cmdline}
	data, err := e.Render()
	if err != nil {
		t.Fatal(err)
	}
	want := `title Bulkhead 2026.11.27-abcdef0
sort-key bulkhead
version 12
linux /b/vmlinuz
options ` + boottest.Cmdline + `
#built 2026-11-27T08:00:00Z
`
	if diff := cmp.Diff(want+strings.Repeat("\n", boot.EntryBytes-len(want)), string(data)); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	got, err := boot.ParseEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	for what, change := range map[string]func(*boot.Entry){
		"long":        func(e *boot.Entry) { e.Options = strings.Repeat("x", 500) },
		"second line": func(e *boot.Entry) { e.Options += "\nlinux /evil" },
		"spaces":      func(e *boot.Entry) { e.Version = " 1" },
		"bytes":       func(e *boot.Entry) { e.Built = "\x80" },
		"slot":        func(e *boot.Entry) { e.Slot = 'c' },
	} {
		c := e
		change(&c)
		if _, err := c.Render(); err == nil {
			t.Errorf("%s: rendered", what)
		}
	}
}

func TestThatWhichRunsIsNeverTouched(t *testing.T) {
	d := &disk{newESP(t), -1}
	e, err := boot.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(d.data)
	refused := map[string]func() error{
		"disable the only good slot":            func() error { return e.Disable(boot.A) },
		"overwrite a good entry":                func() error { _, err := e.SetEntry(boot.Entry{Slot: boot.A, Version: "x", Options: "y"}); return err },
		"arm an empty slot":                     func() error { return e.Arm(boot.B) },
		"bless a disabled slot":                 func() error { return e.Bless(boot.B) },
		"spend the try of a slot that has none": func() error { return e.MarkTried(boot.B) },
	}
	for what, do := range refused {
		if err := do(); !errors.Is(err, boot.ErrState) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if !bytes.Equal(before, d.data) {
		t.Error("something was written")
	}
	for range 2 {
		if err := stage(d, boot.B, "2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Disable(boot.A); !errors.Is(err, boot.ErrState) {
		t.Errorf("disable the old slot while the new one is on trial: got %v", err)
	}
}

func TestFirmwareThatCannotWriteStillTriesOnce(t *testing.T) {
	d := &disk{newESP(t), -1}
	if err := stage(d, boot.B, "2"); err != nil {
		t.Fatal(err)
	}
	e, err := boot.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // slot b runs, and its entry still has its try
		own, other, err := e.States(boot.B)
		if err != nil || own != boot.Tried || other != boot.Good {
			t.Fatalf("got %s, %s, %v", own, other, err)
		}
	}
	if v, _ := turnOn(t, d.data); v != "1" {
		t.Errorf("version %s starts after the try was spent", v)
	}
}

func TestDamagedEntriesAreNotGuessedAt(t *testing.T) {
	fresh := newESP(t)
	at := bytes.Index(fresh, []byte("title Bulkhead 1"))
	d := &disk{fresh, -1}
	d.data[at] ^= 1
	e, err := boot.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Status(boot.A); err == nil {
		t.Error("a damaged entry was read")
	}
	if err := e.Disable(boot.B); err == nil {
		t.Error("a slot was disabled beside one that may not boot")
	}
}

func TestKernelsDoNotOutgrowTheirPlace(t *testing.T) {
	d := &disk{newESP(t), -1}
	e, err := boot.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	k, err := e.Kernel(boot.B)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WriteAt([]byte("xy"), k.Size()-1); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
	if _, err := k.WriteAt([]byte("xy"), k.Size()-2); err != nil {
		t.Error(err)
	}
	got := make([]byte, 4)
	if n, err := k.ReadAt(got, k.Size()-2); n != 2 || !errors.Is(err, io.EOF) || string(got[:2]) != "xy" {
		t.Errorf("got %d bytes %q, %v", n, got, err)
	}
}

// guarded runs Guard and returns after how long it rebooted, 0 if it did not, and what
// it said.
func guarded(t *testing.T, read func(since time.Duration) (own, other boot.State, err error)) (rebooted time.Duration, said string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		start := time.Now()
		boot.RunGuard(t.Context(), slog.New(slog.NewTextHandler(&out, nil)),
			func() (boot.State, boot.State, error) { return read(time.Since(start)) },
			func(context.Context, *slog.Logger) error { rebooted = time.Since(start); return nil })
		said = out.String()
	})
	return rebooted, said
}

func TestGuardEndsATrialThatNobodyBlessed(t *testing.T) {
	for _, c := range []struct {
		name string
		read func(time.Duration) (boot.State, boot.State, error)
		want time.Duration
		says string
	}{
		{"good from the start", func(time.Duration) (boot.State, boot.State, error) { return boot.Good, boot.Disabled, nil }, 0, ""},
		{"never blessed", func(time.Duration) (boot.State, boot.State, error) { return boot.Tried, boot.Good, nil }, 5 * time.Minute, "back to the other one"},
		{"blessed at the last moment", func(d time.Duration) (boot.State, boot.State, error) {
			if d >= 299*time.Second {
				return boot.Good, boot.Good, nil
			}
			return boot.Tried, boot.Good, nil
		}, 0, "no longer on trial"},
		{"nowhere to go", func(time.Duration) (boot.State, boot.State, error) { return boot.Tried, boot.Tried, nil }, 0, "no other"},
		{"the disk appears late", func(d time.Duration) (boot.State, boot.State, error) {
			if d < time.Minute {
				return 0, 0, errors.New("no disk")
			}
			return boot.Tried, boot.Good, nil
		}, 5 * time.Minute, "no disk"},
		{"the disk is never read", func(time.Duration) (boot.State, boot.State, error) { return 0, 0, errors.New("no disk") }, 0, "gave up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, said := guarded(t, c.read)
			if got != c.want || !strings.Contains(said, c.says) {
				t.Errorf("got a reboot after %s, want after %s (0s: none); it said:\n%s", got, c.want, said)
			}
		})
	}
}
