package txn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Files of a [Store].
const (
	confirmedFile = "confirmed.yaml"
	stagedFile    = "staged.json"
	historyDir    = "history"
)

// HistoryLimit is how many changes a [Store] remembers.
const HistoryLimit = 50

// A Store keeps configurations on disk:
//
//	confirmed.yaml     what boots, byte for byte as its author wrote it
//	staged.json        a change that is being tried, or was when the power went
//	history/NNNNNN.json  the last 50 changes that were confirmed
//
// Every write is a new file, synced and renamed, and the directory synced after
// it. A Store has one user at a time.
type Store struct{ disk disk }

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
	if err := s.disk.Prepare(); err != nil {
		return err
	}
	return s.settle()
}

// Confirmed returns the configuration that boots. The error wraps [fs.ErrNotExist]
// if none was ever confirmed.
func (s *Store) Confirmed() ([]byte, error) { return s.disk.Read(confirmedFile) }

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
	_ = s.settle() // see above
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
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	next := 1
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	if err := s.disk.Rename(stagedFile, historyFile(next)); err != nil {
		return err
	}
	numbers = append(numbers, next)
	for ; len(numbers) > HistoryLimit; numbers = numbers[1:] {
		if err := s.disk.Remove(historyFile(numbers[0])); err != nil {
			return err
		}
	}
	return nil
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

// An Entry is one change of the history.
type Entry struct {
	Number int // counts up from 1 and is never used again
	Change
}

// History returns the changes that were confirmed, newest first. A file of the
// history that cannot be read is left out: it is a record, nothing depends on it.
func (s *Store) History() ([]Entry, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, n := range slices.Backward(numbers) {
		if c, err := s.change(historyFile(n)); err == nil {
			entries = append(entries, Entry{n, c})
		}
	}
	return entries, nil
}

// numbers lists the numbers of the history, ascending.
func (s *Store) numbers() ([]int, error) {
	names, err := s.disk.List(historyDir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		base, ok := strings.CutSuffix(name, ".json")
		if n, err := strconv.Atoi(base); ok && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func historyFile(n int) string { return filepath.Join(historyDir, fmt.Sprintf("%06d.json", n)) }

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
