package txn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a [Store] remembers: the last HistoryLimit changes, and all that are younger
// than HistoryAge as long as the history takes no more than historyBytes. Files that
// are larger than anybody's make it shorter, down to historyLeast changes.
const (
	HistoryLimit = 200
	HistoryAge   = 365 * 24 * time.Hour
	historyBytes = 64 << 20
	historyLeast = 20
)

const (
	historyDir = "history"
	// brokenFile is what confirmed.yaml held when it was not what was confirmed. It is
	// kept until the next change, for whoever wants to know.
	brokenFile = "confirmed.broken.yaml"
)

// record is what a store keeps in mind of an entry.
type record struct {
	number int
	time   time.Time
	bytes  int
	sum    string // "": it cannot be read, or is of the time before there were sums
}

// chain reads the whole history: what is there, and what is wrong with it.
func (s *Store) chain() error {
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	s.records, s.damage = nil, nil
	for _, n := range numbers {
		data, e, sealed, err := s.read(n)
		r := record{number: n, bytes: len(data)}
		if err == nil && !sealed {
			data, e, err = s.adopt(e)
			if err != nil { // a disk that cannot be written is no damage: the entry is as good as it was
				s.records = append(s.records, record{number: n, time: e.Time, bytes: len(data)})
				continue
			}
			r.bytes = len(data)
		}
		if err != nil {
			s.damaged("change %d cannot be read: %v", n, err)
			s.records = append(s.records, r)
			continue
		}
		s.follows(e)
		r.time, r.sum = e.Time, e.Sum
		s.records = append(s.records, r)
	}
	return nil
}

// follows looks whether e is what came after the last record.
func (s *Store) follows(e Entry) {
	if len(s.records) == 0 {
		return // what it followed may have been forgotten
	}
	last := s.records[len(s.records)-1]
	switch {
	case last.number != e.Number-1:
		s.damaged("between the changes %d and %d something is missing", last.number, e.Number)
	case last.sum != "" && last.sum != e.Before:
		s.damaged("change %d is not the one that change %d followed", last.number, e.Number)
	}
}

func (s *Store) damaged(format string, args ...any) {
	s.damage = append(s.damage, fmt.Sprintf(format, args...))
}

// adopt gives an entry of the time before there were sums one.
func (s *Store) adopt(e Entry) ([]byte, Entry, error) {
	s.link(&e)
	data, sealed, err := seal(e)
	if err != nil {
		return nil, e, err
	}
	return data, sealed, s.disk.Write(historyFile(e.Number), data)
}

// link makes e follow the last record.
func (s *Store) link(e *Entry) {
	e.Before, e.Parent = "", ""
	for _, r := range slices.Backward(s.records) {
		if r.sum == "" {
			continue
		}
		if last, err := s.Entry(r.number); err == nil {
			e.Before, e.Parent = last.Sum, last.Commit().ID().String()
			return
		}
	}
}

// enter makes c the newest of the history, and forgets what is too old.
func (s *Store) enter(c Change) error {
	next := 1
	if n := len(s.records); n > 0 {
		next = s.records[n-1].number + 1
	}
	e := Entry{Number: next, Change: c}
	s.link(&e)
	data, e, err := seal(e)
	if err != nil {
		return err
	}
	if err := s.disk.Write(historyFile(next), data); err != nil {
		return err
	}
	s.records = append(s.records, record{next, e.Time, len(data), e.Sum})
	if err := s.disk.Remove(brokenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.trim()
}

// Remark puts something into the history that was done and left the configuration as it
// is. The error wraps [fs.ErrNotExist] if none was ever confirmed.
func (s *Store) Remark(c Change) error {
	config, err := s.Confirmed()
	if err != nil {
		return err
	}
	c.Config = config
	if e, ok := s.Newest(); ok {
		c.Name = e.Name
	}
	return s.enter(c)
}

// entered reports whether c is the newest of the history: it was entered, and then the
// power went.
func (s *Store) entered(c Change) bool {
	e, ok := s.Newest()
	if !ok {
		return false
	}
	x, err1 := json.Marshal(e.Change)
	y, err2 := json.Marshal(c)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// trim forgets the oldest changes, as long as there are more than are to be kept. Old
// is what was confirmed long before the newest: there is no clock to trust.
func (s *Store) trim() error {
	total := 0
	for _, r := range s.records {
		total += r.bytes
	}
	newest := s.records[len(s.records)-1].time
	for len(s.records) > historyLeast {
		oldest := s.records[0]
		many := len(s.records) > HistoryLimit && newest.Sub(oldest.time) > HistoryAge
		if !many && total <= historyBytes {
			return nil
		}
		if err := s.disk.Remove(historyFile(oldest.number)); err != nil {
			return err
		}
		s.records, total = s.records[1:], total-oldest.bytes
	}
	return nil
}

// Confirmed returns the configuration that boots: confirmed.yaml, unless the newest
// change of the history says otherwise, which is known to be what was written; and the
// newest that can be read, if confirmed.yaml cannot. The error wraps [fs.ErrNotExist]
// if none was ever confirmed.
func (s *Store) Confirmed() ([]byte, error) {
	data, err := s.disk.Read(confirmedFile)
	newest := s.trusted()
	switch {
	case newest == nil && err != nil:
		if e, ok := s.Newest(); ok {
			return e.Config, nil
		}
		return nil, err
	case newest == nil, err == nil && bytes.Equal(data, newest.Config):
		return data, nil
	}
	if c, staged := s.staged(); err == nil && staged == nil && bytes.Equal(data, c.Config) {
		return data, nil // confirmed, and not yet in the history
	}
	return newest.Config, nil
}

// trusted returns the newest change if that is certain: nil without a history, and if
// its newest entry is damaged or has no sum.
func (s *Store) trusted() *Entry {
	n := len(s.records)
	if n == 0 || s.records[n-1].sum == "" {
		return nil
	}
	if e, err := s.Entry(s.records[n-1].number); err == nil {
		return &e
	}
	return nil
}

// mend makes confirmed.yaml what is confirmed, if it is not.
func (s *Store) mend() error {
	want, err := s.Confirmed()
	if err != nil {
		return nil // none ever was, or none is left
	}
	got, err := s.disk.Read(confirmedFile)
	if err == nil && bytes.Equal(got, want) {
		return nil
	}
	if err != nil {
		got = fmt.Appendf(nil, "# %v\n", err)
	}
	return errors.Join(s.disk.Write(brokenFile, got), s.disk.Write(confirmedFile, want))
}

// Damage says what is wrong with what is on disk, and what was done about it; nothing
// in most cases.
func (s *Store) Damage() []string {
	list := slices.Clone(s.damage)
	if _, err := s.disk.Read(brokenFile); !errors.Is(err, fs.ErrNotExist) {
		list = append(list, fmt.Sprintf("%s was not what was confirmed last: the history's newest good change is used instead, and what was found is kept in %s until the next change",
			confirmedFile, brokenFile))
	}
	return list
}

// Entries yields the changes that were confirmed, newest first, reading each when it
// is asked for. Those that are damaged are left out: see [Store.Damage].
func (s *Store) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, r := range slices.Backward(s.records) {
			if e, err := s.Entry(r.number); err == nil && !yield(e) {
				return
			}
		}
	}
}

// Newest returns the newest change of the history, if there is one.
func (s *Store) Newest() (Entry, bool) {
	for e := range s.Entries() {
		return e, true
	}
	return Entry{}, false
}

// NewestNumber returns the number of the newest change, be it good or damaged; 0 if
// there is none.
func (s *Store) NewestNumber() int {
	if n := len(s.records); n > 0 {
		return s.records[n-1].number
	}
	return 0
}

// Entry returns one change of the history. The error wraps [fs.ErrNotExist] if there
// is none of that number.
func (s *Store) Entry(number int) (Entry, error) {
	_, e, _, err := s.read(number)
	if err != nil {
		return Entry{}, fmt.Errorf("change %d: %w", number, err)
	}
	return e, nil
}

func (s *Store) read(number int) (data []byte, e Entry, sealed bool, err error) {
	data, err = s.disk.Read(historyFile(number))
	if err != nil {
		return nil, Entry{}, false, err
	}
	e, sealed, err = unseal(number, data)
	return data, e, sealed, err
}

// numbers lists the numbers of the history, ascending.
func (s *Store) numbers() ([]int, error) {
	names, err := s.disk.List(historyDir)
	if err != nil {
		return nil, err
	}
	return numbered(names, historyFile), nil
}

// numbered returns the numbers whose files are among names, ascending.
func numbered(names []string, file func(int) string) []int {
	var numbers []int
	for _, name := range names {
		base := strings.TrimSuffix(name, filepath.Ext(name))
		if n, err := strconv.Atoi(base); err == nil && n > 0 && file(n) == filepath.Join(historyDir, name) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

func historyFile(n int) string { return filepath.Join(historyDir, fmt.Sprintf("%06d.json", n)) }
