//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/privdrop"
	"bulkhead/services/ptytest"
)

// asConsoled makes the test binary consoled.
const asConsoled = "BULKHEAD_TEST_CONSOLED"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asConsoled) != "":
		main()
	case os.Getenv(asNetcfgd) != "":
		netcfgd(os.Getenv(asNetcfgd))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// machine is a directory that looks like the root of a box, with its daemons.
type machine struct {
	root, run string
	orders    chan string
}

func newMachine(t *testing.T, consoles ...string) *machine {
	t.Helper()
	root, err := os.MkdirTemp("", "c") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	m := &machine{root, filepath.Join(root, "run/bulkhead"), make(chan string, 10)}
	for path, data := range map[string]string{
		"sys/class/tty/console/active": strings.Join(consoles, " ") + "\n",
		"proc/sys/kernel/printk":       "7 4 1 7\n",
		"etc/bulkhead/image.json":      `{"version":"2026.11.27-abcdef0"}`,
		"dev/null":                     "",
		"run/bulkhead/x":               "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// serve answers on a socket, as user and group id.
func (m *machine) serve(t *testing.T, path string, id int, answers map[string]any) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, id, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			m.orders <- r.URL.String()
		}
		json.NewEncoder(w).Encode(answers[r.URL.Path])
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

// attach makes a terminal the console of the given name.
func (m *machine) attach(t *testing.T, name string, p *ptytest.PTY) {
	t.Helper()
	link := filepath.Join(m.root, "dev", name)
	os.Remove(link)
	if err := os.Symlink(p.Path, link); err != nil {
		t.Fatal(err)
	}
}

// start starts consoled, which is stopped with the test.
func (m *machine) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-root", m.root, "-run", m.run)
	cmd.Env = append(os.Environ(), asConsoled+"=1")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 143 {
			t.Errorf("got exit code %d, want 143", code)
		}
		if t.Failed() {
			t.Logf("consoled said:\n%s", &log)
		}
	})
	return cmd
}

type backend struct{ api.Backend }

func (backend) Status(context.Context) (*api.Status, error) {
	return &api.Status{Name: "gw", Mode: api.Running, NoUplink: true}, nil
}
func (backend) Zones(context.Context) ([]api.Zone, error) { return []api.Zone{}, nil }

func TestConsole(t *testing.T) {
	m := newMachine(t, "ttyT", "ttyU")
	first, other := ptytest.New(t), ptytest.New(t)
	m.attach(t, "ttyT", first)
	m.attach(t, "ttyU", other)
	l, err := api.Listen(m.run)
	if err != nil {
		t.Fatal(err)
	}
	srv := api.NewServer(backend{}, nil, slog.New(slog.DiscardHandler))
	go srv.Serve(l)
	defer srv.Close()
	// webuid's socket lies where only webuid's group may look.
	dir, err := privdrop.Dir(m.run, svcconf.Webuid.Name, svcconf.Webuid.ID, svcconf.Webuid.ID)
	if err != nil {
		t.Fatal(err)
	}
	m.serve(t, filepath.Join(dir, "control.sock"), svcconf.Webuid.ID, map[string]any{
		"/v1/identity": access.Identity{Addresses: []netip.Addr{netip.MustParseAddr("192.168.77.1")}},
	})
	if _, err := privdrop.Dir(m.run, svcconf.Authd.Name, svcconf.Authd.ID, svcconf.Webuid.ID); err != nil {
		t.Fatal(err)
	}
	m.serve(t, filepath.Join(m.run, auth.SocketFile), svcconf.Webuid.ID, map[string]any{"/v1/claim": auth.Ownership{Code: "4X7M-09QT-ZK3A-B1CD"}})
	m.serve(t, filepath.Join(m.root, "run/gokrazy-http.sock"), 0, map[string]any{"/": map[string]any{"Services": []any{map[string]any{"Path": "/user/dnsd"}}}})
	cmd := m.start(t)

	first.WaitFor(t, "bulkhead claim 192.168.77.1")
	first.WaitFor(t, "4X7M-09QT-ZK3A-B1CD")
	first.Press(t, "1\r")
	first.WaitFor(t, "updated is not running")
	first.WaitFor(t, "dnsd")
	first.Press(t, "\x1b6\rrestart")
	first.WaitFor(t, "> restart")
	other.Press(t, "\r")
	other.WaitFor(t, "Type a number")
	first.Press(t, "\r")
	first.WaitFor(t, "The box restarts.")
	if got := <-m.orders; got != "/reboot?kexec=off" {
		t.Errorf("ordered %q", got)
	}
	if printk, err := os.ReadFile(filepath.Join(m.root, "proc/sys/kernel/printk")); err != nil || !bytes.HasPrefix(printk, []byte("4")) {
		t.Errorf("the kernel's level is %q, %v", printk, err)
	}
	raw(t, first)
	if os.Geteuid() == 0 {
		unprivileged(t, cmd.Process.Pid)
	}

	// The line hangs up, and somebody plugs in another terminal.
	next := ptytest.New(t)
	m.attach(t, "ttyT", next)
	first.Close()
	next.WaitFor(t, "Type a number")
}

// raw fails if the terminal makes signals, echoes or flow control of what is typed.
func raw(t *testing.T, p *ptytest.PTY) {
	t.Helper()
	p.Control(t, func(fd int) error {
		s, err := unix.IoctlGetTermios(fd, unix.TCGETS) // of the other end, too
		if err == nil && (s.Lflag != 0 || s.Iflag != unix.IGNBRK|unix.IGNPAR || s.Cflag&unix.CLOCAL == 0) {
			t.Errorf("the terminal has local modes %o, input modes %o, control modes %o", s.Lflag, s.Iflag, s.Cflag)
		}
		return err
	})
}

func unprivileged(t *testing.T, pid int) {
	t.Helper()
	nstest.New(t) // a root without rights has none to give up
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	for _, want := range []string{"CapPrm:\t" + none, "CapEff:\t" + none, "CapBnd:\t" + none, "NoNewPrivs:\t1", "Uid:\t0\t0\t0\t0", "Groups:\t7106 "} {
		if !strings.Contains(string(status), want+"\n") {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
}

func TestTerminalThatDoesNotDrainIsLeftAlone(t *testing.T) {
	m := newMachine(t, "ttyT", "ttyU")
	full, other := ptytest.New(t), ptytest.New(t)
	m.attach(t, "ttyT", full)
	m.attach(t, "ttyU", other)
	m.start(t)
	full.WaitFor(t, "netcfgd is not running")
	flow(t, full.Path, unix.TCOOFF)
	full.Press(t, "\r")
	for range 3 {
		other.Press(t, "\r")
		other.WaitFor(t, "netcfgd is not running")
	}
	flow(t, full.Path, unix.TCOON)
	full.Press(t, "\r")
	full.WaitFor(t, "netcfgd is not running")
	full.WaitFor(t, "Type a number")
}

// flow stops or starts the output of a terminal.
func flow(t *testing.T, path string, what int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TCXONC, what); err != nil {
		t.Fatal(err)
	}
}

func TestBoxWithoutConsoleIsLeftAlone(t *testing.T) {
	m := newMachine(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-root", m.root, "-run", m.run)
	cmd.Env = append(os.Environ(), asConsoled+"=1")
	if cmd.Run(); cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("got exit code %d, want 125: gokrazy is not to start it again", cmd.ProcessState.ExitCode())
	}
}
