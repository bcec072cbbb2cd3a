//go:build linux

package update_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/services/update"
	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/gaf/gaftest"
	"bulkhead/services/update/manifest"
)

// TestGoodUpdatesAreKept goes to and fro between the slots.
func TestGoodUpdatesAreKept(t *testing.T) {
	b := newBox(t)
	b.trust(key(t, 1))
	for n := 2; n <= 4; n++ {
		version := fmt.Sprint(n)
		if got := b.update(version); got != version {
			t.Fatalf("version %s starts after an update to %s", got, version)
		}
		st := b.status(func(s api.Status) bool { return !s.Trial && s.Last != nil && s.Last.Version == version })
		want := api.Status{
			Arch: "amd64", Slot: b.slot.String(), Version: version, Built: builtAt(version), Kernel: "6.12.1",
			Other: api.Other{Version: fmt.Sprint(n - 1), State: "good"}, Last: &api.Outcome{Outcome: api.Kept, Version: version, Time: st.Last.Time},
		}
		if n > 2 {
			want.Other.Built = builtAt(want.Other.Version)
		}
		if diff := cmp.Diff(want, st); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		b.off()
		if got := b.turnOn(); got != version {
			t.Fatalf("version %s starts after %s was kept", got, version)
		}
	}
}

func TestChecksSayWhatAnswers(t *testing.T) {
	b := newBox(t)
	b.look.set("SERVFAIL")
	for _, ago := range []string{"", "which is good for a moment"} {
		got, err := b.client.Checks(t.Context())
		if want := []api.Check{{What: "DNS in zone iot", Error: "SERVFAIL"}}; err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", ago, got, err, want)
		}
		if ago == "" {
			b.look.set("")
		}
	}
}

// TestSystemsThatDieAreUndone has the new system end before it can say a word.
func TestSystemsThatDieAreUndone(t *testing.T) {
	b := newBox(t)
	b.trust(key(t, 1))
	if err := b.push(newImage("2").sign(t, key(t, 1))); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-b.reboot
	b.off()
	if got := b.bootUp(); got != "2" {
		t.Fatalf("version %s is tried", got)
	}
	if got := b.turnOn(); got != "1" {
		t.Fatalf("version %s starts after a panic", got)
	}
	st := b.status(func(s api.Status) bool { return s.Last != nil })
	if st.Last.Outcome != api.Undone || st.Last.Why != update.DiedSilently || st.Other.State != "failed" || st.Trial {
		t.Errorf("got %+v, %+v", st, st.Last)
	}
	if got := b.update("3"); got != "3" {
		t.Errorf("version %s starts after the next update", got)
	}
}

// TestSystemsThatAreNotWellAreUndone runs the trial by a clock that jumps.
func TestSystemsThatAreNotWellAreUndone(t *testing.T) {
	for _, c := range []struct {
		name    string
		wellAt  time.Duration // 0: never
		want    string
		outcome string
	}{
		{"never well", 0, "1", api.Undone},
		{"well after two minutes", 2 * time.Minute, "2", api.Kept},
		{"well too late", 4 * time.Minute, "1", api.Undone},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.trust(key(t, 1))
			b.look.set("SERVFAIL")
			if err := b.push(newImage("2").sign(t, key(t, 1))); err != nil {
				t.Fatal(err)
			}
			if err := b.client.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-b.reboot
			b.off()
			version := b.bootUp()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				u := b.updated(version)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.wellAt > 0 {
					time.AfterFunc(c.wellAt, func() { b.look.set("") })
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = u.Run(ctx)
				}()
				select {
				case <-b.reboot:
				case <-time.After(5 * time.Minute):
				}
				if d := time.Since(start); c.want == "1" && d > 190*time.Second {
					t.Errorf("undone after %s", d)
				}
				cancel()
				<-done
			})
			if got := b.turnOn(); got != c.want {
				t.Errorf("version %s runs, want %s", got, c.want)
			}
			st := b.status(func(s api.Status) bool { return s.Last != nil })
			if st.Last.Outcome != c.outcome || c.outcome == api.Undone && !strings.Contains(st.Last.Why, "DNS in zone iot does not answer: SERVFAIL") {
				t.Errorf("got %+v", st.Last)
			}
		})
	}
}

func TestWhatIsNotRightIsRefused(t *testing.T) {
	b := newBox(t)
	own, foreign := key(t, 1), key(t, 2)
	b.trust(own)
	if got := b.update("3"); got != "3" {
		t.Fatal("no update")
	}
	b.status(func(s api.Status) bool { return !s.Trial })
	change := func(f func(*image)) *image {
		i := newImage("4")
		f(i)
		if i.raw == nil {
			i.sign(t, own)
		}
		return i
	}
	long := func(i *image) { i.root = append(i.root, 0) }
	for _, c := range []struct {
		name string
		i    *image
		says string
	}{
		{"unsigned", change(func(i *image) { i.sign(t) }), "not signed"},
		{"unknown key", change(func(i *image) { i.sign(t, foreign) }), "does not know"},
		{"changed manifest", change(func(i *image) { i.sign(t, own); i.raw = bytes.Replace(i.raw, []byte("amd64"), []byte("arm64"), 1) }), "does not fit"},
		{"not a manifest", change(func(i *image) { i.raw = []byte("{}"); i.sigs = []manifest.Signature{own.SignImage(i.raw)} }), "format 0"},
		{"changed kernel", change(func(i *image) { i.kernel = bytes.Clone(i.kernel); i.kernel[30_000] ^= 1 }), "kernel is not what was signed"},
		{"changed root", change(func(i *image) { i.root = bytes.Clone(i.root); i.root[130_000] ^= 1 }), "root is not what was signed"},
		{"short root", change(func(i *image) { i.root = i.root[:100] }), "cut short"},
		{"long root", change(long), "longer than announced"},
		{"another machine", change(func(i *image) { i.m.Arch = "arm64" }), "ARCH=amd64"},
		{"a kernel for another machine", change(func(i *image) { i.kernel = gaftest.Kernel("arm64", "4"); i.m.Kernel = part(i.kernel) }), "kernel is for arm64"},
		{"no kernel", change(func(i *image) { i.kernel = []byte(strings.Repeat("text", 100)); i.m.Kernel = part(i.kernel) }), "UEFI"},
		{"large kernel", change(func(i *image) { i.m.Kernel.Size = kernelRoom + 1 }), "the slot takes 65536"},
		{"large root", change(func(i *image) { i.m.Root.Size = rootRoom + 1 }), "the slot takes 1048576"},
		{"long command line", change(func(i *image) { i.m.Version, i.m.Cmdline = strings.Repeat("4", 64), strings.Repeat("x", 310) }), "too long"},
		{"older", change(func(i *image) { *i = *newImage("2") }), "--allow-downgrade"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := b.push(c.i)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want something with %q", err, c.says)
			}
			if err := b.client.Commit(t.Context()); err == nil {
				t.Error("it was committed all the same")
			}
			if st := b.status(func(api.Status) bool { return true }); st.Other.State == "armed" {
				t.Error("it is armed")
			}
			_ = b.client.Forget(t.Context())
		})
	}
	b.off()
	if got := b.turnOn(); got != "3" {
		t.Errorf("version %s runs after all that", got)
	}
	older := newImage("2").sign(t, own)
	older.downgrade = true
	if err := b.push(older); err != nil {
		t.Errorf("going back on purpose: %v", err)
	}
}

// slowly is a body of which some has come, and the rest has not.
func slowly(first []byte) (io.Reader, func()) {
	r, w := io.Pipe()
	go func() { _, _ = w.Write(first) }()
	return r, func() { w.CloseWithError(io.ErrUnexpectedEOF) }
}

func TestOneUpdateAtATime(t *testing.T) {
	b := newBox(t)
	own := key(t, 1)
	b.trust(own)
	i := newImage("2").sign(t, own)
	begin := func() error { return b.client.Begin(t.Context(), api.Begin{Manifest: i.raw, Signatures: i.sigs}) }
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	if err := begin(); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a second one: got %v", err)
	}
	body, breakOff := slowly(i.root[:300_000])
	done := make(chan error, 1)
	go func() { done <- b.client.Put(t.Context(), "root", body, int64(len(i.root)), nil) }()
	st := b.status(func(s api.Status) bool { return s.Staging != nil && s.Staging.Done > 0 })
	want := &api.Staging{Version: "2", Started: st.Staging.Started, Part: "root", Done: st.Staging.Done, Of: int64(len(i.root))}
	if diff := cmp.Diff(want, st.Staging); diff != "" {
		t.Errorf("staging (-want +got):\n%s", diff)
	}
	if err := b.client.Forget(t.Context()); err == nil {
		t.Error("dropped while it is received")
	}
	if err := b.client.Put(t.Context(), "kernel", bytes.NewReader(i.kernel), int64(len(i.kernel)), nil); err == nil {
		t.Error("two parts at once")
	}
	breakOff()
	if err := <-done; err == nil {
		t.Error("half a root was taken")
	}
	b.status(func(s api.Status) bool { return b.client.Forget(t.Context()) == nil })
	if err := b.push(i); err != nil {
		t.Errorf("after the first was dropped: %v", err)
	}
	if err := b.client.Put(t.Context(), "root", iotest.OneByteReader(bytes.NewReader(i.root)), int64(len(i.root)), nil); err != nil {
		t.Errorf("the root again, slowly: %v", err)
	}
	if err := b.client.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPowerMayGoAtAnyTime turns the box off between any two requests.
func TestPowerMayGoAtAnyTime(t *testing.T) {
	b := newBox(t)
	own := key(t, 1)
	b.trust(own)
	i := newImage("2").sign(t, own)
	steps := []func() error{
		func() error { return b.client.Begin(t.Context(), api.Begin{Manifest: i.raw, Signatures: i.sigs}) },
		func() error {
			return b.client.Put(t.Context(), "root", bytes.NewReader(i.root), int64(len(i.root)), nil)
		},
		func() error {
			return b.client.Put(t.Context(), "kernel", bytes.NewReader(i.kernel), int64(len(i.kernel)), nil)
		},
	}
	for n := range len(steps) + 1 {
		for _, step := range steps[:n] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		b.off()
		if got := b.turnOn(); got != "1" {
			t.Fatalf("version %s runs after %d steps", got, n)
		}
	}
	if got := b.update("2"); got != "2" {
		t.Errorf("version %s runs", got)
	}
}

func TestTrialsAreLeftInPeace(t *testing.T) {
	b := newBox(t)
	own := key(t, 1)
	b.trust(own)
	b.look.set("not yet")
	if got := b.update("2"); got != "2" {
		t.Fatalf("version %s runs", got)
	}
	b.status(func(s api.Status) bool { return s.Trial && len(s.Waiting) == 1 })
	if err := b.push(newImage("3").sign(t, own)); err == nil || !strings.Contains(err.Error(), "on trial") {
		t.Errorf("an update meanwhile: got %v", err)
	}
	b.off() // updated crashes, and is started again
	b.look.set("")
	u := b.updated("2")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = u.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	b.status(func(s api.Status) bool { return s.Last != nil && s.Last.Outcome == api.Kept })
}

func TestFullDisksAreSaid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	b := newBox(t)
	own := key(t, 1)
	b.off()
	if err := unix.Mount("perm", b.dirs.State, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() { b.off(); _ = unix.Unmount(b.dirs.State, unix.MNT_DETACH) }()
	b.turnOn()
	b.trust(own)
	if err := b.push(newImage("2").sign(t, own)); err != nil {
		t.Fatal(err)
	}
	filler := b.dirs.State + "/filler"
	junk := make([]byte, 1<<20)
	_, _ = rand.Read(junk)
	if err := os.WriteFile(filler, junk, 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	if err := b.client.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("got %v", err)
	}
	if st := b.status(func(api.Status) bool { return true }); st.Other.State != "disabled" {
		t.Errorf("the slot is %s", st.Other.State)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Commit(t.Context()); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestLostMemoryTrustsNobody has a state that cannot be read: the box must not take the
// next key that comes for its first.
func TestLostMemoryTrustsNobody(t *testing.T) {
	b := newBox(t)
	b.trust(key(t, 1))
	b.off()
	b.write(filepath.Join(b.dirs.StateDir("updated"), "state.json"), []byte("garbage"))
	b.turnOn()
	if err := b.client.AddKey(t.Context(), api.AddKey{Key: key(t, 2).Public(), Name: "x"}); err == nil || !strings.Contains(err.Error(), "cannot remember") {
		t.Errorf("got %v", err)
	}
	if err := b.push(newImage("2").sign(t, key(t, 2))); err == nil {
		t.Error("an image of that key was taken")
	}
}

func TestOnlyTheConsoleMayGoBack(t *testing.T) {
	b := newBox(t)
	b.trust(key(t, 1))
	post := func(path string) error {
		resp, err := b.http.Post("http://updated"+path, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			return errors.New(string(body))
		}
		return nil
	}
	if err := post("/v1/boot-other"); err == nil || !strings.Contains(err.Error(), "no other system") {
		t.Errorf("with an empty slot: got %v", err)
	}
	if got := b.update("2"); got != "2" {
		t.Fatal("no update")
	}
	b.status(func(s api.Status) bool { return !s.Trial })
	if err := post("/v1/boot-other"); err != nil {
		t.Fatal(err)
	}
	if got := b.restart(); got != "1" {
		t.Fatalf("version %s runs", got)
	}
	b.status(func(s api.Status) bool { return !s.Trial && s.Last.Outcome == api.Kept && s.Last.Author == "console" })
	if err := b.push(newImage("1").sign(t, key(t, 1))); err == nil {
		t.Error("going back made older images welcome")
	}
	if err := post("/v1/keys/reset"); err != nil {
		t.Fatal(err)
	}
	b.trust(key(t, 2))
}

func TestKeysVouchForEachOther(t *testing.T) {
	b := newBox(t)
	first, second, foreign := key(t, 1), key(t, 2), key(t, 3)
	b.trust(first)
	add := func(k, by manifest.PrivateKey) error {
		keys, err := b.client.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sig := by.SignKeys(manifest.KeyChange{Nonce: keys.Nonce, Key: k.Public(), Name: "second"})
		return b.client.AddKey(t.Context(), api.AddKey{Key: k.Public(), Name: "second", Signature: &sig})
	}
	remove := func(k, by manifest.PrivateKey) error {
		keys, err := b.client.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sig := by.SignKeys(manifest.KeyChange{Nonce: keys.Nonce, Remove: true, Key: k.Public()})
		return b.client.RemoveKey(t.Context(), k.Public().ID(), api.RemoveKey{Signature: sig})
	}
	if err := b.client.AddKey(t.Context(), api.AddKey{Key: second.Public(), Name: "x"}); err == nil {
		t.Error("a second key was trusted at its word")
	}
	if err := add(foreign, foreign); err == nil {
		t.Error("a key vouched for itself")
	}
	if err := remove(first, first); err == nil {
		t.Error("the last key was removed")
	}
	if err := add(second, first); err != nil {
		t.Error(err)
	}
	if err := add(second, first); err == nil {
		t.Error("a key was added twice")
	}
	if err := remove(first, foreign); err == nil {
		t.Error("a stranger removed a key")
	}
	if err := remove(first, second); err != nil {
		t.Error(err)
	}
	b.off()
	b.turnOn()
	if err := b.push(newImage("2").sign(t, first)); err == nil {
		t.Error("a key that was removed counts")
	}
	if err := b.push(newImage("2").sign(t, second)); err != nil {
		t.Error(err)
	}
}

func TestWhatBecameOfAnUpdate(t *testing.T) {
	const now, then = "this boot", "an earlier one"
	for _, c := range []struct {
		name       string
		own, other boot.State
		noted      bool
		slot       boot.Slot
		armedIn    string
		why, want  string
	}{
		{name: "a quiet boot", own: boot.Good, other: boot.Good, want: "nothing"},
		{name: "a slot that failed long ago", own: boot.Good, other: boot.Tried, want: "nothing"},
		{name: "its only try", own: boot.Tried, other: boot.Good, noted: true, slot: boot.A, armedIn: then, want: "on trial"},
		{name: "firmware that cannot write", own: boot.Armed, other: boot.Good, noted: true, slot: boot.A, armedIn: then, want: "on trial"},
		{name: "armed by hand", own: boot.Tried, other: boot.Good, want: "on trial"},
		{name: "blessed, and not noted", own: boot.Good, other: boot.Good, noted: true, slot: boot.A, armedIn: then, want: "kept: "},
		{name: "blessed, and left by the boot menu", own: boot.Good, other: boot.Good, noted: true, slot: boot.B, armedIn: then, want: "kept: "},
		{name: "armed, and updated ended", own: boot.Good, other: boot.Armed, noted: true, slot: boot.B, armedIn: now, want: "go on"},
		{name: "never tried", own: boot.Good, other: boot.Armed, noted: true, slot: boot.B, armedIn: then,
			want: "abandoned: the boot loader did not try it: its menu, the firmware, or a loader.conf chose another entry"},
		{name: "noted, and not armed", own: boot.Good, other: boot.Disabled, noted: true, slot: boot.B, armedIn: then,
			want: "abandoned: the power went, or updated ended, before it was complete"},
		{name: "died", own: boot.Good, other: boot.Tried, noted: true, slot: boot.B, armedIn: then, want: "undone: " + update.DiedSilently},
		{name: "was not well", own: boot.Good, other: boot.Tried, noted: true, slot: boot.B, armedIn: then, why: "no DNS", want: "undone: no DNS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := update.Judge(boot.A, now, c.own, c.other, c.noted, c.slot, c.armedIn, c.why); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBoxGoesDownWhenAsked(t *testing.T) {
	b := newBox(t)
	if err := b.client.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.restart(); got != "1" {
		t.Errorf("version %s runs", got)
	}
	// While an update is on trial it would be undone.
	b.look.set("silent")
	b.trust(key(t, 1))
	if got := b.update("2"); got != "2" {
		t.Fatal("no update")
	}
	for _, leave := range []func(context.Context) error{b.client.Restart, b.client.PowerOff} {
		if err := leave(t.Context()); err == nil || !strings.Contains(err.Error(), "version 2 is on trial") {
			t.Errorf("on trial: got %v", err)
		}
	}
	b.look.set("")
	b.status(func(s api.Status) bool { return !s.Trial })
	if err := b.client.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-b.ended
}
