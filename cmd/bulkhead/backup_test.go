package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/secrets"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// keeper is that of a box with three ports of hardware of its own.
type keeper struct{ api.Keeper }

// archived is what the box is in a backup.
func archived() (*backup.Backup, error) {
	config, err := os.ReadFile("../../configs/small.yaml")
	return &backup.Backup{
		Manifest: backup.Manifest{Time: today, Box: "gw", File: "home.yaml", Ports: []backup.Port{{Name: "enp1s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 1}}}},
		Config:   config,
		Secrets:  []byte(`{"secrets": [{"name": "dyndns", "value": "hunter2", "set": "2026-11-27T12:00:00Z"}]}`),
		Keys:     []backup.UpdateKey{{Name: "alex@desk", Key: manifest.PublicKey(make([]byte, 32)).String()}},
	}, err
}

func (keeper) Backup(_ context.Context, in api.NewBackup) (*api.Backup, error) {
	if len(in.Recipients) == 0 {
		return nil, api.BadSecret(errors.New("nobody could read it"))
	}
	b, err := archived()
	if err != nil {
		return nil, err
	}
	data, err := backup.Encode(b)
	if err != nil {
		return nil, err
	}
	r, err := secrets.NewRecipient(in.Recipients[0], "alex")
	if err == nil {
		data, err = secrets.Encrypt(data, []secrets.Recipient{r})
	}
	return &api.Backup{Box: "gw", Time: today, Data: data, To: []string{"alex"}, LeftOut: []string{"the leases: dhcpd is away"}}, err
}

func (keeper) Ports(context.Context) ([]api.Port, error) {
	port := func(n byte) api.Port {
		return api.Port{Name: fmt.Sprintf("eth%d", n), MAC: model.MAC{0x52, 0x54, 0, 0x99, 0, n}, Driver: "igc", Carrier: n == 1}
	}
	return []api.Port{port(0), port(1), port(2)}, nil
}

// takesOver is a box that takes a backup over.
type takesOver struct {
	*backend
	taken int
	tried []api.Change
}

func (b *takesOver) Restore(_ context.Context, in api.Restore) (*api.Restored, error) {
	if _, err := backup.Decode(in.Data); err != nil {
		return nil, err
	}
	b.taken++
	return &api.Restored{Secrets: []string{"dyndns"}, Leases: 2, Devices: 1, Changes: 3, Notes: []string{"the weather: nobody keeps it"}}, nil
}

func (b *takesOver) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	b.tried = append(b.tried, c)
	c.Author, c.Why = "kim", "guests" // the ones that the backend takes
	return b.backend.Apply(ctx, c)
}

// at is somebody at a box.
type at struct {
	t      *testing.T
	socket string
	dir    string
	owner  *age.X25519Identity
}

func sitting(t *testing.T, b api.Backend) *at {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := &at{t, serve(t, b), t.TempDir(), owner}
	s.write("key.txt", []byte("# mine\n"+owner.String()+"\n"))
	return s
}

func (s *at) path(name string) string { return filepath.Join(s.dir, name) }

func (s *at) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *at) read(name string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// says runs a command and answers what it asks; without answers, nobody is there.
func (s *at) says(answers string, args ...string) (out string, code int) {
	s.t.Helper()
	var buf bytes.Buffer
	a := &app{in: strings.NewReader(answers), out: &buf, err: &buf, asks: answers != "", now: func() time.Time { return today }, location: time.UTC}
	code = a.run(s.t.Context(), append(args, "--socket", s.socket))
	if strings.Contains(buf.String(), "hunter2") || strings.Contains(buf.String(), s.owner.String()[20:40]) {
		s.t.Errorf("%v tells a secret:\n%s", args, &buf)
	}
	return buf.String(), code
}

// backup writes a backup for the one who sits there.
func (s *at) backup(name string, more ...string) (string, int) {
	s.t.Helper()
	return s.says("", append([]string{"backup", s.path(name), "--recipient", s.owner.Recipient().String()}, more...)...)
}

func TestBackupIsWrittenForItsOwnerAlone(t *testing.T) {
	s := sitting(t, &backend{status: running})
	out, code := s.backup("gw.age")
	if code != 0 || !strings.Contains(out, "gw is backed up in "+s.path("gw.age")) || !strings.Contains(out, "the keys of alex") || !strings.Contains(out, "warning: not in the backup: the leases") {
		t.Errorf("exit %d\n%s", code, out)
	}
	first := s.read("gw.age")
	if info, err := os.Stat(s.path("gw.age")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if bytes.Contains(first, []byte("hunter2")) {
		t.Error("it is not encrypted")
	}
	if out, code = s.backup("gw.age"); code != exitUsage || !strings.Contains(out, "is there already") || !bytes.Equal(s.read("gw.age"), first) {
		t.Errorf("once more: exit %d\n%s", code, out)
	}
	if out, code = s.backup("gw.age", "--force"); code != 0 || bytes.Equal(s.read("gw.age"), first) {
		t.Errorf("with --force: exit %d\n%s", code, out)
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"))
	hidden, err2 := filepath.Glob(filepath.Join(s.dir, ".*"))
	if err := errors.Join(err, err2); err != nil || len(names) != 2 || len(hidden) > 0 {
		t.Errorf("the directory holds %v %v, %v", names, hidden, err)
	}
	if out, code = s.says("", "backup", s.path("none.age")); code != exitProblem || !strings.Contains(out, "nobody could read it") {
		t.Errorf("for nobody: exit %d\n%s", code, out)
	}
	if _, err := os.Stat(s.path("none.age")); err == nil {
		t.Error("a file was written although there is no backup")
	}
	if out, code = s.backup("nowhere/gw.age"); code != exitSystem {
		t.Errorf("into no directory: exit %d\n%s", code, out)
	}
	t.Chdir(s.dir)
	if got := backupName(&api.Backup{Box: "../../etc/x", Time: today}, time.UTC); got != "bulkhead-"+today.Format(time.DateOnly)+".backup.age" {
		t.Errorf("a box with a strange name is backed up in %s", got)
	}
}

// TestBackupThatCannotBeRestoredChangesNothing has the box asked for nothing.
func TestBackupThatCannotBeRestoredChangesNothing(t *testing.T) {
	box := &takesOver{backend: &backend{status: running}}
	s := sitting(t, box)
	if out, code := s.backup("gw.age"); code != 0 {
		t.Fatal(out)
	}
	whole := s.read("gw.age")
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(archive []byte) []byte {
		r, err := secrets.NewRecipient(s.owner.Recipient().String(), "alex")
		if err != nil {
			t.Fatal(err)
		}
		data, err := secrets.Encrypt(archive, []secrets.Recipient{r})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	archive := func(change func(*backup.Backup)) []byte {
		b, err := archived()
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
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	s.write("stranger.txt", []byte(stranger.String()))
	s.write("public.txt", []byte(s.owner.Recipient().String()))
	for name, tt := range map[string]struct {
		file []byte
		key  string
		want string // what is wrong, and what to do
	}{
		"another key":    {whole, "stranger.txt", "it is not encrypted to that key\n\thint: "},
		"the public key": {whole, "public.txt", "there is no private key of age's or SSH's in it\n\thint: "},
		"cut off":        {whole[:len(whole)-1], "key.txt", "it is damaged, or cut off"},
		"half":           {whole[:100], "key.txt", "it is damaged, or cut off"},
		"flipped":        {flipped, "key.txt", "it is damaged, or cut off"},
		"nothing":        {nil, "key.txt", "it is not encrypted with age, or its beginning is damaged\n\thint: use another copy"},
		"too much":       {sealed(make([]byte, backup.MaxArchive+1)), "key.txt", "it holds more than it may"},
		"zeros":          {sealed(make([]byte, 4096)), "key.txt", "that is no backup, or it is damaged"},
		"newer":          {sealed(bytes.Replace(archive(func(*backup.Backup) {}), []byte(`"version": 1`), []byte(`"version": 2`), 1)), "key.txt", "made by a newer Bulkhead"},
		"bad secrets":    {sealed(archive(func(b *backup.Backup) { b.Secrets = []byte(`["hunter2"]`) })), "key.txt", "its secrets: its content makes no sense"},
		"bad file":       {sealed(archive(func(b *backup.Backup) { b.Config = []byte("zones: {}\n") })), "key.txt", "home.yaml:1:"},
	} {
		s.write("bad.age", tt.file)
		out, code := s.says("", "restore", s.path("bad.age"), "-i", s.path(tt.key), "--yes")
		if code != exitProblem || !strings.Contains(out, tt.want) || !strings.Contains(out, "hint: ") {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
	for name, args := range map[string][]string{
		"nobody agrees":     {},
		"ports are open":    {"--yes"},
		"a port twice":      {"--yes", "--port", "wan=eth0", "--port", "home=eth0", "--port", "guest=none"},
		"said twice":        {"--yes", "--port", "wan=eth0", "--port", "wan=eth1"},
		"no such port":      {"--yes", "--port", "wan=eth7", "--port", "home=eth1", "--port", "guest=none"},
		"no such name":      {"--yes", "--port", "attic=eth0"},
		"no port":           {"--yes", "--port", "wan"},
		"insists from afar": {"--yes", "--accept-lockout"},
	} {
		out, code := s.says("", append([]string{"restore", s.path("gw.age"), "-i", s.path("key.txt")}, args...)...)
		if code != exitUsage {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
	if out, code := s.says("no\n", "restore", s.path("gw.age"), "-i", s.path("key.txt"), "--port", "wan=eth0", "--port", "home=eth1", "--port", "guest=none"); code != exitProblem || !strings.Contains(out, "nothing was restored") {
		t.Errorf("who says no: exit %d\n%s", code, out)
	}
	if box.taken != 0 || box.tried != nil {
		t.Errorf("the box took %d backups over, and %d files were tried", box.taken, len(box.tried))
	}
}

func TestOwnerSaysWhichPortIsWhich(t *testing.T) {
	for name, tt := range map[string]struct {
		answers string
		flags   []string
	}{
		"asked":   {"\neth9\neth2\neth2\n52:54:00:99:00:01\neth0\ny\ny\n", nil},
		"by hand": {"y\ny\n", []string{"--port", "wan=eth2", "--port", "home=52:54:00:99:00:01", "--port", "guest=eth0"}},
		"both":    {"eth2\ny\ny\n", []string{"--port", "home=eth1", "--port", "guest=eth0"}},
		"script":  {"", []string{"--yes", "--json", "--port", "wan=eth2", "--port", "home=eth1", "--port", "guest=eth0"}},
	} {
		box := &takesOver{backend: &backend{status: running}}
		s := sitting(t, box)
		if out, code := s.backup("gw.age"); code != 0 {
			t.Fatal(out)
		}
		out, code := s.says(tt.answers, append([]string{"restore", s.path("gw.age"), "-i", s.path("key.txt")}, tt.flags...)...)
		if code != 0 || len(box.tried) != 1 || box.taken != 1 {
			t.Errorf("%s: exit %d, %d files were tried, %d backups taken\n%s", name, code, len(box.tried), box.taken, out)
			continue
		}
		want, err := archived()
		if err != nil {
			t.Fatal(err)
		}
		config := strings.NewReplacer("52:54:00:10:00:01", "52:54:00:99:00:02", "52:54:00:10:00:02", "52:54:00:99:00:01", "52:54:00:10:00:03", "52:54:00:99:00:00").Replace(string(want.Config))
		if diff := cmp.Diff(config, string(box.tried[0].File.Data)); diff != "" {
			t.Errorf("%s: the file differs (-want +got):\n%s", name, diff)
		}
		if c := box.tried[0]; c.Restores != 3 || c.File.Name != "home.yaml" || c.Window != api.Window(firstWindow) {
			t.Errorf("%s: tried %+v", name, c)
		}
		said := []string{"Backup of gw of ", "dyndns", "On the box: 1 secret, 2 leases, the addresses of 1 device", "Not restored: the weather", "is confirmed", "gw is restored. Tokens are not in a backup"}
		if name == "script" {
			var v restored
			if err := json.Unmarshal([]byte(out[:strings.LastIndex(out, "}")+1]), &v); err != nil && !strings.Contains(out, `"confirmed": true`) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			continue
		}
		if name == "asked" {
			said = append(said, "igc", `the box has no port "eth9"`, "port eth2 is wan already", "It was enp1s0, 52:54:00:10:00:01 on gw.")
		}
		for _, s := range said {
			if !strings.Contains(out, s) {
				t.Errorf("%s: nothing says %q:\n%s", name, s, out)
			}
		}
	}
}

func TestBackupIsShownWithoutABox(t *testing.T) {
	s := sitting(t, &backend{status: running})
	if out, code := s.backup("gw.age"); code != 0 {
		t.Fatal(out)
	}
	s.socket = s.path("no-socket")
	if out, code := s.says("", "restore", s.path("gw.age"), "-i", s.path("key.txt"), "--show"); code != 0 || !strings.Contains(out, "secrets") || !strings.Contains(out, "dyndns") || !strings.Contains(out, "alex@desk") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, code := s.says("", "restore", s.path("gw.age"), "-i", s.path("key.txt"), "--show", "--json")
	var v inBackup
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || !strings.Contains(v.Config, "zones:") {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
}

// signingBox is an updated as it judges keys.
type signingBox struct {
	updates.Caller
	trusted []updates.Key
}

func (b *signingBox) Call(_ context.Context, method, path string, in, out any) error {
	if method == "GET" && path == "/v1/keys" {
		*out.(*updates.Keys) = updates.Keys{Keys: b.trusted, Nonce: fmt.Sprint(len(b.trusted))}
		return nil
	}
	k := in.(updates.AddKey)
	if len(b.trusted) > 0 {
		if k.Signature == nil {
			return errors.New("one that it trusts must sign for another")
		}
		var keys []manifest.PublicKey
		for _, t := range b.trusted {
			keys = append(keys, t.Key)
		}
		c := manifest.KeyChange{Nonce: fmt.Sprint(len(b.trusted)), Key: k.Key, Name: k.Name}
		if err := manifest.VerifyKeys(c, *k.Signature, keys); err != nil {
			return err
		}
	}
	b.trusted = append(b.trusted, updates.Key{ID: k.Key.ID(), Key: k.Key, Name: k.Name})
	return nil
}

// TestSigningKeysAreTrustedByTheBoxsOwnRules restores keys onto boxes that trust none,
// one's own, and somebody else's.
func TestSigningKeysAreTrustedByTheBoxsOwnRules(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	own, _, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	public := func(n byte) manifest.PublicKey { return bytes.Repeat([]byte{n}, 32) }
	b := &opened{Backup: &backup.Backup{Keys: []backup.UpdateKey{{Name: "kim", Key: public(1).String()}, {Name: "alex", Key: own.Public().String()}, {Name: "odd", Key: "nonsense"}}}}
	for name, tt := range map[string]struct {
		trusted []updates.Key
		want    string // that the box trusts then
		warns   int
	}{
		"none":            {nil, "alex kim", 1},
		"one's own":       {[]updates.Key{{ID: own.Public().ID(), Key: own.Public(), Name: "me"}}, "me kim", 1},
		"somebody else's": {[]updates.Key{{ID: public(9).ID(), Key: public(9), Name: "other"}}, "other", 3},
	} {
		box := &signingBox{trusted: tt.trusted}
		var out, warnings bytes.Buffer
		a := &app{out: &out, err: &warnings}
		a.restoreKeys(t.Context(), &updates.Client{Caller: box}, b)
		var names []string
		for _, k := range box.trusted {
			names = append(names, k.Name)
		}
		if got := strings.Join(names, " "); got != tt.want || strings.Count(warnings.String(), "bulkhead keys add") != tt.warns {
			t.Errorf("%s: the box trusts %s\n%s%s", name, got, &out, &warnings)
		}
	}
}
