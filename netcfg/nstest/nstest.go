//go:build linux

// Package nstest gives a test network namespaces of its own, and runs functions
// and programs in them. Only tests import it; it never touches the namespace that
// the test was started in.
package nstest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// New returns the file descriptor of a fresh network namespace that holds a
// downed loopback interface (index 1) and nothing else. The namespace goes away
// with the test. Without CAP_SYS_ADMIN the test is skipped, unless BULKHEAD_NEED_ROOT
// is set, as it is in CI, so that a skipped suite cannot pass for a green one.
func New(t testing.TB) int {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		// The thread is locked and never unlocked: it dies with this goroutine,
		// so nothing else can ever run in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- result{err: fmt.Errorf("unshare: %w", err)}
			return
		}
		f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		c <- result{f, err}
	}()
	r := <-c
	skipOrFail(t, r.err)
	t.Cleanup(func() { r.f.Close() })
	return int(r.f.Fd())
}

func skipOrFail(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, fs.ErrPermission) && os.Getenv("BULKHEAD_NEED_ROOT") == "" {
		t.Skip("needs CAP_SYS_ADMIN: run make test-root")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Run calls f on a thread inside the namespace and waits for it. Sockets that f
// opens stay in the namespace; goroutines that it starts are not in it. If f ends
// by t.FailNow, the test ends.
func Run(t testing.TB, ns int, f func()) {
	t.Helper()
	var err error
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, as in New
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return
		}
		f()
		returned = true
	}()
	<-done
	if err != nil {
		t.Fatalf("enter network namespace: %v", err)
	}
	if !returned {
		t.FailNow() // f has said why
	}
}

// Exec runs a program inside the namespace and returns what it writes to standard
// output and standard error. The test ends if the program fails.
func Exec(t testing.TB, ns int, program string, args ...string) string {
	t.Helper()
	return ExecInput(t, ns, "", program, args...)
}

// ExecInput is [Exec] with the program's standard input.
func ExecInput(t testing.TB, ns int, input, program string, args ...string) string {
	t.Helper()
	var out []byte
	Run(t, ns, func() {
		cmd := exec.Command(program, args...)
		cmd.Stdin = strings.NewReader(input)
		var err error
		if out, err = cmd.CombinedOutput(); err != nil { // the child inherits this thread's namespace
			t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
			runtime.Goexit()
		}
	})
	return string(out)
}

// Veth joins two namespaces by a pair of virtual Ethernet interfaces and sets both
// up. The namespaces may be one and the same.
func Veth(t testing.TB, nsA int, nameA string, nsB int, nameB string) {
	t.Helper()
	Exec(t, nsA, "ip", "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", Path(nsB))
	Exec(t, nsA, "ip", "link", "set", "dev", nameA, "up")
	Exec(t, nsB, "ip", "link", "set", "dev", nameB, "up")
}

// Path is a path by which other processes can open the namespace while the test runs.
func Path(ns int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns) }

// Named is [New] for programs that find the namespace by name, with "ip netns exec".
// The name is unique to this call.
func Named(t testing.TB) (name string, ns int) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipOrFail(t, fs.ErrPermission)
	}
	name = "bhtest-" + strings.ToLower(rand.Text()[:8])
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add %s: %v\n%s", name, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del %s: %v\n%s", name, err, out)
		}
	})
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return name, int(f.Fd())
}
