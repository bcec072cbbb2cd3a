package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"sync"
	"syscall"

	"bulkhead/services/flow/store"
)

var errOutage = errors.New("power is out")

// outage is what a loss of power leaves of what was not synced.
type outage int

const (
	nothing     outage = iota
	everything         // all of it had been written by chance
	namesOnly          // names, but no content
	contentOnly        // content of the files whose names were synced
	halves             // names, and half of the content
	numOutages
)

// memory is a disk whose power fails after a number of operations that change something.
type memory struct {
	mu     sync.Mutex
	names  map[string]*inode
	lasts  map[string]*inode // names that are synced
	left   int               // operations until the power fails; negative: it has
	landed bool              // whether the last one is done
	free   int64             // bytes; negative: without end
}

type inode struct {
	data, lasts []byte
	dir         bool
}

func newMemory() *memory {
	return &memory{names: map[string]*inode{}, lasts: map[string]*inode{}, left: 1 << 30, free: -1}
}

// restart is the disk after power has come back.
func (m *memory) restart(o outage) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newMemory()
	names := m.lasts
	if o == everything || o == namesOnly || o == halves {
		names = m.names
	}
	for name, i := range names {
		if dir := path.Dir(name); dir != "." && names[dir] == nil {
			continue // lost with its directory
		}
		data := i.lasts
		if rest, ok := bytes.CutPrefix(i.data, i.lasts); ok {
			switch o {
			case everything, contentOnly:
				data = i.data
			case halves:
				data = i.data[:len(i.lasts)+len(rest)/2]
			case namesOnly: // the size was written, the blocks were not: zeros
				data = append(bytes.Clone(i.lasts), make([]byte, len(rest)/3)...)
			}
		}
		n.names[name] = &inode{bytes.Clone(data), bytes.Clone(data), i.dir}
	}
	n.lasts = maps.Clone(n.names)
	return n
}

// change does an operation, unless the power is out.
func (m *memory) change(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left < 0 {
		return errOutage
	}
	if m.left--; m.left < 0 {
		if m.landed {
			do()
		}
		return errOutage
	}
	return do()
}

func (m *memory) List(dir string) ([]store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []store.Entry
	for name, i := range m.names {
		if path.Dir(name) == dir {
			list = append(list, store.NewEntry(path.Base(name), int64(len(i.data)), i.dir))
		}
	}
	return list, nil
}

func (m *memory) Open(name string) (store.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.names[name]
	if i == nil || i.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return file{bytes.NewReader(i.data)}, nil
}

type file struct{ *bytes.Reader }

func (f file) Size() (int64, error) { return f.Reader.Size(), nil }
func (f file) Close() error         { return nil }

func (m *memory) Create(name string) (store.Writer, error) {
	i := new(inode)
	return handle{m, i}, m.change(func() error {
		m.names[name] = i
		return nil
	})
}

func (m *memory) Extend(name string, size int64) (store.Writer, error) {
	i := m.names[name]
	return handle{m, i}, m.change(func() error {
		i.data = bytes.Clone(i.data[:size])
		return nil
	})
}

type handle struct {
	m *memory
	i *inode
}

func (h handle) Write(p []byte) (n int, err error) {
	err = h.m.change(func() error {
		n = len(p)
		if h.m.free >= 0 {
			n = int(min(int64(n), h.m.free))
			h.m.free -= int64(n)
		}
		h.i.data = append(bytes.Clone(h.i.data), p[:n]...)
		if n < len(p) {
			return syscall.ENOSPC
		}
		return nil
	})
	return n, err
}

func (h handle) Sync() error {
	return h.m.change(func() error {
		h.i.lasts = bytes.Clone(h.i.data)
		return nil
	})
}

func (h handle) Close() error { return nil }

func (m *memory) Mkdir(dir string) (made bool, err error) {
	err = m.change(func() error {
		if m.names[dir] == nil {
			m.names[dir], made = &inode{dir: true}, true
		}
		return nil
	})
	return made, err
}

func (m *memory) Rename(from, to string) error {
	return m.change(func() error {
		if m.names[from] == nil {
			return fs.ErrNotExist
		}
		m.names[to] = m.names[from]
		delete(m.names, from)
		return nil
	})
}

func (m *memory) Remove(name string) error {
	return m.change(func() error {
		i := m.names[name]
		if i == nil {
			return fs.ErrNotExist
		}
		for other := range m.names {
			if path.Dir(other) == name {
				return fmt.Errorf("%s: not empty", name)
			}
		}
		if m.free >= 0 {
			m.free += int64(len(i.data))
		}
		delete(m.names, name)
		return nil
	})
}

func (m *memory) SyncDir(dir string) error {
	return m.change(func() error {
		for _, names := range []map[string]*inode{m.lasts, m.names} {
			for name := range names {
				if path.Dir(name) != dir {
					continue
				}
				if i := m.names[name]; i != nil {
					m.lasts[name] = i
				} else {
					delete(m.lasts, name)
				}
			}
		}
		return nil
	})
}

func (m *memory) Free() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free < 0 {
		return 1 << 40, nil
	}
	return m.free, nil
}

var _ io.Writer = handle{}
