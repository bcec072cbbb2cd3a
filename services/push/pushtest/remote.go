//go:build linux

// Package pushtest gives a test a remote to push to: OpenSSH's server and git, the real
// peers. Only tests import it.
package pushtest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Remote is a repository behind OpenSSH's server.
type Remote struct {
	t        testing.TB
	Dir      string // of its keys
	Repo     string
	User     string // who may come in
	Addr     netip.AddrPort
	Host     string // its public key
	Key, Bad string // private keys that it does and does not let in
}

// New starts a remote that listens at addr, which ends with the test. in calls what it is
// given where that address is.
func New(t testing.TB, addr netip.AddrPort, in func(func())) *Remote {
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
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := &Remote{t: t, Dir: t.TempDir(), User: me.Username, Addr: addr}
	r.Repo = filepath.Join(r.Dir, "history.git")
	r.command(r.Dir, "git", "init", "-q", "--bare", r.Repo)
	for _, name := range []string{"host", "good", "bad"} {
		r.command(r.Dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
	}
	r.Host = r.Public("host")
	r.Key, r.Bad = r.read("good"), r.read("bad")
	config := fmt.Sprintf(`ListenAddress %s
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/good.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`, addr, r.Dir)
	if err := os.WriteFile(r.Dir+"/config", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", r.Dir+"/config")
	log := new(strings.Builder)
	cmd.Stderr = log
	in(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log)
		}
	})
	r.await(in)
	return r
}

// await waits until it listens.
func (r *Remote) await(in func(func())) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var conn net.Conn
		var err error
		in(func() {
			d := net.Dialer{Timeout: time.Second}
			conn, err = d.Dial("tcp", r.Addr.String())
		})
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("sshd does not listen: %v", err)
		}
	}
}

// Public is one of the public keys that the remote has: host, good or bad.
func (r *Remote) Public(name string) string {
	r.t.Helper()
	return strings.Join(strings.Fields(r.read(name + ".pub"))[:2], " ")
}

func (r *Remote) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// Git runs git in the repository, and returns what it prints.
func (r *Remote) Git(args ...string) string {
	r.t.Helper()
	return r.command(r.Repo, "git", args...)
}

func (r *Remote) command(dir, name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
