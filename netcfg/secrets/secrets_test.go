package secrets_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"bulkhead/netcfg/secrets"
)

var begin = time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)

// shelf is a store with its directories and a clock.
type shelf struct {
	*secrets.Store
	state, private string
	now            time.Time
	log            bytes.Buffer
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{state: t.TempDir(), private: t.TempDir(), now: begin}
	s.open()
	return s
}

// open is a restart.
func (s *shelf) open() {
	s.Store = secrets.Open(s.state, s.private, slog.New(slog.NewTextHandler(&s.log, nil)), func() time.Time { return s.now })
}

func (s *shelf) file() string { return filepath.Join(s.state, secrets.File) }

func (s *shelf) reveal(t *testing.T, name string) string {
	t.Helper()
	v, err := s.Value(name)
	if err != nil {
		t.Fatal(err)
	}
	return v.Reveal()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecretsOutliveARestart(t *testing.T) {
	s := newShelf(t)
	if _, err := s.Value("dyndns"); !errors.Is(err, secrets.ErrNotSet) {
		t.Errorf("an empty store: got %v", err)
	}
	if entries, _ := os.ReadDir(s.private); len(entries) > 0 {
		t.Error("a key was made that nothing needs")
	}
	must(t, s.Add("dyndns", "first value", "alex"))
	must(t, s.Add("camera", "two\nlines\n", "kim"))
	s.now = begin.Add(48 * time.Hour)
	must(t, s.Rotate("dyndns", "second value", "kim"))
	s.open()

	want := []secrets.Secret{
		{Name: "camera", Set: begin, By: "kim"},
		{Name: "dyndns", Set: begin, Rotated: begin.Add(48 * time.Hour), By: "kim"},
	}
	if diff := cmp.Diff(want, s.List()); diff != "" {
		t.Errorf("list differs (-want +got):\n%s", diff)
	}
	if got := s.reveal(t, "dyndns"); got != "second value" {
		t.Errorf("dyndns is %q", got)
	}
	must(t, s.Remove("camera"))
	s.open()
	if _, err := s.Value("camera"); !errors.Is(err, secrets.ErrNotSet) {
		t.Errorf("a secret that was removed: got %v", err)
	}
	for _, path := range []string{s.file(), filepath.Join(s.private, secrets.KeyFile)} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
}

func TestWhatCannotBeIsRefusedAndNothingChanges(t *testing.T) {
	s := newShelf(t)
	must(t, s.Add("dyndns", "hunter2-value", "alex"))
	before, err := os.ReadFile(s.file())
	must(t, err)
	tests := []struct {
		name string
		do   func() error
		want error
	}{
		{"set twice", func() error { return s.Add("dyndns", "hunter2-other", "") }, secrets.ErrSet},
		{"bad name", func() error { return s.Add("../dyndns", "hunter2-other", "") }, secrets.ErrBad},
		{"empty", func() error { return s.Add("camera", " \n", "") }, secrets.ErrBad},
		{"too large", func() error { return s.Add("camera", strings.Repeat("x", secrets.MaxValue+1), "") }, secrets.ErrBad},
		{"not text", func() error { return s.Add("camera", "hunter2\xff", "") }, secrets.ErrBad},
		{"rotate nothing", func() error { return s.Rotate("camera", "hunter2-other", "") }, secrets.ErrNotSet},
		{"rotate to the same", func() error { return s.Rotate("dyndns", "hunter2-value", "") }, secrets.ErrBad},
		{"remove nothing", func() error { return s.Remove("camera") }, secrets.ErrNotSet},
		{"private key", func() error { _, err := s.AddRecipient("AGE-SECRET-KEY-1HUNTER2", "alex", ""); return err }, secrets.ErrBadRecipient},
		{"no key", func() error { _, err := s.AddRecipient("hunter2", "alex", ""); return err }, secrets.ErrBadRecipient},
		{"broken key", func() error { _, err := s.AddRecipient("age1hunter2", "alex", ""); return err }, secrets.ErrBadRecipient},
		{"ECDSA", func() error { _, err := s.AddRecipient("ssh-dss AAAAhunter2", "alex", ""); return err }, secrets.ErrBadRecipient},
		{"no recipient", func() error { return s.RemoveRecipient("00000000") }, secrets.ErrNoRecipient},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do()
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if strings.Contains(strings.ToLower(err.Error()), "hunter2") {
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
	after, err := os.ReadFile(s.file())
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file was written")
	}
}

func TestStoreIsBounded(t *testing.T) {
	s := newShelf(t)
	for i := range secrets.MaxSecrets {
		must(t, s.Add(fmt.Sprintf("s%d", i), "x", ""))
	}
	if err := s.Add("one-more", "x", ""); !errors.Is(err, secrets.ErrBad) {
		t.Errorf("one more: got %v", err)
	}
	// JSON makes six bytes of each of these.
	large := strings.Repeat("\x01", secrets.MaxValue)
	n, err := 0, error(nil)
	for ; err == nil && n < secrets.MaxSecrets; n++ {
		err = s.Rotate(fmt.Sprintf("s%d", n), large, "")
	}
	if !errors.Is(err, secrets.ErrBad) || n < 10 {
		t.Errorf("the largest ones: got %v at the %dth", err, n)
	}
	s.open()
	if err := s.Lost(); err != nil {
		t.Errorf("what was taken cannot be read: %v", err)
	}
}

func TestOwnerReadsTheFileElsewhere(t *testing.T) {
	own, err := age.GenerateX25519Identity()
	must(t, err)
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	sshOwn, err := agessh.ParseIdentity(pem.EncodeToMemory(block))
	must(t, err)
	sshPublic, err := ssh.NewPublicKey(public)
	must(t, err)

	s := newShelf(t)
	must(t, s.Add("dyndns", "the value", "alex"))
	reads := func(id age.Identity) bool {
		data, err := os.ReadFile(s.file())
		must(t, err)
		r, err := age.Decrypt(bytes.NewReader(data), id)
		if err != nil {
			return false
		}
		plain, err := io.ReadAll(r)
		must(t, err)
		return bytes.Contains(plain, []byte("the value"))
	}
	if reads(own) {
		t.Fatal("somebody reads the file who is no recipient")
	}
	r, err := s.AddRecipient(own.Recipient().String()+"\n", "alex's safe", "alex")
	must(t, err)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPublic))) + " kim@laptop"
	_, err = s.AddRecipient(line, "kim", "alex")
	must(t, err)
	if !reads(own) || !reads(sshOwn) {
		t.Error("a recipient cannot read the file")
	}
	if _, err := s.AddRecipient(own.Recipient().String(), "again", ""); !errors.Is(err, secrets.ErrBadRecipient) {
		t.Errorf("the same recipient again: got %v", err)
	}
	must(t, s.RemoveRecipient(r.ID))
	if reads(own) || !reads(sshOwn) {
		t.Error("the wrong recipient was removed")
	}
	s.open()
	if got := s.Recipients(); len(got) != 1 || got[0].Name != "kim" || strings.Contains(got[0].Key, "laptop") {
		t.Errorf("after a restart the recipients are %v", got)
	}
	if got := s.reveal(t, "dyndns"); got != "the value" {
		t.Errorf("the box reads %q", got)
	}
}

func TestValueDoesNotPrintItself(t *testing.T) {
	s := newShelf(t)
	must(t, s.Add("dyndns", "hunter2", "alex"))
	v, err := s.Value("dyndns")
	must(t, err)
	var out bytes.Buffer
	nested := struct{ V any }{map[string]any{"k": []secrets.Value{v}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", v, &v)
		fmt.Fprintf(&out, verb+"\n", nested)
	}
	must(t, json.NewEncoder(&out).Encode(nested))
	slog.New(slog.NewTextHandler(&out, nil)).Info("said", "value", v, "nested", nested, "list", []secrets.Value{v})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("said", "value", v, "nested", nested)
	fmt.Fprintln(&out, fmt.Errorf("use %v: %w", v, io.EOF))
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the value is in there as %s:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "secret dyndns") {
		t.Errorf("nothing says which secret it is:\n%s", out.String())
	}
}

// TestLostSecrets damages the files in every way that matters: the box says so, takes
// nothing from them, leaves them alone until its owner begins anew, and keeps them then.
func TestLostSecrets(t *testing.T) {
	tests := map[string]func(t *testing.T, s *shelf){
		"cut short": func(t *testing.T, s *shelf) { must(t, os.Truncate(s.file(), 250)) },
		"empty":     func(t *testing.T, s *shelf) { must(t, os.Truncate(s.file(), 0)) },
		"one bit": func(t *testing.T, s *shelf) {
			data, err := os.ReadFile(s.file())
			must(t, err)
			data[len(data)-20] ^= 1
			must(t, os.WriteFile(s.file(), data, 0o600))
		},
		"a directory": func(t *testing.T, s *shelf) {
			must(t, os.Remove(s.file()))
			must(t, os.Mkdir(s.file(), 0o700))
		},
		"no key": func(t *testing.T, s *shelf) { must(t, os.Remove(filepath.Join(s.private, secrets.KeyFile))) },
		"a damaged key": func(t *testing.T, s *shelf) {
			must(t, os.WriteFile(filepath.Join(s.private, secrets.KeyFile), []byte("AGE-SECRET-KEY-1HUNTER2\n"), 0o600))
		},
		"another box's key": func(t *testing.T, s *shelf) {
			k, err := age.GenerateX25519Identity()
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.private, secrets.KeyFile), []byte(k.String()), 0o600))
		},
		"nonsense inside": func(t *testing.T, s *shelf) {
			key, err := os.ReadFile(filepath.Join(s.private, secrets.KeyFile))
			must(t, err)
			id, err := age.ParseX25519Identity(strings.TrimSpace(string(key)))
			must(t, err)
			var out bytes.Buffer
			w, err := age.Encrypt(&out, id.Recipient())
			must(t, err)
			_, err = io.WriteString(w, `{"secrets": [{"name": "hunter2"}]}`)
			must(t, err)
			must(t, w.Close())
			must(t, os.WriteFile(s.file(), out.Bytes(), 0o600))
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			must(t, s.Add("dyndns", "hunter2", "alex"))
			damage(t, s)
			was, _ := os.ReadFile(s.file())
			s.open()
			if _, err := s.Value("dyndns"); !errors.Is(err, secrets.ErrLost) || !errors.Is(s.Lost(), secrets.ErrLost) {
				t.Errorf("got %v, and lost: %v", err, s.Lost())
			}
			if err := s.Rotate("dyndns", "other", ""); !errors.Is(err, secrets.ErrLost) {
				t.Errorf("rotate what is lost: got %v", err)
			}
			if err := s.Add("BAD NAME", "other", ""); !errors.Is(err, secrets.ErrBad) {
				t.Errorf("a bad request: got %v", err)
			}
			if got, _ := os.ReadFile(s.file()); !bytes.Equal(got, was) {
				t.Error("the file was touched")
			}
			must(t, s.Add("dyndns", "a new value", "alex"))
			if s.Lost() != nil {
				t.Errorf("still lost: %v", s.Lost())
			}
			if got, _ := os.ReadFile(s.file() + ".lost-1"); !bytes.Equal(got, was) {
				t.Error("the lost file was not kept")
			}
			s.open()
			if got := s.reveal(t, "dyndns"); got != "a new value" {
				t.Errorf("got %q", got)
			}
			if log := s.log.String(); strings.Contains(strings.ToLower(log), "hunter2") || !strings.Contains(log, "the secrets are lost") {
				t.Errorf("the log says:\n%s", log)
			}
		})
	}
}

func TestUnfinishedFilesAreSwept(t *testing.T) {
	s := newShelf(t)
	left := filepath.Join(s.state, "."+secrets.File+"123456")
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	s.open()
	if _, err := os.Stat(left); err == nil {
		t.Error("a half-written file is still there")
	}
}

func TestDiskThatTakesNothingChangesNothing(t *testing.T) {
	s := newShelf(t)
	must(t, s.Add("dyndns", "first", "alex"))
	must(t, os.RemoveAll(s.state)) // nothing can be written there, not even by root
	if err := s.Rotate("dyndns", "second", "alex"); err == nil {
		t.Fatal("no error")
	}
	if got := s.reveal(t, "dyndns"); got != "first" {
		t.Errorf("the value is %q, which is not on disk", got)
	}
}

func TestOldSecretsAreTold(t *testing.T) {
	s := secrets.Secret{Set: begin}
	if s.Old(begin.Add(secrets.RemindAfter - time.Second)) {
		t.Error("too early")
	}
	if !s.Old(begin.Add(secrets.RemindAfter)) {
		t.Error("too late")
	}
	s.Rotated = begin.Add(time.Hour)
	if s.Old(begin.Add(secrets.RemindAfter)) {
		t.Error("the value is newer")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"secrets": [{"name": "a", "set": "2026-11-27T08:00:00Z", "value": "v"}], "recipients": []}`))
	f.Add([]byte(`{"recipients": [{"id": "00000000", "key": "age1", "name": "n"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := secrets.Decode(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		must(t, err)
		d, err := secrets.Decode(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(c.Recipients, d.Recipients); diff != "" || len(c.Secrets) != len(d.Secrets) {
			t.Errorf("another content came back: %s", diff)
		}
	})
}

func FuzzRecipient(f *testing.F) {
	f.Add("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "alex")
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIdKJDTNMZ7vV0PzdeSvUVlDBHw3LUlmR3gQJ4nLJ9NG x", "kim")
	f.Fuzz(func(t *testing.T, key, name string) {
		r, err := secrets.NewRecipient(key, name)
		if err != nil {
			return
		}
		if again, err := secrets.NewRecipient(r.Key, r.Name); err != nil || again != r {
			t.Errorf("%v becomes %v, %v", r, again, err)
		}
	})
}
