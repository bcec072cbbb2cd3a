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
	lastFile      = "last.json"
)

// A Store keeps configurations on disk:
//
//	confirmed.yaml     what boots, byte for byte as its author wrote it
//	staged.json        a change that is being tried, or was when the power went
//	last.json          what became of the last change that was tried
//	history/NNNNNN.json  the changes that were confirmed, each under a sum that covers the one before
//	history/NNNNNN.import  changes of another box, for a trial that restores it
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
	if _, err := s.staged(); errors.Is(err, fs.ErrNotExist) {
		if err := s.dropImport(); err != nil { // for a trial that never began
			return err
		}
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

// Stage makes t durable without making it boot.
func (s *Store) Stage(t Trial) error {
	if err := s.settle(); err != nil {
		return err
	}
	confirmed, err := s.Confirmed()
	t.Repeats = err == nil && bytes.Equal(confirmed, t.Config)
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return s.disk.Write(stagedFile, data)
}

// Promote makes the staged change the confirmed configuration. From the moment
// that confirmed.yaml is replaced the change boots; should filing it in the history
// fail then, [Open] or the next Stage files it. With an error, what was confirmed
// before boots, unless the error says otherwise.
func (s *Store) Promote(o Outcome) error {
	t, err := s.staged()
	if err != nil {
		return err
	}
	old, err := s.Confirmed()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	first := err != nil
	if err := s.disk.Write(confirmedFile, t.Config); err != nil {
		return errors.Join(err, s.takeBack(old, first))
	}
	_ = s.file(t, o) // see above
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

// Note makes durable what becomes of the staged change.
func (s *Store) Note(o Outcome) error { return s.Save(lastFile, o) }

// Last returns what became of the last change that was tried. The error wraps
// [fs.ErrNotExist] if there was none.
func (s *Store) Last() (o Outcome, err error) {
	err = s.Load(lastFile, &o)
	return o, err
}

// Discard forgets the staged change, if there is one, and what was set aside for it.
func (s *Store) Discard() error {
	if err := s.disk.Remove(stagedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.dropImport()
}

// settle moves a staged change that became the confirmed configuration to the
// history, and forgets one that did not, noting why.
func (s *Store) settle() error {
	t, err := s.staged()
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
	boots := err == nil && bytes.Equal(confirmed, t.Config)
	switch {
	case boots && s.entered(t.Change): // and then the power went
		return errors.Join(s.Note(t.Outcome(Confirmed, t.Time)), s.Discard())
	case boots && !t.Repeats:
		return s.file(t, t.Outcome(Confirmed, t.Time))
	}
	// The reason may be noted already: then the end came while it was undone.
	if last, err := s.Last(); err != nil || last.ID != t.ID || last.End == Confirmed {
		if err := s.Note(t.Outcome(Interrupted, t.Time)); err != nil {
			return err
		}
	}
	return s.Discard()
}

// file moves the staged change to the history.
func (s *Store) file(t Trial, o Outcome) error {
	if t.Restores {
		if err := s.takeImport(); err != nil {
			return err
		}
	}
	if err := s.enter(t.Change); err != nil {
		return err
	}
	return errors.Join(s.Note(o), s.Discard())
}

func (s *Store) staged() (t Trial, err error) {
	err = s.Load(stagedFile, &t)
	return t, err
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
