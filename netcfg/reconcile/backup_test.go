//go:build linux

package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/svcconf"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// tvLease is what the box that is backed up has given to the TV and to a stranger.
var leasesThere = []svcconf.Lease{
	{Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.140"), MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Device: "tv", Granted: begin.Add(-time.Hour), Expires: begin.Add(11 * time.Hour)},
	{Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.141"), MAC: model.MAC{2, 0, 0, 0, 0, 7}, Hostname: "radio", Granted: begin.Add(-time.Hour), Expires: begin.Add(11 * time.Hour)},
}

// trusting is an updated that trusts a key.
type trusting struct{ key manifest.PublicKey }

func (u trusting) Keys(context.Context) (updates.Keys, error) {
	return updates.Keys{Keys: []updates.Key{{ID: u.key.ID(), Key: u.key, Name: "alex@desk"}}}, nil
}

type mute struct{}

func (mute) Keys(context.Context) (updates.Keys, error) {
	return updates.Keys{}, errors.New("it is not there")
}

// lived is a box with a history, secrets, leases, and an owner who can read a backup.
func lived(t *testing.T) (*box, *age.X25519Identity) {
	t.Helper()
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t)
	b.updates = trusting{make(manifest.PublicKey, 32)}
	b.boot()
	b.giveLeases(leasesThere...)
	b.mustSet("account", first)
	b.mustSet("spare", "hunter2-spare")
	if _, err := b.r.AddRecipient(t.Context(), api.NewRecipient{Key: owner.Recipient().String(), Name: "alex"}); err != nil {
		t.Fatal(err)
	}
	b.mustApply(home)
	b.mustApply(named + "# the last word\n")
	if _, err := b.r.Isolate(t.Context(), api.Isolate{Machine: "tv", Author: "alex", Why: "it talks too much"}); err != nil {
		t.Fatal(err)
	}
	return b, owner
}

// opened backs a box up and opens it as its owner does.
func (b *box) opened(owner age.Identity) (archive []byte, in *backup.Backup) {
	b.t.Helper()
	out, err := b.r.Backup(b.t.Context(), api.NewBackup{Author: "alex"})
	if err != nil {
		b.t.Fatal(err)
	}
	archive, err = secrets.Decrypt(out.Data, []age.Identity{owner}, backup.MaxArchive)
	if err != nil {
		b.t.Fatal(err)
	}
	in, err = backup.Decode(archive)
	if err != nil {
		b.t.Fatal(err)
	}
	return archive, in
}

// fresh is a box of other hardware that waits for its owner.
func fresh(t *testing.T) *box {
	b := newBox(t)
	b.setup = true
	b.otherHardware()
	b.boot()
	return b
}

func (b *box) otherHardware() {
	for i := range b.kernel.links {
		b.kernel.links[i].MAC = fmt.Sprintf("52:54:00:99:00:%02x", i+1)
	}
}

// moved is the file of a backup for the hardware of a fresh box: its ports are crossed.
func moved(t *testing.T, in *backup.Backup) string {
	t.Helper()
	mac := func(n byte) model.MAC { return model.MAC{0x52, 0x54, 0, 0x99, 0, n} }
	data, err := conf.MovePorts(in.File, in.Config, map[string]model.MAC{"wan": mac(3), "lan": mac(2), "iot": mac(1)}, begin)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// restore takes a backup over, and reports what became of it.
func (b *box) restore(archive []byte) *api.Restored {
	b.t.Helper()
	out, err := b.r.Restore(b.t.Context(), api.Restore{Data: archive, Author: "kim"})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// tryRestored tries the file of a backup.
func (b *box) tryRestored(file string, changes int) (*api.Trial, error) {
	c := change(file)
	c.Why, c.Restores = "restored", changes
	return b.r.Apply(b.t.Context(), c)
}

func (b *box) numbers() (list []int) {
	b.t.Helper()
	entries, err := b.r.History(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Number)
	}
	slices.Sort(list)
	return list
}

func TestBoxComesBackOnOtherHardware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, owner := lived(t)
		if ports, err := old.r.Ports(t.Context()); err != nil || len(ports) != 3 || ports[0].Use == "" || !ports[0].Uplink || ports[1].Uplink {
			t.Errorf("ports: %+v, %v", ports, err)
		}
		given := old.given()
		archive, in := old.opened(owner)
		old.stop()
		if len(in.LeftOut) > 0 || in.Box != "gw" || in.File != "home.yaml" || len(in.History) != 3 || len(in.Leases) != 2 || len(in.Keys) != 1 || in.Isolated == nil || len(in.Ports) != 3 {
			t.Errorf("the backup is %+v, with %d changes", in.Manifest, len(in.History))
		}

		b := fresh(t)
		defer func() { b.stop() }()
		if ports, err := b.r.Ports(t.Context()); err != nil || len(ports) != 3 || ports[2] != (api.Port{Name: "eth2", MAC: model.MAC{0x52, 0x54, 0, 0x99, 0, 3}}) {
			t.Errorf("ports: %+v, %v", ports, err)
		}
		out := b.restore(archive)
		want := &api.Restored{Secrets: []string{"account", "spare"}, Devices: 1, Isolated: 1, Changes: 3, Notes: []string{"the leases: dhcpd has not taken them within 5s; it does as soon as it can"}}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Errorf("restored differs (-want +got):\n%s", diff)
		}
		var told svcconf.RestoredLeases
		data, err := os.ReadFile(filepath.Join(b.run, svcconf.Dhcpd.Name, svcconf.RestoredFile))
		if err != nil || json.Unmarshal(data, &told) != nil || len(told.Leases) != 2 || told.Leases[1].Hostname != "radio" {
			t.Errorf("dhcpd is told %s, %v", data, err)
		}
		if b.status().Mode != api.Setup {
			t.Error("something is in force before it was tried")
		}

		file := moved(t, in)
		if _, err := b.keep(b.tryRestored(file, out.Changes)); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"at once", "after a restart"} {
			if diff := cmp.Diff([]int{1, 2, 3, 4}, b.numbers()); diff != "" {
				t.Errorf("%s, numbers differ (-want +got):\n%s", when, diff)
			}
			if s := b.status(); s.Name != "gw" || s.Mode != api.Running || len(s.Troubles) > 0 || s.Confirmed.Number != 4 || !slices.Equal(s.Isolated, []string{"tv"}) {
				t.Errorf("%s, status is %+v", when, s)
			}
			if got := b.confirmed(); got != file || !strings.Contains(got, "# the last word") {
				t.Errorf("%s, confirmed is\n%s", when, got)
			}
			if got := b.given(); got != given {
				t.Errorf("%s, devices have %s; they had %s", when, got, given)
			}
			if got, want := b.dnsd(), "9.9.9.9:853 hunter2-first.dns.example, 9.9.9.9:53 "; got != want {
				t.Errorf("%s, dnsd is told %q, want %q", when, got, want)
			}
			b.stop()
			b.boot()
		}

		// Once more is no harm, and says so.
		if out := b.restore(archive); out.Secrets != nil || out.Devices != 0 || out.Isolated != 0 || out.Changes != 0 || len(out.Notes) != 1 {
			t.Errorf("once more: %+v", out)
		}
		// The owner's key went along: the next backup is theirs as well.
		if _, again := b.opened(owner); len(again.History) != 4 {
			t.Errorf("the next backup has %d changes", len(again.History))
		}
	})
}

// TestRestoreThatIsCutOffIsRepeated ends netcfgd after each step of a restore, and takes
// all steps again.
func TestRestoreThatIsCutOffIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, owner := lived(t)
		archive, in := old.opened(owner)
		old.stop()
		file := moved(t, in)
		for step, name := range []string{"taken over", "tried", "undone", "confirmed"} {
			b := fresh(t)
			out := b.restore(archive)
			if step > 0 {
				trial, err := b.tryRestored(file, out.Changes)
				if err != nil {
					t.Fatal(err)
				}
				switch name {
				case "undone":
					if _, err := b.r.Cancel(t.Context(), api.Cancel{}); err != nil {
						t.Fatal(err)
					}
				case "confirmed":
					if err := b.confirm(trial.Token); err != nil {
						t.Fatal(err)
					}
				}
			}
			b.stop()
			b.kernel = newKernel()
			b.otherHardware()
			b.boot()
			if name != "confirmed" {
				if s := b.status(); s.Mode != api.Setup || len(b.numbers()) > 0 {
					t.Errorf("%s: status is %+v, numbers are %v", name, s, b.numbers())
				}
				if _, err := b.tryRestored(file, out.Changes); !errors.Is(err, api.ErrNothing) || !strings.Contains(err.Error(), "restore it once more") {
					t.Errorf("%s: the rest alone: got %v", name, err)
				}
			}
			out = b.restore(archive)
			if _, err := b.keep(b.tryRestored(file, out.Changes)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := []int{1, 2, 3, 4}
			if name == "confirmed" {
				want = append(want, 5) // it was tried once more, although it was in force
			}
			if diff := cmp.Diff(want, b.numbers()); diff != "" || b.confirmed() != file {
				t.Errorf("%s: numbers differ (-want +got):\n%s\nconfirmed is\n%s", name, diff, b.confirmed())
			}
			if s := b.status(); len(s.Troubles) > 0 {
				t.Errorf("%s: trouble: %v", name, s.Troubles)
			}
			b.stop()
		}
	})
}

func TestWhatCannotBeBackedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		b := newBox(t)
		b.updates = mute{}
		b.boot()
		defer func() { b.stop() }()
		ask := func(keys ...string) (*api.Backup, error) {
			return b.r.Backup(t.Context(), api.NewBackup{Recipients: keys})
		}
		if _, err := ask(owner.Recipient().String()); !errors.Is(err, api.ErrNothing) {
			t.Errorf("without a configuration: got %v", err)
		}
		b.mustApply(home)
		if _, err := ask(); !errors.Is(err, api.ErrSecret) || !strings.Contains(err.Error(), "bulkhead secret recipients add KEY NAME") {
			t.Errorf("for nobody: got %v", err)
		}
		if _, err := ask("nonsense"); !errors.Is(err, api.ErrSecret) {
			t.Errorf("for nonsense: got %v", err)
		}
		out, err := ask(owner.Recipient().String())
		if err != nil || len(out.To) != 1 || !slices.ContainsFunc(out.LeftOut, func(s string) bool { return strings.Contains(s, "updated does not tell them") }) {
			t.Errorf("for one key, and without updated: got %+v, %v", out, err)
		}
		// A trial is no reason to wait: what is confirmed is backed up.
		if _, err := b.try(home + "# on trial\n"); err != nil {
			t.Fatal(err)
		}
		out, err = ask(owner.Recipient().String())
		if err != nil {
			t.Fatal(err)
		}
		archive, err := secrets.Decrypt(out.Data, []age.Identity{owner}, backup.MaxArchive)
		if err != nil {
			t.Fatal(err)
		}
		if in, err := backup.Decode(archive); err != nil || string(in.Config) != home {
			t.Errorf("during a trial: got %+v, %v", in, err)
		}
		if _, err := b.r.Restore(t.Context(), api.Restore{Data: archive}); err == nil {
			t.Error("a backup was taken over during a trial")
		}
	})
}

// TestBackupThatIsRefusedLeavesNothing tries backups that are not to be had whole.
func TestBackupThatIsRefusedLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, owner := lived(t)
		archive, in := old.opened(owner)
		old.stop()
		encoded := func(change func(*backup.Backup)) []byte {
			b, err := backup.Decode(archive)
			if err != nil {
				t.Fatal(err)
			}
			change(b)
			data, err := backup.Encode(b)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		b := fresh(t)
		defer func() { b.stop() }()
		for name, data := range map[string][]byte{
			"cut off":      archive[:len(archive)-1000],
			"nothing":      nil,
			"newer":        []byte(strings.Replace(string(archive), `"version": 1`, `"version": 2`, 1)),
			"bad history":  encoded(func(b *backup.Backup) { b.History = []backup.Change{{Number: 1, Data: b.History[1].Data}} }),
			"bad secrets":  encoded(func(b *backup.Backup) { b.Secrets = []byte(`{"secrets":[{"name":"hunter2","value":""}]}`) }),
			"isolated":     encoded(func(b *backup.Backup) { b.Isolated = []byte("hunter2") }),
			"no secrets":   encoded(func(b *backup.Backup) { b.Secrets = []byte("hunter2") }),
			"huge history": encoded(func(b *backup.Backup) { b.History[1].Data = make([]byte, 4<<20) }),
		} {
			if _, err := b.r.Restore(t.Context(), api.Restore{Data: data}); !errors.Is(err, api.ErrSecret) || strings.Contains(err.Error(), plant) {
				t.Errorf("%s: got %v", name, err)
			}
			if s, err := b.r.Secrets(t.Context()); err != nil || len(s.Secrets) > 0 || len(s.Recipients) > 0 {
				t.Errorf("%s: secrets are %+v, %v", name, s, err)
			}
		}

		// Secrets of its own are not lost by accident.
		b.mustSet("account", second)
		if _, err := b.r.Restore(t.Context(), api.Restore{Data: archive}); !errors.Is(err, api.ErrSecret) || !strings.Contains(err.Error(), "--replace-secrets") || strings.Contains(err.Error(), plant) {
			t.Errorf("with another value: got %v", err)
		}
		out, err := b.r.Restore(t.Context(), api.Restore{Data: archive, Replace: true})
		if err != nil || !slices.Equal(out.Secrets, []string{"account", "spare"}) {
			t.Errorf("replacing: got %+v, %v", out, err)
		}
		// Nor is a history.
		b.mustApply(moved(t, in))
		out = b.restore(archive)
		if out.Changes != 0 || !strings.Contains(out.Notes[0], "this box has one of its own") {
			t.Errorf("with a history: got %+v", out)
		}
		// Nor does anybody lock themselves out by what the other box knew of them.
		me := netip.MustParseAddr("192.168.10.9")
		mine := encoded(func(b *backup.Backup) {
			b.Isolated = []byte(`[{"machine": "192.168.10.9", "addresses": ["192.168.10.9"], "since": "2026-11-27T12:00:00Z"}]`)
		})
		out, err = b.r.Restore(t.Context(), api.Restore{Data: mine, Origin: api.Origin{Address: me}})
		if err != nil || out.Isolated != 0 || !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.HasPrefix(s, "who is isolated: ") }) {
			t.Errorf("who isolates themselves: got %+v, %v", out, err)
		}
		if got := b.status().Isolated; !slices.Equal(got, []string{"tv"}) {
			t.Errorf("isolated are %v", got)
		}
	})
}
