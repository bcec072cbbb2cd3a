package secrets_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"bulkhead/netcfg/secrets"
)

func TestSecretsMoveToAnotherBoxAsTheyAre(t *testing.T) {
	owner, err := age.GenerateX25519Identity()
	must(t, err)
	old, fresh := newShelf(t), newShelf(t)
	must(t, old.Add("dyndns", "hunter2", "alex"))
	must(t, old.Add("camera", "hunter3", "kim"))
	_, err = old.AddRecipient(owner.Recipient().String(), "alex", "alex")
	must(t, err)
	data, err := old.Export()
	must(t, err)
	if e, err := secrets.Inspect(data); err != nil || len(e.Secrets) != 2 || len(e.Recipients) != 1 {
		t.Errorf("inspect: got %+v, %v", e, err)
	}

	fresh.now = begin.Add(48 * time.Hour)
	taken, err := fresh.Import(data, false)
	must(t, err)
	if diff := cmp.Diff([]string{"camera", "dyndns"}, taken); diff != "" {
		t.Errorf("taken differs (-want +got):\n%s", diff)
	}
	fresh.open()
	if diff := cmp.Diff(old.List(), fresh.List()); diff != "" {
		t.Errorf("the secrets differ, their ages included (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(old.Recipients(), fresh.Recipients()); diff != "" {
		t.Errorf("recipients differ (-want +got):\n%s", diff)
	}
	if got := fresh.reveal(t, "camera"); got != "hunter3" {
		t.Errorf("camera is %q", got)
	}
	if taken, err := fresh.Import(data, false); err != nil || taken != nil {
		t.Errorf("once more: got %v, %v", taken, err)
	}
}

func TestSecretsThatAreThereStay(t *testing.T) {
	old, other := newShelf(t), newShelf(t)
	must(t, old.Add("dyndns", "hunter2", "alex"))
	must(t, old.Add("camera", "hunter3", "alex"))
	must(t, other.Add("dyndns", "hunter4", "kim"))
	data, err := old.Export()
	must(t, err)
	if _, err = other.Import(data, false); !errors.Is(err, secrets.ErrConflict) || !strings.Contains(err.Error(), "dyndns") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("got %v", err)
	}
	if len(other.List()) != 1 || other.reveal(t, "dyndns") != "hunter4" {
		t.Error("something was taken all the same")
	}
	if taken, err := other.Import(data, true); err != nil || len(taken) != 2 || other.reveal(t, "dyndns") != "hunter2" {
		t.Errorf("to replace: got %v, %v", taken, err)
	}
	if _, err := other.Import([]byte(`{"secrets": [{"name": "hunter2"}]}`), true); !errors.Is(err, secrets.ErrBad) {
		t.Errorf("nonsense: got %v", err)
	}
}

func TestBackupIsForItsRecipientsAlone(t *testing.T) {
	owner, sealed := sealedBackup(t)
	if n := bytes.Count(sealed[:bytes.Index(sealed, []byte("---"))], []byte("\n-> ")); n != 1 {
		t.Errorf("it is encrypted to %d keys", n)
	}
	if got, err := secrets.Decrypt(sealed, []age.Identity{owner}, 9); err != nil || string(got) != "all of it" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := secrets.Encrypt([]byte("all of it"), nil); !errors.Is(err, secrets.ErrNoRecipient) {
		t.Errorf("to nobody: got %v", err)
	}
}

// sealedBackup is a backup, and the key that opens it.
func sealedBackup(t *testing.T) (*age.X25519Identity, []byte) {
	t.Helper()
	owner, err := age.GenerateX25519Identity()
	must(t, err)
	r, err := secrets.NewRecipient(owner.Recipient().String(), "alex")
	must(t, err)
	sealed, err := secrets.Encrypt([]byte("all of it"), []secrets.Recipient{r})
	must(t, err)
	return owner, sealed
}

// TestWhatIsNotTheWholeBackupIsNone cuts it anywhere, flips each bit, and tries others.
func TestWhatIsNotTheWholeBackupIsNone(t *testing.T) {
	owner, sealed := sealedBackup(t)
	stranger, err := age.GenerateX25519Identity()
	must(t, err)
	open := func(data []byte, key age.Identity, limit int64) error {
		got, err := secrets.Decrypt(data, []age.Identity{key}, limit)
		if err == nil || got != nil {
			t.Errorf("got %q, %v", got, err)
		}
		return err
	}
	for i := range sealed {
		if err := open(sealed[:i], owner, 9); !errors.Is(err, secrets.ErrDamaged) && !errors.Is(err, secrets.ErrNotAge) {
			t.Errorf("the first %d bytes: got %v", i, err)
		}
		flipped := bytes.Clone(sealed)
		flipped[i] ^= 1 << (i % 8)
		if err := open(flipped, owner, 9); !errors.Is(err, secrets.ErrDamaged) && !errors.Is(err, secrets.ErrNotAge) && !errors.Is(err, secrets.ErrNoKey) {
			t.Errorf("byte %d flipped: got %v", i, err)
		}
	}
	if err := open(sealed, stranger, 9); !errors.Is(err, secrets.ErrNoKey) {
		t.Errorf("with another key: got %v", err)
	}
	if err := open(sealed, owner, 8); !errors.Is(err, secrets.ErrTooLarge) {
		t.Errorf("with less room: got %v", err)
	}
}

func TestOwnerOpensABackupWithAnyOfTheKeys(t *testing.T) {
	owner, err := age.GenerateX25519Identity()
	must(t, err)
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	line, err := ssh.NewPublicKey(public)
	must(t, err)
	plain, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("hunter2"))
	must(t, err)
	r1, err := secrets.NewRecipient(owner.Recipient().String(), "alex")
	must(t, err)
	r2, err := secrets.NewRecipient(string(ssh.MarshalAuthorizedKey(line)), "kim")
	must(t, err)
	sealed, err := secrets.Encrypt([]byte("all of it"), []secrets.Recipient{r1, r2})
	must(t, err)

	says := func(word string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(word), nil } }
	for name, file := range map[string][]byte{
		"age": []byte("# created: today\n" + owner.String() + "\n"), "SSH": pem.EncodeToMemory(plain), "SSH with a passphrase": pem.EncodeToMemory(locked),
	} {
		keys, err := secrets.ReadIdentities(file, says("hunter2"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := secrets.Decrypt(sealed, keys, 100); err != nil || string(got) != "all of it" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := secrets.ReadIdentities(pem.EncodeToMemory(locked), says("hunter3")); !errors.Is(err, secrets.ErrPassphrase) {
		t.Errorf("another passphrase: got %v", err)
	}
	nobody := errors.New("nobody is there")
	if _, err := secrets.ReadIdentities(pem.EncodeToMemory(locked), func() ([]byte, error) { return nil, nobody }); !errors.Is(err, nobody) {
		t.Errorf("nobody to ask: got %v", err)
	}
	for name, file := range map[string]string{"nothing": "", "a public key": owner.Recipient().String(), "half a key": owner.String()[:40], "half an SSH key": string(pem.EncodeToMemory(plain))[:200]} {
		if _, err := secrets.ReadIdentities([]byte(file), says("")); !errors.Is(err, secrets.ErrNoIdentity) || len(file) > 20 && strings.Contains(err.Error(), file[:20]) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
