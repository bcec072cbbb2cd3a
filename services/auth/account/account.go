// Package account is the people who may come in: what they log in with, what their role
// lets them do, and the sessions that they have.
//
// It speaks with nobody. On disk are hashes of passwords, the secrets of one-time
// passwords and the public keys of passkeys; sessions are in memory only, and end with
// the process.
package account

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"bulkhead/services/auth/password"
	"bulkhead/services/auth/totp"
	"bulkhead/services/file"

	"bulkhead/services/auth/access"
)

// File is the name of the file with the users, in the service's state directory.
const File = "users.json"

// damagedFile is where a file goes that cannot be read.
const damagedFile = "users.damaged.json"

// Bounds.
const (
	MaxUsers    = 64
	MaxPasskeys = 16      // of a user
	maxFile     = 4 << 20 // bytes
)

// Errors that callers tell apart.
var (
	ErrUnknown = errors.New("there is no such user")
	ErrTaken   = errors.New("there is a user of that name")
	ErrFull    = fmt.Errorf("there are %d users, and no room for another", MaxUsers)
	ErrInvalid = errors.New("not possible")
	ErrLast    = errors.New("nobody could change anything any more: this is the last admin who can log in")
	ErrDenied  = errors.New("user, password or code is wrong")
)

// kept is a user on disk.
type kept struct {
	Name     string      `json:"name"`
	Role     access.Role `json:"role"`
	Created  time.Time   `json:"created"`
	LastSeen time.Time   `json:"lastSeen,omitzero"`

	Handle   []byte    `json:"handle"`             // random: what a passkey knows of its user
	Password string    `json:"password,omitempty"` // hash; "": none
	TOTP     string    `json:"totp,omitempty"`     // secret; never "" beside a password
	Passkeys []keptKey `json:"passkeys,omitempty"`

	// Period of the last code that was used. It is in memory only: after a restart a code
	// may be used once more within its minute.
	lastCode int64
}

type keptKey struct {
	Name       string              `json:"name"`
	Added      time.Time           `json:"added"`
	Used       time.Time           `json:"used,omitzero"`
	Credential webauthn.Credential `json:"credential"`
}

// handleSize is the size of a user handle in bytes, WebAuthn section 14.6.1.
const handleSize = 64

func (k *kept) user() access.User {
	u := access.User{ID: k.id(), Name: k.Name, Role: k.Role, Created: k.Created, LastSeen: k.LastSeen, Password: k.Password != "", Passkeys: []access.Passkey{}}
	for _, p := range k.Passkeys {
		u.Passkeys = append(u.Passkeys, access.Passkey{ID: keyID(p.Credential.ID), Name: p.Name, Added: p.Added, Used: p.Used})
	}
	return u
}

// id tells the user apart from others of the name. It is made of the handle, of which it
// tells too little to be of use.
func (k *kept) id() string {
	sum := sha256.Sum256(k.Handle)
	return hex.EncodeToString(sum[:8])
}

// canLogin reports whether there is a way in for the user.
func (k *kept) canLogin() bool { return k.Password != "" || len(k.Passkeys) > 0 }

// check reports what is wrong with a user on disk.
func (k *kept) check() error {
	if err := errors.Join(checkName(k.Name), k.Role.Check()); err != nil {
		return err
	}
	switch {
	case len(k.Handle) != handleSize:
		return errors.New("the handle is none")
	case (k.Password == "") != (k.TOTP == ""):
		return errors.New("password and code go together")
	case len(k.Passkeys) > MaxPasskeys:
		return errors.New("there are too many passkeys")
	}
	if k.Password == "" {
		return nil
	}
	_, err := totp.Parse(k.TOTP)
	return errors.Join(password.Valid(k.Password), err)
}

// Store is the users and their sessions. Its methods may be called concurrently.
type Store struct {
	dir string
	log *slog.Logger
	now func() time.Time

	// hashing lets one password be hashed at a time, so that a thousand guesses at once
	// take no more memory than one.
	hashing chan struct{}

	mu         sync.Mutex
	users      []kept
	limit      *limit
	sessions   []*session
	ceremonies ceremonies
}

// Open reads the users in the directory. Users that make no sense are left out, and a
// file that makes none is put aside, both with a word in the log: whoever is locked out
// claims the box at its console. now tells the time, such as [time.Now].
func Open(dir string, log *slog.Logger, now func() time.Time) *Store {
	s := &Store{dir: dir, log: log, now: now, limit: newLimit(), hashing: make(chan struct{}, 1)}
	path := filepath.Join(dir, File)
	data, err := file.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	if err == nil {
		err = s.decode(data)
	}
	if err != nil {
		log.Error("the users are lost: claim the box at its console", "err", err)
		if err := os.Rename(path, filepath.Join(dir, damagedFile)); err != nil {
			log.Error("put the damaged file aside", "err", err)
		}
	}
	return s
}

func (s *Store) decode(data []byte) error {
	var c struct {
		Users []json.RawMessage `json:"users"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("%s: %w", File, err)
	}
	for i, raw := range c.Users {
		var k kept
		err := json.Unmarshal(raw, &k)
		if err == nil {
			err = k.check()
		}
		switch {
		case err != nil:
		case len(s.users) == MaxUsers:
			err = ErrFull
		case s.find(k.Name) != nil:
			err = ErrTaken
		}
		if err != nil {
			s.log.Error("a user is lost", "file", File, "number", i+1, "err", err)
			continue
		}
		s.users = append(s.users, k)
	}
	return nil
}

// write makes the users durable.
func (s *Store) write(users []kept) error {
	data, err := json.MarshalIndent(struct {
		Users []kept `json:"users"`
	}{users}, "", "\t")
	if err != nil {
		return err
	}
	if err := file.Replace(filepath.Join(s.dir, File), append(data, '\n'), 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(s.dir)
}

func (s *Store) find(name string) *kept {
	if i := slices.IndexFunc(s.users, func(k kept) bool { return k.Name == name }); i >= 0 {
		return &s.users[i]
	}
	return nil
}

// change replaces the user by what f makes of it, on disk first.
func (s *Store) change(name string, f func(*kept) error) error {
	k := s.find(name)
	if k == nil {
		return ErrUnknown
	}
	next := *k
	next.Passkeys = slices.Clone(k.Passkeys)
	if err := f(&next); err != nil {
		return err
	}
	users := slices.Clone(s.users)
	users[slices.IndexFunc(users, func(k kept) bool { return k.Name == name })] = next
	if had, has := admins(s.users), admins(users); had > 0 && has == 0 {
		return ErrLast
	}
	if err := s.write(users); err != nil {
		return err
	}
	s.users = users
	return nil
}

// admins counts the admins who can log in.
func admins(users []kept) (n int) {
	for _, k := range users {
		if k.Role == access.Administrator && k.canLogin() {
			n++
		}
	}
	return n
}

// Users returns the users, by name.
func (s *Store) Users() []access.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]access.User, 0, len(s.users))
	for i := range s.users {
		list = append(list, s.users[i].user())
	}
	slices.SortFunc(list, func(a, b access.User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// User returns one of them. The error is [ErrUnknown].
func (s *Store) User(name string) (access.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.find(name); k != nil {
		return k.user(), nil
	}
	return access.User{}, ErrUnknown
}

// Owned reports whether some admin can log in.
func (s *Store) Owned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return admins(s.users) > 0
}

// Add makes a user who cannot log in yet. The error wraps [ErrInvalid], [ErrTaken] or
// [ErrFull] if that is what stands against it.
func (s *Store) Add(name string, role access.Role) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(checkName(name), role.Check()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case s.find(name) != nil:
		return fmt.Errorf("%w: %s", ErrTaken, name)
	case len(s.users) == MaxUsers:
		return ErrFull
	}
	k := kept{Name: name, Role: role, Created: s.now().UTC().Truncate(time.Second), Handle: make([]byte, handleSize)}
	_, _ = rand.Read(k.Handle) // never fails: crypto/rand
	users := append(slices.Clone(s.users), k)
	if err := s.write(users); err != nil {
		return err
	}
	s.users = users
	return nil
}

// SetRole changes what a user may do, from the next request on. The error wraps
// [ErrInvalid], [ErrUnknown] or [ErrLast] if that is what stands against it.
func (s *Store) SetRole(name string, role access.Role) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := role.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s.change(name, func(k *kept) error {
		k.Role = role
		return nil
	})
}

// Remove removes a user and ends their sessions. The error wraps [ErrUnknown] or
// [ErrLast] if that is what stands against it.
func (s *Store) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	users := slices.DeleteFunc(slices.Clone(s.users), func(k kept) bool { return k.Name == name })
	switch {
	case len(users) == len(s.users):
		return ErrUnknown
	case admins(s.users) > 0 && admins(users) == 0:
		return ErrLast
	}
	if err := s.write(users); err != nil {
		return err
	}
	s.users = users
	s.endSessions(func(x *session) bool { return x.user == name })
	return nil
}

// SetPassword gives a user a password and the secret of the codes that go with it. The
// code shows that the user's app has the secret. All other sessions of the user end: keep
// is the secret of the one that goes on, or "". The error wraps [ErrInvalid],
// [ErrUnknown] or [ErrDenied] (for the code) if that is what stands against it.
func (s *Store) SetPassword(name, pass string, secret totp.Secret, code, keep string) error {
	if err := password.Check(pass, name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	hash := s.hash(pass)
	s.mu.Lock()
	defer s.mu.Unlock()
	period, ok := secret.Verify(s.now(), code, 0)
	if !ok {
		return fmt.Errorf("%w: the code is not the one that the box expects now: is the clock of the telephone right?", ErrDenied)
	}
	err := s.change(name, func(k *kept) error {
		k.Password, k.TOTP, k.lastCode = hash, secret.String(), period
		return nil
	})
	if err == nil {
		s.endOthers(name, keep)
	}
	return err
}

// RemovePassword leaves a user with passkeys alone. The error wraps [ErrUnknown] or
// [ErrInvalid].
func (s *Store) RemovePassword(name, keep string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.change(name, func(k *kept) error {
		if len(k.Passkeys) == 0 {
			return fmt.Errorf("%w: without a passkey there would be no way in", ErrInvalid)
		}
		k.Password, k.TOTP = "", ""
		return nil
	})
	if err == nil {
		s.endOthers(name, keep)
	}
	return err
}

// RemovePasskey forgets a passkey. The error wraps [ErrUnknown] or [ErrInvalid].
func (s *Store) RemovePasskey(name, id, keep string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.change(name, func(k *kept) error {
		left := slices.DeleteFunc(k.Passkeys, func(p keptKey) bool { return keyID(p.Credential.ID) == id })
		switch {
		case len(left) == len(k.Passkeys):
			return fmt.Errorf("%w: there is no such passkey", ErrInvalid)
		case len(left) == 0 && k.Password == "":
			return fmt.Errorf("%w: without it there would be no way in", ErrInvalid)
		}
		k.Passkeys = left
		return nil
	})
	if err == nil {
		s.endOthers(name, keep)
	}
	return err
}

// hash is slow, and needs no lock.
func (s *Store) hash(pass string) string {
	s.hashing <- struct{}{}
	defer func() { <-s.hashing }()
	return password.Hash(pass)
}

// verify is as slow.
func (s *Store) verify(hash, pass string) bool {
	s.hashing <- struct{}{}
	defer func() { <-s.hashing }()
	return password.Verify(hash, pass)
}

// seen notes that a user logged in, to the hour: flash wears out.
func (s *Store) seen(name string, credential []byte) {
	hour := s.now().UTC().Truncate(time.Hour)
	k := s.find(name)
	if k == nil || k.LastSeen.Equal(hour) && credential == nil {
		return
	}
	err := s.change(name, func(k *kept) error {
		k.LastSeen = hour
		for i := range k.Passkeys {
			if bytes.Equal(k.Passkeys[i].Credential.ID, credential) {
				k.Passkeys[i].Used = hour
			}
		}
		return nil
	})
	if err != nil {
		s.log.Warn("the last login is not kept", "user", name, "err", err)
	}
}
