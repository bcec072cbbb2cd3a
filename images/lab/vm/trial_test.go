//go:build linux

package vm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkhead/images/lab"
	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/api"
)

// move is the management zone in one of two places, and its author's workstation.
type move struct {
	*lab.Lab
	t      *testing.T
	author *lab.Client
	cli    string
}

// run has the author make a change, and calls while once the console shows, with why,
// that it is on trial. Lines may be broken anywhere between words.
func (m *move) run(why string, while func(), args ...string) (string, error) {
	m.t.Helper()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := m.author.Output("env", append([]string{"XDG_CONFIG_HOME=" + lab.Home, "XDG_RUNTIME_DIR=", m.cli, "--box", "lab"}, args...)...)
		done <- result{out, err}
	}()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if _, err := m.Box.Await(ctx, regexp.MustCompile(`it:[^a-z]*`+why)); err != nil {
		m.t.Errorf("the console does not show the change: %v", err)
	}
	while()
	r := <-done
	m.t.Logf("bulkhead %s:\n%s%v", strings.Join(args, " "), r.out, r.err)
	return r.out, r.err
}

// to makes the switch, and the workstation, as they must be with the zone in a VLAN.
func (m *move) to(vlan uint16, address string) {
	trunk := vswitch.Mode{Tagged: []uint16{vlan}}
	for _, z := range m.Config.Zones {
		if !z.Admin {
			trunk.Tagged = append(trunk.Tagged, z.VLAN)
		}
	}
	if err := m.BoxPort(m.author.Zone.Port.Name).SetMode(trunk); err != nil {
		m.t.Fatal(err)
	}
	if err := m.HostPort(m.author.Host).SetMode(vswitch.Access(vlan)); err != nil {
		m.t.Fatal(err)
	}
	gateway := address[:strings.LastIndex(address, ".")] + ".1"
	if err := m.author.IP(fmt.Sprintf("addr flush dev eth0\naddr add %s/24 dev eth0\nroute replace default via %s", address, gateway)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *move) status() *api.Status {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	s, err := m.API.Status(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// TestManagementMovesIfItsAuthorFollows moves the management zone to another VLAN and
// subnet over the network. With the switch left as it is, the author cannot follow, and
// the zone comes back by itself; with the switch changed, it stays, until it is undone
// in the same way.
func TestManagementMovesIfItsAuthorFollows(t *testing.T) {
	if world == nil {
		t.Skip("takes a minute: run make test-vm")
	}
	m := &move{Lab: startLab(t), t: t, cli: filepath.Join(world.Dir, "bin", "bulkhead")}
	for _, c := range m.Clients {
		if c.Zone.Admin {
			m.author = c
		}
	}
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(world.Dir, "moved.yaml")
	moved := strings.NewReplacer("192.168.10.", "192.168.11.", "vlan: 10\n", "vlan: 11\n").Replace(string(data))
	if err := os.WriteFile(file, []byte(moved), 0o644); err != nil {
		t.Fatal(err)
	}
	before := m.status().Confirmed.Number

	_, err = m.run("alone", func() {}, "apply", "--yes", "-m", "alone", "--window", "30s", file)
	if err == nil || !strings.Contains(err.Error(), "it was undone: nobody confirmed it in time") {
		t.Fatalf("with the switch unchanged: %v", err)
	}
	s := m.status()
	if s.Confirmed.Number != before || s.Pending != nil || s.Last == nil || s.Last.End != api.EndUnconfirmed {
		t.Errorf("with the switch unchanged: %+v", s)
	}

	home := m.author.Addr.String()
	out, err := m.run("together", func() { m.to(11, "192.168.11.77") }, "apply", "--yes", "-m", "together", file)
	if err != nil || !strings.Contains(out, "The box is at https://192.168.11.1 now, and answers there.") {
		t.Fatalf("with the switch changed: %v\n%s", err, out)
	}
	if out, err := m.author.Output("env", "XDG_CONFIG_HOME="+lab.Home, m.cli, "--box", "lab", "show"); err != nil || !strings.Contains(out, fmt.Sprintf("number %d", before+1)) {
		t.Errorf("after it: %v\n%s", err, out)
	}

	out, err = m.run("undo", func() { m.to(m.author.Zone.VLAN, home) }, "undo", "--yes")
	if err != nil || !strings.Contains(out, "The box is at https://192.168.10.1 now, and answers there.") {
		t.Fatalf("undoing it: %v\n%s", err, out)
	}
	if s := m.status(); s.Confirmed.Number != before+2 || s.Pending != nil {
		t.Errorf("undone: %+v", s)
	}
}
