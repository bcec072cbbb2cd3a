//go:build linux

package push_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/push"
	"bulkhead/services/run"
)

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// remote is OpenSSH's server with a repository, the real peer.
type remote struct {
	t        *testing.T
	dir      string
	repo     string
	addr     netip.AddrPort
	host     string // its public key
	key, bad string // private keys that it does and does not let in
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	const sshd = "/usr/sbin/sshd" // it insists on an absolute path
	if _, err := os.Stat(sshd); err != nil {
		if os.Getenv("BULKHEAD_NEED_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip("openssh-server is not installed")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // as its service does
			t.Fatal(err)
		}
	}
	r := &remote{t: t, dir: t.TempDir()}
	r.repo = filepath.Join(r.dir, "history.git")
	command(t, r.dir, "git", "init", "-q", "--bare", r.repo)
	for _, name := range []string{"host", "good", "bad"} {
		command(t, r.dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
	}
	r.host = strings.Join(strings.Fields(read(t, r.dir+"/host.pub"))[:2], " ")
	r.key, r.bad = read(t, r.dir+"/good"), read(t, r.dir+"/bad")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	write(t, r.dir+"/config", fmt.Sprintf(`ListenAddress %s
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/good.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`, r.addr, r.dir), 0o600)
	cmd := exec.Command(sshd, "-D", "-e", "-f", r.dir+"/config")
	log := new(strings.Builder)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", r.addr.String())
		if err == nil {
			conn.Close()
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
	}
}

func (r *remote) git(args ...string) string {
	r.t.Helper()
	return command(r.t, r.repo, "git", args...)
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

func (b *box) to(r *remote, head string) svcconf.Push {
	b.t.Helper()
	me, err := user.Current()
	if err != nil {
		b.t.Fatal(err)
	}
	return svcconf.Push{Repository: b.history, Head: head, Remote: r.addr, User: me.Username, Path: r.repo, KnownHost: r.host, Key: r.key}
}

func TestHistoryArrivesAtARealRemote(t *testing.T) {
	r, b := newRemote(t), newBox(t)
	head := b.change(3)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.git("fsck", "--strict")
	if got := r.git("log", "--format=%s %an", "main"); got != "change 3 alex\nchange 2 alex\nchange 1 alex\n" {
		t.Errorf("the remote has\n%s", got)
	}
	head = b.change(2)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.git("gc", "-q")
	head = b.change(300)
	b.configure(b.to(r, head))
	b.pushed(head)
	r.git("fsck", "--strict")
	if got := r.git("rev-list", "--count", "main"); got != "305\n" {
		t.Errorf("the remote has %s commits, want 305", got)
	}
	b.configure(svcconf.Push{})
	b.await("nothing to push", func(s svcconf.PushStatus) bool { return s == svcconf.PushStatus{} })
}

func TestWhatStandsInTheWayIsSaid(t *testing.T) {
	r, b := newRemote(t), newBox(t)
	c := b.to(r, b.change(1))
	stranger := c
	stranger.KnownHost = strings.Join(strings.Fields(read(t, r.dir+"/bad.pub"))[:2], " ")
	b.configure(stranger)
	b.fails("the remote is not who it was")
	outsider := c
	outsider.Key = r.bad
	b.configure(outsider)
	b.fails("unable to authenticate")
	nowhere := c
	nowhere.Path += "x"
	b.configure(nowhere)
	b.fails("does not appear to be a git repository")
	hook := filepath.Join(r.repo, "hooks/update")
	write(t, hook, "#!/bin/sh\nexit 1\n", 0o755)
	b.configure(c)
	b.fails("the remote refuses: hook declined")
	if got := r.git("for-each-ref"); got != "" {
		t.Errorf("the remote has\n%s", got)
	}
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	again := b.to(r, b.change(1))
	b.configure(again)
	b.pushed(again.Head)
	tree := strings.TrimSpace(r.git("rev-parse", "main^{tree}"))
	theirs := strings.TrimSpace(r.git("-c", "user.name=kim", "-c", "user.email=kim@example.com", "commit-tree", "-m", "by hand", tree))
	r.git("update-ref", "refs/heads/main", theirs)
	b.configure(b.to(r, b.change(1)))
	b.fails("somebody else has pushed to the remote")
	if got := strings.TrimSpace(r.git("rev-parse", "main")); got != theirs {
		t.Errorf("the remote's branch was moved to %s", got)
	}
}
