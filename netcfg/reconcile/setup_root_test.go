//go:build linux

package reconcile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
)

// start starts a program in a namespace; the test ends it.
func start(t *testing.T, ns int, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	nstest.Run(t, ns, func() {
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// TestSetupMeetsRealNetworks plugs a box without a configuration into a network that
// has a DHCP server, then a computer into another port, and takes that away again.
func TestSetupMeetsRealNetworks(t *testing.T) {
	l := newLab(t) // the office is the computer, the gadgets' room the other network
	for _, ns := range []int{l.office, l.gadgets} {
		nstest.Exec(t, ns, "ip", "addr", "flush", "dev", "eth0")
		nstest.Exec(t, ns, "ip", "link", "set", "eth0", "down") // at the other end: no carrier
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "state", "dhcpd"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.startAs("netcfgd -setup")
	for _, name := range []string{"wand", "dhcpd"} {
		d := l.spawn(name)
		t.Cleanup(func() { _ = d.Process.Kill(); _ = d.Wait() })
	}
	reason := func(text string) {
		t.Helper()
		l.eventually(text, func() bool {
			s := l.status()
			return s.Mode == api.Setup && strings.Contains(s.Reason, text)
		})
	}
	reason("plug a cable into one of its ports: iot, lan")

	nstest.Exec(t, l.gadgets, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
	nstest.Exec(t, l.gadgets, "ip", "link", "set", "eth0", "up")
	start(t, l.gadgets, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping", "--user=root",
		"--leasefile-ro", "--interface=eth0", "--dhcp-range=192.0.2.100,192.0.2.200,2m", "--dhcp-authoritative", "--pid-file=")
	reason("port iot leads to a network with a DHCP server of its own (192.0.2.1)")

	plugged := time.Now()
	nstest.Exec(t, l.office, "ip", "link", "set", "eth0", "up")
	reason("looking whether another DHCP server is on port lan")
	t.Logf("a cable was seen after %v", time.Since(plugged).Round(time.Millisecond))
	reason("on a computer at port lan, run: bulkhead claim 192.168.77.1")
	script := filepath.Join(l.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ $1 = bound ] && ip addr replace $ip/24 dev $interface\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, l.office, "udhcpc", "-f", "-i", "eth0", "-s", script, "-T", "1", "-t", "30")
	l.eventually("the computer has an address", func() bool {
		return strings.Contains(nstest.Exec(t, l.office, "ip", "-4", "addr", "show", "dev", "eth0"), "inet 192.168.77.1")
	})
	if l.forwarding() != "0" {
		t.Error("the box forwards")
	}

	nstest.Exec(t, l.office, "ip", "link", "set", "eth0", "down")
	reason("port iot leads to a network with a DHCP server of its own")
	if s := l.status(); len(s.Troubles) > 0 {
		t.Errorf("troubles %q", s.Troubles)
	}
}
