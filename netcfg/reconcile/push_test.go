//go:build linux

package reconcile_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/svcconf"
)

// pushed is home with a remote for the history.
var pushed = strings.Replace(home, "timezone: UTC}", `timezone: UTC, config: {push: "ssh://git@192.168.40.9/srv/gw.git", key: {secret: history-key},
  known-host: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g}}`, 1)

// privateKey has the form of one.
var privateKey = string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v1\x00\x00\x00\x00\x04none and the rest")}))

// pushd is what pushd is told.
func (b *box) pushd() svcconf.Push {
	b.t.Helper()
	var p svcconf.Push
	b.config("pushd", &p)
	return p
}

func TestPushdGetsTheConfirmedHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		if got := b.pushd(); got != (svcconf.Push{}) || b.status().Push != nil {
			t.Errorf("without a remote pushd is told %+v", got)
		}
		b.mustSet("history-key", privateKey)
		b.mustApply(pushed)
		wait(2 * time.Second)
		dir := filepath.Join(b.run, "../services/pushd/history.git")
		head := b.head(dir)
		want := svcconf.Push{
			Repository: filepath.Clean(dir), Head: head, User: "git", Path: "/srv/gw.git", Key: privateKey,
			KnownHost: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
		}
		got := b.pushd()
		if addr := got.Remote.String(); addr != "192.168.40.9:22" {
			t.Errorf("the remote is %s", addr)
		}
		got.Remote = want.Remote
		if got != want {
			t.Errorf("pushd is told %+v, want %+v", got, want)
		}
		b.mustApply(strings.Replace(pushed, "why: outbound", "why: outwards", 1))
		wait(2 * time.Second)
		if now := b.head(dir); now == head || b.pushd().Head != now {
			t.Errorf("after another change pushd is told of %s, and the history ends in %s", b.pushd().Head, now)
		}
		b.stop()
		b.boot()
		if got := b.pushd().Head; got != b.head(dir) {
			t.Errorf("after a restart pushd is told of %s", got)
		}
		b.mustApply(home)
		if got := b.pushd(); got != (svcconf.Push{}) {
			t.Errorf("once the remote is gone pushd is told %+v", got)
		}
	})
}

func TestAChangeOnTrialIsNotPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustSet("history-key", privateKey)
		b.mustApply(home)
		b.mustTry(pushed)
		if got := b.pushd(); got != (svcconf.Push{}) {
			t.Errorf("of a remote that is on trial pushd is told %+v", got)
		}
		wait(3 * time.Minute) // nobody confirms it
		b.mustApply(pushed)
		wait(2 * time.Second)
		before := b.pushd()
		b.mustTry(strings.Replace(pushed, "why: outbound", "why: outwards", 1))
		if got := b.pushd(); got != before || got.Head == "" {
			t.Errorf("during a trial that leaves the remote alone pushd is told %+v", got)
		}
		wait(3 * time.Minute)
		b.mustTry(strings.Replace(pushed, "srv/gw.git", "srv/other.git", 1))
		if got := b.pushd(); got != (svcconf.Push{}) {
			t.Errorf("during a trial of another remote pushd is told %+v", got)
		}
		wait(3 * time.Minute)
		if got := b.pushd(); got != before {
			t.Errorf("after that was undone pushd is told %+v", got)
		}
	})
}

// head is the commit that the exported history ends in.
func (b *box) head(dir string) string {
	b.t.Helper()
	r, err := gitrepo.OpenRead(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	id, err := r.Head()
	if err != nil {
		b.t.Fatal(err)
	}
	return id.String()
}

func TestStatusTellsHowPushingGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustSet("history-key", privateKey)
		b.mustApply(pushed)
		say := func(s svcconf.PushStatus) {
			data, err := json.Marshal(s)
			if err == nil {
				err = os.WriteFile(filepath.Join(b.run, "pushd", svcconf.StatusFile), data, 0o640)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		const to, commit = "ssh://git@192.168.40.9:22/srv/gw.git", "0123456789abcdef0123456789abcdef01234567"
		want := func(p api.Push) {
			t.Helper()
			p.To = to
			if diff := cmp.Diff(&p, b.status().Push); diff != "" {
				t.Errorf("status differs (-want +got):\n%s", diff)
			}
		}
		want(api.Push{})
		say(svcconf.PushStatus{Head: commit, At: begin})
		want(api.Push{Head: commit, Time: begin})
		say(svcconf.PushStatus{Head: "\x1b[31m", Error: "\x1b[31mno\nway " + strings.Repeat("x", 500), Failing: begin})
		want(api.Push{Error: " [31mno way " + strings.Repeat("x", 225) + "…", Failing: begin})
	})
}
