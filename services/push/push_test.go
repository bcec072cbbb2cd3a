//go:build linux

package push_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/push"
	"bulkhead/services/push/pushtest"
	"bulkhead/services/run"
)

// newRemote starts a remote on this machine.
func newRemote(t *testing.T) *pushtest.Remote {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	return pushtest.New(t, addr, func(f func()) { f() })
}

// box is a pushd and the history that it is given.
type box struct {
	t       *testing.T
	history string
	dirs    run.Dirs
	commits []gitrepo.Commit
}

func newBox(t *testing.T) *box {
	b := &box{t: t, history: filepath.Join(t.TempDir(), "history.git"), dirs: run.Dirs{Run: t.TempDir(), State: t.TempDir()}}
	if err := os.Mkdir(b.dirs.RunDir("pushd"), 0o750); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- push.Serve(ctx, slog.New(slog.DiscardHandler), b.dirs) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("served until %v", err)
		}
	})
	return b
}

// change adds commits to the history and returns the newest.
func (b *box) change(n int) string {
	b.t.Helper()
	for range n {
		c := gitrepo.Commit{Author: "alex", Time: time.Unix(1e9, 0), File: "home.yaml", Message: fmt.Sprint("change ", len(b.commits)+1), Data: fmt.Appendf(nil, "zones: %d\n", len(b.commits))}
		if len(b.commits) > 0 {
			c.Parent = b.commits[len(b.commits)-1].ID()
		}
		b.commits = append(b.commits, c)
	}
	r, err := gitrepo.Open(b.history)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Add(func(yield func(gitrepo.Commit, error) bool) {
		for _, c := range b.commits {
			if !yield(c, nil) {
				return
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.commits[len(b.commits)-1].ID().String()
}

func (b *box) configure(c svcconf.Push) {
	b.t.Helper()
	data, err := json.Marshal(c)
	if err == nil {
		err = file.Replace(b.dirs.Config("pushd"), data, 0o640, -1)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// await waits until the status is what is wanted.
func (b *box) await(what string, ok func(svcconf.PushStatus) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	path := filepath.Join(b.dirs.RunDir("pushd"), svcconf.StatusFile)
	changes, err := file.Watch(ctx, path)
	if err != nil {
		b.t.Fatal(err)
	}
	var s svcconf.PushStatus
	for {
		if data, err := os.ReadFile(path); err == nil {
			s = svcconf.PushStatus{}
			if err := json.Unmarshal(data, &s); err != nil {
				b.t.Fatal(err)
			}
			if ok(s) {
				return
			}
		}
		if _, more := <-changes; !more {
			b.t.Fatalf("waited for %s, status is %+v", what, s)
		}
	}
}

func (b *box) pushed(head string) {
	b.t.Helper()
	b.await("a push of "+head, func(s svcconf.PushStatus) bool { return s.Head == head && s.Error == "" && !s.At.IsZero() })
}

func (b *box) fails(why string) {
	b.t.Helper()
	b.await("the error "+why, func(s svcconf.PushStatus) bool { return strings.Contains(s.Error, why) && !s.Failing.IsZero() })
}

func (b *box) to(r *pushtest.Remote, head string) svcconf.Push {
	return svcconf.Push{Repository: b.history, Head: head, Remote: r.Addr, User: r.User, Path: r.Repo, KnownHost: r.Host, Key: r.Key}
}

func TestHistoryArrivesAtARealRemote(t *testing.T) {
	r, b := newRemote(t), newBox(t)
	head := b.change(3)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.Git("fsck", "--strict")
	if got := r.Git("log", "--format=%s %an", "main"); got != "change 3 alex\nchange 2 alex\nchange 1 alex\n" {
		t.Errorf("the remote has\n%s", got)
	}
	head = b.change(2)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.Git("gc", "-q")
	head = b.change(300)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.Git("fsck", "--strict")
	if got := r.Git("rev-list", "--count", "main"); got != "305\n" {
		t.Errorf("the remote has %s commits, want 305", got)
	}
	b.configure(svcconf.Push{})
	b.await("nothing to push", func(s svcconf.PushStatus) bool { return s == svcconf.PushStatus{} })
}

func TestWhatStandsInTheWayIsSaid(t *testing.T) {
	r, b := newRemote(t), newBox(t)
	c := b.to(r, b.change(1))
	stranger := c
	stranger.KnownHost = r.Public("bad")
	b.configure(stranger)
	b.fails("the remote is not who it was")
	outsider := c
	outsider.Key = r.Bad
	b.configure(outsider)
	b.fails("unable to authenticate")
	nowhere := c
	nowhere.Path += "x"
	b.configure(nowhere)
	b.fails("does not appear to be a git repository")
	hook := filepath.Join(r.Repo, "hooks/update")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.configure(c)
	b.fails("the remote refuses: hook declined")
	if got := r.Git("for-each-ref"); got != "" {
		t.Errorf("the remote has\n%s", got)
	}
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	again := b.to(r, b.change(1))
	b.configure(again)
	b.pushed(again.Head)
	tree := strings.TrimSpace(r.Git("rev-parse", "main^{tree}"))
	theirs := strings.TrimSpace(r.Git("-c", "user.name=kim", "-c", "user.email=kim@example.com", "commit-tree", "-m", "by hand", tree))
	r.Git("update-ref", "refs/heads/main", theirs)
	b.configure(b.to(r, b.change(1)))
	b.fails("somebody else has pushed to the remote")
	if got := strings.TrimSpace(r.Git("rev-parse", "main")); got != theirs {
		t.Errorf("the remote's branch was moved to %s", got)
	}
}
