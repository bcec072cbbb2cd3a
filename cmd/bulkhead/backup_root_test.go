//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
)

// leases are what dhcpd tells of its leases.
func (b *newBox) leases() (list []svcconf.Lease) {
	data, err := os.ReadFile(filepath.Join(b.dir, "run", svcconf.Dhcpd.Name, svcconf.LeasesFile))
	var v svcconf.Leases
	if err != nil || json.Unmarshal(data, &v) != nil {
		return nil
	}
	return v.Leases
}

// mustCLI runs bulkhead at the desk, and returns what it says.
func (b *newBox) mustCLI(args ...string) string {
	b.t.Helper()
	out, code := b.cli(args...)
	if code != 0 {
		b.t.Fatalf("bulkhead %v: exit %d\n%s", args, code, out)
	}
	return out
}

// TestDeadBoxComesBackOnOtherHardware backs up a box of the real programs, with a
// history, a secret and a lease, and restores it onto one with other ports, twice. What
// is said and written on the way holds no secret.
func TestDeadBoxComesBackOnOtherHardware(t *testing.T) {
	t.Parallel() // most of it is waiting
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	old := unpack(t)
	key := filepath.Join(old.dir, "key.txt")
	if err := os.WriteFile(key, []byte(owner.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old.start("dnsd")
	old.start("dhcpd")
	home, named := filepath.Join(old.dir, "home.yaml"), filepath.Join(old.dir, "named.yaml")
	if err := os.WriteFile(named, []byte(firstFile+"resolvers: [{secret: account}]  # whom we ask\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	said = append(said,
		old.mustCLI("claim", "192.168.77.1", "--code", old.waiting().Code, "--yes", home),
		old.typed(plants[0]+"\n", "--box", "gw", "secret", "set", "account"),
		old.mustCLI("--box", "gw", "apply", "--yes", named))
	saved := filepath.Join(old.dir, "gw.age")
	if out, code := old.cli("--box", "gw", "backup", saved); code != exitProblem || !strings.Contains(out, "bulkhead secret recipients add KEY NAME") {
		t.Errorf("a backup for nobody: exit %d\n%s", code, out)
	}
	old.mustCLI("--box", "gw", "secret", "recipients", "add", owner.Recipient().String(), "alex")
	// A lease, as dhcpd takes it from whom it believes.
	lease := svcconf.Lease{Zone: "gadgets", MAC: model.MAC{2, 0, 0, 0, 0, 7}, Hostname: "radio", Granted: time.Now().Add(-time.Hour).Truncate(time.Second), Expires: time.Now().Add(5 * time.Hour).Truncate(time.Second)}
	lease.Address = netip.MustParseAddr("192.168.40.177")
	data, err := json.Marshal(svcconf.RestoredLeases{ID: "seed", Leases: []svcconf.Lease{lease}})
	if err == nil {
		err = file.Replace(filepath.Join(old.dir, "run", svcconf.Dhcpd.Name, svcconf.RestoredFile), data, 0o640, svcconf.Dhcpd.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	old.until("the old box has a lease", func() bool { return len(old.leases()) == 1 })
	said = append(said, old.mustCLI("--box", "gw", "backup", saved))
	if sealed, err := os.ReadFile(saved); err != nil || !bytes.HasPrefix(sealed, []byte("age-encryption.org/v1\n-> X25519 ")) {
		t.Errorf("the backup begins with %.40q, %v", sealed, err)
	}

	b := unpack(t)
	for i, link := range []string{"lan", "iot"} {
		nstest.Exec(t, b.gw, "ip", "link", "set", link, "address", fmt.Sprintf("52:54:00:99:00:%02x", i))
	}
	dhcpd := b.start("dhcpd")
	b.start("dnsd")
	said = append(said, b.mustCLI("claim", "192.168.77.1", "--code", b.waiting().Code, "--name", "spare"))
	restore := []string{"--box", "spare", "restore", saved, "-i", key, "--yes"}
	out, code := b.cli(restore...)
	if said = append(said, out); code != exitUsage || !strings.Contains(out, "say which ports lan, iot are") || !strings.Contains(out, "52:54:00:99:00:00, with a cable") {
		t.Errorf("ports are not known: exit %d\n%s", code, out)
	}
	restore = append(restore, "--port", "lan=lan", "--port", "iot=52:54:00:99:00:01")
	said = append(said, b.cutShort(restore))
	out, code = b.cli(restore...)
	if said = append(said, out); code != 0 || !strings.Contains(out, "On the box: 1 lease") || !strings.Contains(out, "The box is at https://192.168.10.1 now") || !strings.Contains(out, "gw is restored") {
		t.Fatalf("restore: exit %d\n%s", code, out)
	}
	t.Logf("restore said:\n%s", out)
	b.checkRestored("restored", lease)

	// dhcpd keeps the lease by itself from now on, whatever happens to it.
	if err := dhcpd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dhcpd.Wait()
	_ = os.Remove(filepath.Join(b.dir, "run", svcconf.Dhcpd.Name, svcconf.LeasesFile))
	b.start("dhcpd")
	b.checkRestored("after dhcpd was killed", lease)

	out, code = b.cli(restore...)
	if said = append(said, out); code != 0 || !strings.Contains(out, "home.yaml is in force already") && !strings.Contains(out, "named.yaml is in force already") {
		t.Errorf("once more: exit %d\n%s", code, out)
	}
	b.checkRestored("restored twice", lease)
	for _, box := range []*newBox{old, b} {
		box.hidden("what was said", []byte(strings.Join(said, "\n")))
		box.hidden("the log", []byte(box.log.String()))
	}
}

// cutShort kills netcfgd as soon as it has taken a backup over, and starts it again.
func (b *newBox) cutShort(restore []string) string {
	b.t.Helper()
	again := make(chan struct{})
	go func() {
		defer close(again)
		for !strings.Contains(b.log.String(), "backup taken over") && b.t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		_ = b.netcfgd.Process.Kill() // it is there: unpack has started it
		_ = b.netcfgd.Wait()
		b.netcfgd = b.start("netcfgd", "-setup")
	}()
	out, code := b.cli(restore...)
	<-again
	if code == 0 {
		b.t.Errorf("what was cut short is said to be restored:\n%s", out)
	}
	b.t.Logf("cut short, restore said:\n%s", out)
	// A netcfgd that begins in setup answers where it was for a moment, looks for other DHCP
	// servers then, and comes back.
	b.until("the box has come back", func() bool { return strings.Count(b.log.String(), "run: bulkhead claim") > 1 })
	var history string
	b.until("the box is there again", func() bool {
		history, code = b.cli("--box", "spare", "history")
		return code == 0
	})
	if strings.Contains(history, "restored from a backup") {
		b.t.Errorf("it was confirmed all the same:\n%s", history)
	}
	return out
}

// checkRestored looks at the history, the file and the lease of the box.
func (b *newBox) checkRestored(when string, lease svcconf.Lease) {
	b.t.Helper()
	history := b.mustCLI("--box", "spare", "history", "--json")
	var entries []struct {
		Number int    `json:"number"`
		Why    string `json:"why"`
	}
	if err := json.Unmarshal([]byte(history), &entries); err != nil || len(entries) != 3 || entries[0].Number != 3 || entries[0].Why != "restored from a backup" {
		b.t.Errorf("%s: %v; the history is\n%s", when, err, history)
	}
	file := b.mustCLI("--box", "spare", "history", "show", "3")
	if !strings.Contains(file, `lan: {mac: "52:54:00:99:00:00"}`) || !strings.Contains(file, "# whom we ask") {
		b.t.Errorf("%s: the file is\n%s", when, file)
	}
	if out := b.mustCLI("--box", "spare", "show"); !strings.Contains(out, "gw is running") || strings.Contains(out, "damage") {
		b.t.Errorf("%s: show says\n%s", when, out)
	}
	b.until(when+": the lease is there", func() bool {
		list := b.leases()
		return len(list) == 1 && list[0].Address == lease.Address && list[0].MAC == lease.MAC && list[0].Hostname == "radio" && list[0].Expires.Sub(lease.Expires).Abs() <= 5*time.Second
	})
}
