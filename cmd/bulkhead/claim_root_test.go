//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/authtest"
	"bulkhead/webui"
	"bulkhead/webui/remote"
)

// firstFile moves the management address, as first files do.
const firstFile = `
system: {name: gw, domain: home.arpa}
ports:
  lan: {mac: "52:54:00:10:00:02"}
  iot: {mac: "52:54:00:10:00:03"}
zones:
  management: {port: lan, subnet: 192.168.10.0/24, admin: true}
  gadgets:    {port: iot, subnet: 192.168.40.0/24}
`

// newBox is a box as it comes out of its parcel, made of the real programs, between a
// workstation and a room of gadgets.
type newBox struct {
	t                 *testing.T
	dir, bin          string
	gw, desk, gadgets int // namespaces
	netcfgd, webuid   *exec.Cmd
	log               nstest.Output
}

func unpack(t *testing.T) *newBox {
	if os.Getenv("BULKHEAD_NEED_ROOT") == "" {
		t.Skip("takes half a minute in namespaces: run make test-root")
	}
	gw := nstest.New(t)
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // webuid's user passes through
		t.Fatal(err)
	}
	b := &newBox{t: t, dir: dir, gw: gw, desk: nstest.New(t), gadgets: nstest.New(t)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box is\n%s", nstest.Exec(t, gw, "ip", "addr"))
			t.Logf("the box said:\n%s", b.log.String())
		}
	})
	b.bin = os.Getenv("BULKHEAD_BIN") // make test-root has built them
	if b.bin == "" {
		b.bin = dir
		build := exec.Command("go", "build", "-o", dir, "bulkhead/cmd/netcfgd", "bulkhead/cmd/webuid", "bulkhead/cmd/authd", "bulkhead/cmd/flowd", "bulkhead/cmd/exportd", "bulkhead/cmd/dnsd", "bulkhead/cmd/dhcpd", "bulkhead/cmd/bulkhead")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "home.yaml"), []byte(firstFile), 0o644); err != nil {
		t.Fatal(err)
	}
	nstest.Exec(t, b.gw, "ip", "link", "set", "lo", "up")
	for _, h := range []struct {
		ns         int
		name, mac  string
		subnets    []string
		defaultVia string
	}{
		{b.desk, "lan", "52:54:00:10:00:02", []string{"192.168.77", "192.168.10"}, "192.168.10.1"},
		{b.gadgets, "iot", "52:54:00:10:00:03", []string{"192.168.40"}, "192.168.40.1"},
	} {
		nstest.Veth(t, b.gw, h.name, h.ns, "eth0")
		nstest.Exec(t, b.gw, "ip", "link", "set", h.name, "address", h.mac)
		for _, s := range h.subnets {
			nstest.Exec(t, h.ns, "ip", "addr", "add", s+".99/24", "dev", "eth0")
		}
		nstest.Exec(t, h.ns, "ip", "route", "add", "default", "via", h.defaultVia)
	}
	// One cable: the box's first port with one is where it waits for its owner.
	nstest.Exec(t, b.gadgets, "ip", "link", "set", "eth0", "down")
	b.netcfgd = b.start("netcfgd", "-setup")
	b.start("authd")
	b.start("flowd")
	b.start("exportd")
	b.webuid = b.start("webuid")
	return b
}

// start starts a daemon in the box, as its init would.
func (b *newBox) start(name string, args ...string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.bin, name), append(args, "-run", filepath.Join(b.dir, "run"), "-state", filepath.Join(b.dir, "state"))...)
	cmd.Stdout, cmd.Stderr = &b.log, &b.log
	nstest.Run(b.t, b.gw, func() {
		if err := cmd.Start(); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it may be gone
	return cmd
}

// console asks for what the box's console shows; with POST, for a new code.
func (b *newBox) console(method string) (s access.State, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.dir, "run/webuid", webui.ControlSocket))
		}}}
	resp, err := client.Get("http://webuid/v1/identity")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	s, err = authtest.Ownership(b.t.Context(), auth.NewClient(filepath.Join(b.dir, "run", auth.SocketFile)), method == "POST")
	return s, errors.Join(err, json.NewDecoder(resp.Body).Decode(&s.Identity))
}

// until waits for something to come true.
func (b *newBox) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.t.Fatalf("never came true: %s", what)
}

// cli runs bulkhead at the desk, and returns what it says and its exit code.
func (b *newBox) cli(args ...string) (string, int) {
	b.t.Helper()
	return b.cliWith(nil, args...)
}

// cliWith is cli with more in the environment.
func (b *newBox) cliWith(env []string, args ...string) (string, int) {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.bin, "bulkhead"), args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(b.dir, "desk"), "XDG_RUNTIME_DIR=", "NO_COLOR=1")
	cmd.Env = append(cmd.Env, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	nstest.Run(b.t, b.desk, func() { _ = cmd.Run() }) // the code says it
	return out.String(), cmd.ProcessState.ExitCode()
}

// dial opens a TCP connection from a namespace.
func (b *newBox) dial(ns int, to string) (err error) {
	nstest.Run(b.t, ns, func() {
		var conn net.Conn
		d := net.Dialer{Timeout: 2 * time.Second}
		if conn, err = d.Dial("tcp4", to); err == nil {
			conn.Close()
		}
	})
	return err
}

func TestNewBoxIsClaimedAndMovesToItsFirstConfiguration(t *testing.T) {
	t.Parallel() // most of it is waiting
	b := unpack(t)
	var state access.State
	b.until("the box waits for its owner at 192.168.77.1", func() bool {
		var err error
		state, err = b.console("GET")
		return err == nil && len(state.Addresses) == 1 && b.dial(b.desk, "192.168.77.1:443") == nil
	})
	if state.Claimed || state.Code == "" {
		t.Fatalf("out of the parcel: %+v", state)
	}
	b.checkRights()

	file := filepath.Join(b.dir, "home.yaml")
	out, code := b.cli("claim", "192.168.77.1", "--code", access.NewCode().String(), "--yes", file)
	if code == 0 || !strings.Contains(out, "the claim code is wrong") || !strings.Contains(out, state.Fingerprint.String()) {
		t.Fatalf("a wrong code: exit %d\n%s", code, out)
	}
	out, code = b.cli("claim", "192.168.77.1", "--code", state.Code, "--fingerprint", access.Fingerprint{}.String(), "--yes", file)
	if code == 0 || !strings.Contains(out, "somebody sits between you and it") {
		t.Fatalf("another fingerprint: exit %d\n%s", code, out)
	}
	out, code = b.cli("claim", "192.168.77.1", "--code", strings.ToLower(state.Code), "--yes", file)
	if code != 0 || !strings.Contains(out, "The box is at https://192.168.10.1 now, and answers there.") {
		t.Fatalf("the claim: exit %d\n%s", code, out)
	}
	t.Logf("claim said:\n%s", out)

	const name = "gw" // the file's: the box is called bulkhead before
	out, code = b.cli("--box", name, "show")
	if code != 0 || !strings.Contains(out, "gw is running") || !strings.Contains(out, "when the box was claimed") {
		t.Errorf("show: exit %d\n%s", code, out)
	}
	out, code = b.cli("--box", "192.168.10.1", "why", "gadgets", "box", "https")
	if code != 1 || !strings.Contains(out, "denied") {
		t.Errorf("why: exit %d\n%s", code, out)
	}
	out, code = b.cli("claim", "192.168.10.1", "--code", state.Code)
	if code == 0 || !strings.Contains(out, "there is no claim code") {
		t.Errorf("a second claim: exit %d\n%s", code, out)
	}
	if out, code = b.cli("--box", name, "apply", file); code != 0 || !strings.Contains(out, "is in force on trial") {
		t.Errorf("apply: exit %d\n%s", code, out)
	}
	if out, code = b.cli("--box", name, "confirm"); code != 0 || !strings.Contains(out, "Confirmed") {
		t.Errorf("confirm: exit %d\n%s", code, out)
	}
	nstest.Exec(t, b.gadgets, "ip", "link", "set", "eth0", "up")
	nstest.Exec(t, b.gadgets, "ip", "route", "replace", "default", "via", "192.168.40.1")
	b.until("the gadgets can ping the box", func() bool {
		var out []byte
		nstest.Run(t, b.gadgets, func() { out, _ = exec.Command("ping", "-c1", "-W1", "192.168.40.1").CombinedOutput() })
		return strings.Contains(string(out), "1 received")
	})
	for _, at := range []string{"192.168.40.1:443", "192.168.10.1:443", "192.168.40.1:80", "192.168.10.1:80"} {
		if err := b.dial(b.gadgets, at); err == nil {
			t.Errorf("the gadgets reach %s", at)
		}
	}
	if err := b.dial(b.desk, "192.168.77.1:443"); err == nil {
		t.Error("the box is still at its first address")
	}
	b.checkMetrics(b.token(name))
}

// token returns the one that the desk has for a box.
func (b *newBox) token(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "desk/bulkhead/boxes", name+".json"))
	if err != nil {
		b.t.Fatal(err)
	}
	var p remote.Profile
	if err := json.Unmarshal(data, &p); err != nil {
		b.t.Fatal(err)
	}
	return p.Token
}

// checkRights holds webuid's process to its one capability and its own user.
func (b *newBox) checkRights() {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.webuid.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	const bind = "0000000000000400" // CAP_NET_BIND_SERVICE, bit 10
	want := map[string]string{
		"Uid": "7106 7106 7106 7106", "Gid": "7106 7106 7106 7106", "Groups": "", "NoNewPrivs": "1",
		"CapInh": bind, "CapPrm": bind, "CapEff": bind, "CapBnd": bind, "CapAmb": bind,
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if w, ok := want[key]; ok && w != strings.Join(strings.Fields(value), " ") {
			b.t.Errorf("webuid's %s is %s, want %s", key, strings.TrimSpace(value), w)
		}
		delete(want, key)
	}
	if len(want) > 0 {
		b.t.Errorf("/proc does not say %v", want)
	}
}

// claimFrom77 runs claim with the file at a desk that is in the first network only.
func (b *newBox) claimFrom77(code, window string) (out string, exit int) {
	nstest.Exec(b.t, b.desk, "ip", "addr", "del", "192.168.10.99/24", "dev", "eth0")
	return b.cli("claim", "192.168.77.1", "--name", "gate", "--code", code, "--window", window, "--yes", filepath.Join(b.dir, "home.yaml"))
}

// waiting waits until the box waits for its owner.
func (b *newBox) waiting() (state access.State) {
	b.t.Helper()
	b.until("the box waits for its owner", func() bool {
		var err error
		state, err = b.console("GET")
		return err == nil && b.dial(b.desk, "192.168.77.1:443") == nil
	})
	return state
}

func TestOwnerFollowsTheBoxToItsFirstConfiguration(t *testing.T) {
	t.Parallel()
	b := unpack(t)
	state := b.waiting()
	client := api.NewClient(filepath.Join(b.dir, "run", api.SocketFile))
	go func() {
		for t.Context().Err() == nil {
			if s, err := client.Status(t.Context()); err == nil && s.Pending != nil && s.Pending.Phase == api.Waiting {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		nstest.Exec(t, b.desk, "ip", "addr", "add", "192.168.10.99/24", "dev", "eth0") // the cable is moved
	}()
	out, code := b.claimFrom77(state.Code, "1m")
	if code != 0 || !strings.Contains(out, "You have 1m to follow it: this machine must be in zone management (port lan, the box is 192.168.10.1)") ||
		!strings.Contains(out, "home.yaml is confirmed") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if out, code = b.cli("--box", "gate", "show"); code != 0 || !strings.Contains(out, "gw is running") || strings.Contains(out, "pending") {
		t.Errorf("show: exit %d\n%s", code, out)
	}
	// It is remembered.
	data, err := os.ReadFile(filepath.Join(b.dir, "desk/bulkhead/boxes/gate.json"))
	if err != nil || !bytes.Contains(data, []byte(`"url": "https://192.168.10.1"`)) {
		t.Errorf("the profile is %s, %v", data, err)
	}
	_ = b.webuid.Process.Signal(syscall.SIGTERM)
	if err := b.webuid.Wait(); b.webuid.ProcessState.ExitCode() != 143 {
		t.Errorf("webuid ended with %v", err)
	}
	if !slices.Contains(strings.Fields(b.log.String()), "fingerprint="+state.Fingerprint.String()) {
		t.Error("the log does not say the fingerprint")
	}
}

func TestBoxThatItsOwnerDoesNotFollowComesBackAsTheirs(t *testing.T) {
	t.Parallel()
	b := unpack(t)
	out, code := b.claimFrom77(b.waiting().Code, "10s")
	if code != 1 || !strings.Contains(out, "it was undone: nobody confirmed it in time") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if out, code = b.cli("--box", "gate", "show"); code != 0 || !strings.Contains(out, "is in SETUP") || !strings.Contains(out, "nobody confirmed it in time") {
		t.Errorf("show: exit %d\n%s", code, out)
	}
	if s := b.waiting(); !s.Claimed {
		t.Error("the claim is gone with the configuration")
	}
	nstest.Exec(t, b.desk, "ip", "addr", "add", "192.168.10.99/24", "dev", "eth0")
	file := filepath.Join(b.dir, "home.yaml")
	if out, code = b.cli("--box", "gate", "apply", "--yes", file); code != 0 || !strings.Contains(out, "The box is at https://192.168.10.1 now, and answers there.") {
		t.Errorf("apply: exit %d\n%s", code, out)
	}
}
