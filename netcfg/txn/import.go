package txn

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Sealed is a change of a history as it is on disk, under its sum.
type Sealed struct {
	Number int
	Data   []byte
}

// Errors of [Store.Import].
var (
	ErrHistory  = errors.New("there is a history already")
	ErrUnsealed = errors.New("the changes are not what was written")
)

// Sealed returns the newest changes, ascending, as far back as they are good, follow
// each other, and take no more than limit bytes; and how many there are before them.
func (s *Store) Sealed(limit int) (list []Sealed, older int) {
	for i, r := range slices.Backward(s.records) {
		data, e, sealed, err := s.read(r.number)
		if limit -= len(data); err != nil || !sealed || limit < 0 || len(list) > 0 && !precedes(e, list[len(list)-1]) {
			older = i + 1
			break
		}
		list = append(list, Sealed{r.number, data})
	}
	slices.Reverse(list)
	return list, older
}

// precedes reports whether e is the change that next, which is good, came after.
func precedes(e Entry, next Sealed) bool {
	n, _, err := unseal(next.Number, next.Data)
	return err == nil && e.Number == n.Number-1 && e.Sum == n.Before
}

// Import sets the history of another box aside, which [Store.Sealed] returned there: it
// becomes the one of this store when a trial that [Trial.Restores] it is promoted, which
// gets the number after its last. Until then it is nothing, and it is forgotten with the
// trial that comes next, and with the process. It returns how many changes are set aside:
// none, if they are in the history already.
//
// The error is [ErrHistory] if the store has other changes, which nothing can come
// before; and [ErrUnsealed] if what comes is damaged, or has gaps.
func (s *Store) Import(list []Sealed) (int, error) {
	last, err := unbroken(list)
	switch {
	case err != nil:
		return 0, err
	case len(s.records) > 0 && !s.holds(last):
		return 0, ErrHistory
	case len(s.records) > 0:
		return 0, nil
	}
	if err := s.dropImport(); err != nil {
		return 0, err
	}
	for _, c := range list {
		if err := s.disk.Write(importFile(c.Number), c.Data); err != nil {
			return 0, errors.Join(err, s.dropImport())
		}
	}
	return len(list), nil
}

// holds reports whether e is in the history, and so all that it covers. The zero Entry
// is that of no history at all, which every one goes on from.
func (s *Store) holds(e Entry) bool {
	return e.Sum == "" || slices.ContainsFunc(s.records, func(r record) bool { return r.number == e.Number && r.sum == e.Sum })
}

// unbroken checks what is to be a history, and returns its last change.
func unbroken(list []Sealed) (last Entry, err error) {
	for i, c := range list {
		e, sealed, err := unseal(c.Number, c.Data)
		switch {
		case err != nil:
			return last, fmt.Errorf("%w: change %d: %w", ErrUnsealed, c.Number, err)
		case !sealed || c.Number < 1 || len(c.Data) > maxFile:
			return last, fmt.Errorf("%w: change %d", ErrUnsealed, c.Number)
		case i > 0 && (e.Number != last.Number+1 || e.Before != last.Sum):
			return last, fmt.Errorf("%w: change %d is not the one that followed change %d", ErrUnsealed, e.Number, last.Number)
		}
		last = e
	}
	return last, nil
}

// Aside is how many changes [Store.Import] set aside.
func (s *Store) Aside() (int, error) {
	numbers, err := s.imported()
	return len(numbers), err
}

// takeImport makes what was set aside the history, the oldest first, so that it has no
// gaps whenever the power goes: what is left then is taken by the next start.
func (s *Store) takeImport() error {
	numbers, err := s.imported()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= s.NewestNumber() {
			return fmt.Errorf("%w: change %d is there", ErrHistory, n)
		}
		if err := s.disk.Rename(importFile(n), historyFile(n)); err != nil {
			return err
		}
		data, e, _, err := s.read(n)
		if err != nil {
			return err
		}
		s.records = append(s.records, record{n, e.Time, len(data), e.Sum})
	}
	return nil
}

// dropImport forgets what was set aside, the newest first.
func (s *Store) dropImport() error {
	numbers, err := s.imported()
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		if err := s.disk.Remove(importFile(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// imported lists the numbers of what was set aside, ascending.
func (s *Store) imported() ([]int, error) {
	names, err := s.disk.List(historyDir)
	return numbered(names, importFile), err
}

func importFile(n int) string { return filepath.Join(historyDir, fmt.Sprintf("%06d.import", n)) }
