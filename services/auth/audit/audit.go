// Package audit keeps who came in, who tried, and what they did. What a change of the
// configuration was, its history says.
//
// It only ever adds: an entry is on the disk when [Log.Add] returns, and nobody changes
// one. The oldest go when there are too many.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"bulkhead/services/file"
)

// Entry is one thing that somebody did.
type Entry struct {
	Time time.Time  `json:"time"`
	Who  string     `json:"who,omitempty"` // user:alex, token:ci; "" if nobody knows
	From netip.Addr `json:"from,omitzero"` // zero: on the box itself
	What string     `json:"what"`          // login, login refused, user added, ...
	Of   string     `json:"of,omitempty"`  // what it was done to
	More string     `json:"more,omitempty"`
}

// Bounds.
const (
	maxFile  = 2 << 20 // bytes of a file; there are two, so at least 8,000 entries
	MaxField = 160     // bytes
)

// The files: the one that is written, and the one before it.
const (
	current  = "audit.jsonl"
	previous = "audit.1.jsonl"
)

// Log is the entries on disk. Its methods may be called concurrently.
type Log struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	f    *os.File
	size int64
}

// Open returns the log in a directory. What a power cut left of an entry goes.
func Open(dir string, log *slog.Logger) (*Log, error) {
	l := &Log{dir: dir, log: log}
	f, err := os.OpenFile(filepath.Join(dir, current), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	data, err := file.Read(f.Name(), 2*maxFile)
	if err == nil {
		l.size = int64(bytes.LastIndexByte(data, '\n') + 1)
		err = f.Truncate(l.size)
	}
	if err == nil {
		err = file.SyncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l.f = f
	return l, nil
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// Add adds an entry. What cannot be written is said in the daemon's log as well: nobody is
// kept out of a box whose disk is full, but who would rather not do what is not written
// down has the error.
func (l *Log) Add(e Entry) error {
	e.Time = e.Time.UTC().Truncate(time.Second)
	e.From = e.From.Unmap()
	for _, s := range []*string{&e.Who, &e.What, &e.Of, &e.More} {
		*s = clean(*s)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.add(e); err != nil {
		l.log.Error("the audit log lacks an entry", "entry", e, "err", err)
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

func (l *Log) add(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if l.size+int64(len(line)) > maxFile {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.f.Write(line); err != nil {
		return errors.Join(err, l.f.Truncate(l.size)) // half an entry is none
	}
	l.size += int64(len(line))
	return l.f.Sync()
}

func (l *Log) rotate() error {
	path := filepath.Join(l.dir, current)
	if err := os.Rename(path, filepath.Join(l.dir, previous)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_ = l.f.Close() // all of it is synced
	l.f, l.size = f, 0
	return file.SyncDir(l.dir)
}

// clean cuts strangers' words to what may stand in a list.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.ToValidUTF8(s[:min(len(s), MaxField)], "")
}

// Entries returns the entries since a time, the newest first, at most limit. Lines that
// make no sense are left out, and counted.
func (l *Log) Entries(since time.Time, limit int) (list []Entry, damaged int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list = []Entry{}
	for _, name := range []string{current, previous} {
		data, err := file.Read(filepath.Join(l.dir, name), 2*maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, 0, err
		}
		lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
		for i := len(lines) - 1; i >= 0; i-- {
			var e Entry
			if len(lines[i]) == 0 {
				continue
			}
			if json.Unmarshal(lines[i], &e) != nil || e.What == "" {
				damaged++
				continue
			}
			if e.Time.Before(since) || len(list) == limit {
				return list, damaged, nil
			}
			list = append(list, e)
		}
	}
	return list, damaged, nil
}
