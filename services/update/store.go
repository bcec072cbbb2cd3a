//go:build linux

package update

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/services/file"
	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/gate"
	"bulkhead/services/update/manifest"
)

// stateFile is all that updated remembers.
const stateFile = "state.json"

// maxState bounds it, in bytes.
const maxState = 4 << 20

// state is what survives a restart. The zero value is a new box.
type state struct {
	Keys  []api.Key `json:"keys,omitempty"`
	Nonce string    `json:"nonce"` // of the next change of keys
	// Newest is when the newest image was built that was ever kept.
	Newest   time.Time    `json:"newest,omitzero"`
	Pending  *pending     `json:"pending,omitempty"`
	Last     *api.Outcome `json:"last,omitempty"`
	Password string       `json:"password,omitempty"` // of gokrazy's protocol, hashed
}

// pending is an update between being complete and being kept or undone.
type pending struct {
	Slot    boot.Slot   `json:"slot"`
	Version string      `json:"version"`
	Built   time.Time   `json:"built,omitzero"`
	Author  string      `json:"author,omitempty"`
	Time    time.Time   `json:"time"`
	BootID  string      `json:"bootID"` // of the boot in which it was armed
	Before  gate.Before `json:"before"`
	Why     string      `json:"why,omitempty"` // it was not kept
}

// store keeps a state on disk. What [store.update] returned nil for survives losing
// power.
type store struct {
	dir    string
	broken error // why nothing can be remembered: nobody is trusted then, and nothing changed

	mu    sync.Mutex
	state state
}

// openStore reads the state in dir, which it makes if needed. A state that cannot be
// read does not make a new box, which would trust the first key that comes: the store
// says then what is wrong with it whenever it is to change.
func openStore(dir string) *store {
	s := &store{dir: dir}
	if s.broken = s.read(); s.broken != nil {
		s.state = state{}
	}
	return s
}

func (s *store) read() error {
	dir := s.dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	data, err := file.Read(filepath.Join(dir, stateFile), maxState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.state.Nonce = rand.Text()
		return nil
	case err != nil:
		return err
	}
	// Without minding fields that are not known here: this may be the older version,
	// come back after the newer one wrote.
	if err := json.Unmarshal(data, &s.state); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return nil
}

// get returns the state, which the caller does not change.
func (s *store) get() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// update changes the state, on disk first. f returns an error to leave it as it is.
func (s *store) update(f func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return fmt.Errorf("the box cannot remember anything: %w", s.broken)
	}
	next := s.state
	if err := f(&next); err != nil {
		return err
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := file.Replace(filepath.Join(s.dir, stateFile), append(data, '\n'), 0o600, -1); err != nil {
		return err
	}
	if err := file.SyncDir(s.dir); err != nil {
		return err
	}
	s.state = next
	return nil
}

// trusted returns the keys whose signatures count.
func (s state) trusted() []manifest.PublicKey {
	list := make([]manifest.PublicKey, len(s.Keys))
	for i, k := range s.Keys {
		list[i] = k.Key
	}
	return list
}
