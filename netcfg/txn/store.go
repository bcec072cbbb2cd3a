package txn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Files of a [Store].
const (
	confirmedFile = "confirmed.yaml"
	stagedFile    = "staged.json"
)

// A Store keeps configurations on disk:
//
//	confirmed.yaml     what boots, byte for byte as its author wrote it
//	staged.json        a change that is being tried, or was when the power went
//	history/NNNNNN.json  the changes that were confirmed, each under a sum that covers the one before
//
// Every write is a new file, synced and renamed, and the directory synced after
// it. A Store has one user at a time.
type Store struct {
	disk    disk
	records []record // of the history, ascending
	damage  []string // of the history
}

// disk is the file operations a Store is made of. All names are relative to its
// directory; an operation that returned nil survives losing power, and any other
// happened whole or not at all, also if it returned an error.
type disk interface {
	Prepare() error // makes what is missing, and removes what was never finished
	Read(name string) ([]byte, error)
	Write(name string, data []byte) error
	Rename(from, to string) error
	Remove(name string) error
	List(dir string) ([]string, error) // sorted
}

// Open returns the store in dir, which it creates if needed, and finishes or
// forgets what the last process was in the middle of. It returns a store together
// with an error if the directory can be read but not be put in order, as on a file
// system that was mounted read-only after a failure: what is confirmed is at hand
// then, and [Store.Settle] tells whether more can be done by now.
func Open(dir string) (*Store, error) {
	d := directory{dir}
	s := &Store{disk: d}
	err := s.Settle()
	if err != nil && !d.readable() {
		return nil, err
	}
	return s, err
}

// Settle does what [Open] does, for a store that Open returned with an error. Without
// an error the store is as good as any.
func (s *Store) Settle() error {
	err := s.disk.Prepare()
	if unread := s.chain(); err == nil {
		err = unread
	}
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	return s.mend()
}

// Untouched reports whether nothing was ever confirmed, nor is anything staged. What
// cannot be read may be a trace of it.
func (s *Store) Untouched() bool {
	for _, name := range []string{confirmedFile, stagedFile} {
		if _, err := s.disk.Read(name); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	numbers, err := s.numbers()
	return err == nil && len(numbers) == 0
}

// Stage makes c durable without making it boot.
func (s *Store) Stage(c Change) error {
	if err := s.settle(); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return s.disk.Write(stagedFile, data)
}

// Promote makes the staged change the confirmed configuration. From the moment
// that confirmed.yaml is replaced the change boots; should filing it in the history
// fail then, [Open] or the next Stage files it. With an error, what was confirmed
// before boots, unless the error says otherwise.
func (s *Store) Promote() error {
	c, err := s.staged()
	if err != nil {
		return err
	}
	old, err := s.Confirmed()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	first := err != nil
	if err := s.disk.Write(confirmedFile, c.Config); err != nil {
		return errors.Join(err, s.takeBack(old, first))
	}
	_ = s.file(c) // see above
	return nil
}

// takeBack makes what boots again what it was before an attempt to replace it that
// failed: perhaps all went well but for the last sync, and the file is there.
func (s *Store) takeBack(old []byte, first bool) error {
	now, err := s.Confirmed()
	switch {
	case first && errors.Is(err, fs.ErrNotExist), !first && err == nil && bytes.Equal(now, old):
		return nil // it never came to be
	case first:
		err = s.disk.Remove(confirmedFile)
	default:
		err = s.disk.Write(confirmedFile, old)
	}
	if err != nil {
		return fmt.Errorf("the change may be what boots next: %w", err)
	}
	return nil
}

// Discard forgets the staged change, if there is one.
func (s *Store) Discard() error {
	if err := s.disk.Remove(stagedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settle moves a staged change that became the confirmed configuration to the
// history, and forgets one that did not.
func (s *Store) settle() error {
	c, err := s.staged()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil { // unreadable, so nobody can have confirmed it
		return s.Discard()
	}
	confirmed, err := s.Confirmed()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !bytes.Equal(confirmed, c.Config) {
		return s.Discard()
	}
	if s.entered(c) {
		return s.Discard()
	}
	return s.file(c)
}

// file moves the staged change to the history.
func (s *Store) file(c Change) error {
	if err := s.enter(c); err != nil {
		return err
	}
	return s.Discard()
}

func (s *Store) staged() (Change, error) { return s.change(stagedFile) }

func (s *Store) change(name string) (Change, error) {
	data, err := s.disk.Read(name)
	if err != nil {
		return Change{}, err
	}
	var c Change
	if err := json.Unmarshal(data, &c); err != nil {
		return Change{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// Load reads a file beside the configuration into v. The error wraps
// [fs.ErrNotExist] if there is none.
func (s *Store) Load(name string, v any) error {
	data, err := s.disk.Read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Save writes v to a file beside the configuration, durably. It writes nothing
// if the file holds just that, so that flash is not worn out by repetition.
func (s *Store) Save(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := s.disk.Read(name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return s.disk.Write(name, data)
}
