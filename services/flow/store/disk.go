package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bulkhead/services/file"
)

// disk is what a store needs of a file system: the seam that tests cut the power at.
// Names are relative and have slashes.
type disk interface {
	// List returns what is in a directory, nothing if it is not there.
	List(dir string) ([]entry, error)
	Open(name string) (reader, error)
	// Create makes a file, or empties it.
	Create(name string) (writer, error)
	// Extend opens a file to write behind its first size bytes, and cuts off the rest.
	Extend(name string, size int64) (writer, error)
	// Mkdir makes a directory if it is not there, and reports whether it was not.
	Mkdir(dir string) (bool, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a directory last.
	SyncDir(dir string) error
	// Free returns how many bytes can still be written.
	Free() (int64, error)
}

type entry struct {
	name string
	size int64
	dir  bool
}

type reader interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

type writer interface {
	io.WriteCloser
	Sync() error
}

// directory is the disk that a directory of the real one is.
type directory struct{ path string }

func (d directory) join(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

func (d directory) List(dir string) ([]entry, error) {
	entries, err := os.ReadDir(d.join(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []entry
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it went away
		}
		list = append(list, entry{e.Name(), info.Size(), e.IsDir()})
	}
	return list, err
}

func (d directory) Open(name string) (reader, error) {
	f, err := os.Open(d.join(name))
	if err != nil {
		return nil, err
	}
	return readable{f}, nil
}

type readable struct{ *os.File }

func (r readable) Size() (int64, error) {
	info, err := r.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d directory) Create(name string) (writer, error) {
	return os.OpenFile(d.join(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (d directory) Extend(name string, size int64) (writer, error) {
	f, err := os.OpenFile(d.join(name), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(size); err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d directory) Mkdir(dir string) (bool, error) {
	err := os.Mkdir(d.join(dir), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func (d directory) Rename(from, to string) error { return os.Rename(d.join(from), d.join(to)) }
func (d directory) Remove(name string) error     { return os.Remove(d.join(name)) }
func (d directory) SyncDir(dir string) error     { return file.SyncDir(d.join(dir)) }

func (d directory) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: d.path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}
