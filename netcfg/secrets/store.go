package secrets

import (
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

	"filippo.io/age"

	"bulkhead/services/file"
)

// Names of files.
const (
	File    = "secrets.age" // in the box's state directory
	KeyFile = "age.key"     // the box's own key, in netcfgd's
)

// Store is the secrets on disk. Its methods may be called concurrently.
type Store struct {
	path    string // of the secrets
	keyPath string
	log     *slog.Logger
	now     func() time.Time

	mu      sync.Mutex
	key     *age.X25519Identity // nil: there is none yet
	content content
	lost    error // why the file cannot be read; nothing is taken from it then
}

// Open reads the secrets in the directory state with the key in the directory private.
// A file that cannot be read stays where it is, and [Store.Lost] says why: its owner
// may have another key for it, and the disk may be better after the next start.
func Open(state, private string, log *slog.Logger, now func() time.Time) *Store {
	s := &Store{path: filepath.Join(state, File), keyPath: filepath.Join(private, KeyFile), log: log, now: now}
	s.sweep()
	if err := s.load(); err != nil {
		s.lost = fmt.Errorf("%w: %s: %w", ErrLost, s.path, err)
		log.Error("the secrets are lost", "err", s.lost)
	}
	return s
}

// sweep removes what a process left that died while writing.
func (s *Store) sweep() {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), "."+File+"*")) // the pattern is a good one
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			s.log.Warn("remove a file that was never finished", "err", err)
		}
	}
}

func (s *Store) load() error {
	key, err := readKey(s.keyPath)
	fresh := errors.Is(err, fs.ErrNotExist)
	data, readErr := file.Read(s.path, maxFile)
	switch {
	case errors.Is(readErr, fs.ErrNotExist) && (err == nil || fresh):
		s.key = key
		return nil
	case err != nil:
		return err
	case readErr != nil:
		return readErr
	}
	plain, err := unseal(data, key)
	if err != nil {
		return err
	}
	c, err := decode(plain)
	if err != nil {
		return err
	}
	s.key, s.content = key, *c
	return nil
}

// Lost says why there are secrets that cannot be read; nil: there are none such. The
// error is [ErrLost].
func (s *Store) Lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// List returns what may be told of the secrets, by name.
func (s *Store) List() []Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Secret, len(s.content.Secrets))
	for i, k := range s.content.Secrets {
		list[i] = k.Secret
	}
	slices.SortFunc(list, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Value returns a secret. The error is [ErrNotSet] or [ErrLost].
func (s *Store) Value(name string) (Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.content.find(name)
	switch {
	case i >= 0:
		return Value{name, s.content.Secrets[i].Value}, nil
	case s.lost != nil:
		return Value{}, s.lost
	}
	return Value{}, fmt.Errorf("%w: %q", ErrNotSet, name)
}

func (c *content) find(name string) int {
	return slices.IndexFunc(c.Secrets, func(k kept) bool { return k.Name == name })
}

// Add keeps a secret. It is on disk then. The error is [ErrSet] if there is one of the
// name, and [ErrBad] if it cannot be kept.
//
// Without it nothing that needs a secret comes back after they were lost, so it begins
// anew then, and leaves what is lost beside it.
func (s *Store) Add(name, value, by string) error {
	return s.change(func(c *content) error {
		k := kept{Secret{Name: name, Set: s.stamp(), By: by}, value}
		if err := k.check(); err != nil {
			return err
		}
		switch {
		case c.find(name) >= 0:
			return fmt.Errorf("%w: %q", ErrSet, name)
		case len(c.Secrets) >= MaxSecrets:
			return fmt.Errorf("%w: there are %d, and no room for another", ErrBad, MaxSecrets)
		}
		c.Secrets = append(c.Secrets, k)
		return nil
	})
}

// Rotate gives a secret another value. The errors are those of [Store.Add], and
// [ErrNotSet].
func (s *Store) Rotate(name, value, by string) error {
	return s.change(func(c *content) error {
		i := c.find(name)
		if i < 0 {
			return fmt.Errorf("%w: %q", ErrNotSet, name)
		}
		k := c.Secrets[i]
		if k.Value == value {
			return fmt.Errorf("%w: it is the value that %q has", ErrBad, name)
		}
		k.Value, k.Rotated, k.By = value, s.stamp(), by
		if err := k.check(); err != nil {
			return err
		}
		c.Secrets[i] = k
		return nil
	})
}

// Remove forgets a secret. The error is [ErrNotSet] if there is none of the name.
func (s *Store) Remove(name string) error {
	return s.change(func(c *content) error {
		i := c.find(name)
		if i < 0 {
			return fmt.Errorf("%w: %q", ErrNotSet, name)
		}
		c.Secrets = slices.Delete(c.Secrets, i, i+1)
		return nil
	})
}

// Recipients returns the owner's keys, in the order in which they were added.
func (s *Store) Recipients() []Recipient {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.content.Recipients)
}

// AddRecipient encrypts the file to a key of the owner's as well. The error is
// [ErrBadRecipient] if that cannot be.
func (s *Store) AddRecipient(key, name, by string) (Recipient, error) {
	r, err := NewRecipient(key, name)
	if err != nil {
		return Recipient{}, err
	}
	r.Added, r.By = s.stamp(), by
	return r, s.change(func(c *content) error {
		switch {
		case slices.ContainsFunc(c.Recipients, func(o Recipient) bool { return o.ID == r.ID }):
			return fmt.Errorf("%w: it is a recipient already", ErrBadRecipient)
		case len(c.Recipients) >= MaxRecipients:
			return fmt.Errorf("%w: there are %d recipients, and no room for another", ErrBadRecipient, MaxRecipients)
		}
		c.Recipients = append(c.Recipients, r)
		return nil
	})
}

// RemoveRecipient encrypts the file to a key no longer. Whoever has the other half of
// it may have read what was there before. The error is [ErrNoRecipient].
func (s *Store) RemoveRecipient(id string) error {
	return s.change(func(c *content) error {
		i := slices.IndexFunc(c.Recipients, func(r Recipient) bool { return r.ID == id })
		if i < 0 {
			return fmt.Errorf("%w: %q", ErrNoRecipient, id)
		}
		c.Recipients = slices.Delete(c.Recipients, i, i+1)
		return nil
	})
}

// stamp is the time as it is kept.
func (s *Store) stamp() time.Time { return s.now().UTC().Truncate(time.Second) }

// change makes a change durable, or leaves everything as it was.
func (s *Store) change(f func(*content) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := content{slices.Clone(s.content.Secrets), slices.Clone(s.content.Recipients)}
	if err := f(&next); err != nil {
		if s.lost != nil && !errors.Is(err, ErrBad) && !errors.Is(err, ErrBadRecipient) {
			return s.lost // what is asked for may be among it
		}
		return err
	}
	if s.lost != nil {
		if err := s.putAside(); err != nil {
			return err
		}
	}
	if err := s.write(&next); err != nil {
		return err
	}
	s.content, s.lost = next, nil
	return nil
}

// write encrypts a content to everybody who may read it and makes it durable.
func (s *Store) write(c *content) error {
	if err := s.needKey(); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if len(data) > maxContent {
		return fmt.Errorf("%w: with it, all secrets together have more than %d bytes", ErrBad, maxContent)
	}
	to := []age.Recipient{s.key.Recipient()}
	for i := range c.Recipients {
		r, err := c.Recipients[i].parse()
		if err != nil {
			return err
		}
		to = append(to, r)
	}
	sealed, err := seal(data, to)
	if err != nil {
		return err
	}
	return replace(s.path, sealed)
}

// needKey makes the box's key if there is none.
func (s *Store) needKey() error {
	if s.key != nil {
		return nil
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	if err := replace(s.keyPath, []byte(key.String()+"\n")); err != nil {
		return err
	}
	s.key = key
	return nil
}

// replace writes a file that only root reads, durably.
func replace(path string, data []byte) error {
	if err := file.Replace(path, data, 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(filepath.Dir(path))
}

// maxAside is how many lost files are kept: nobody loses more without looking at one.
const maxAside = 9

// putAside gives files that cannot be read another name, for whoever can read them. The
// key goes with the file: there may be nothing wrong with it.
func (s *Store) putAside() error {
	for n := 1; n <= maxAside; n++ {
		aside, keyAside := fmt.Sprintf("%s.lost-%d", s.path, n), fmt.Sprintf("%s.lost-%d", s.keyPath, n)
		if exists(aside) || exists(keyAside) {
			continue
		}
		for from, to := range map[string]string{s.path: aside, s.keyPath: keyAside} {
			if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		s.key = nil
		s.log.Error("begin anew without the secrets that are lost", "kept", aside, "err", s.lost)
		return nil
	}
	return fmt.Errorf("%w, and %d files that were lost before are still there", s.lost, maxAside)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
