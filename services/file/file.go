// Package file is how daemons leave files for each other: written whole or not at
// all, read with care, and watched. A directory may belong to a daemon that was
// taken over, so nothing in it is believed to be what it should be.
//
// It never looks at what a file says.
package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Read returns what is in the file at path, at most limit bytes. It follows no
// link, which might lead to a file that only the reader may read, and waits for
// nobody, as reading a pipe would. The error wraps [fs.ErrNotExist] without a file.
func Read(path string, limit int64) ([]byte, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	// The file may grow meanwhile; room for what it is now spares most copies.
	data := make([]byte, 0, info.Size()+1)
	r := io.LimitReader(f, limit+1)
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, tooLarge(path, limit)
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return nil, err
		case len(data) == cap(data):
			data = append(data, 0)[:len(data)]
		}
	}
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s: larger than %d bytes", path, limit)
}

// Stat describes the file that [Read] would read.
func Stat(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, irregular(path)
	}
	return info, err
}

func irregular(path string) error { return fmt.Errorf("%s: not a regular file", path) }

func open(path string) (*os.File, fs.FileInfo, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = irregular(path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Replace makes data the content of the file at path, synced and renamed into
// place, so that nobody ever sees half of it. The file gets the mode perm whatever
// the umask, and the group unless that is negative. Whoever needs the name itself to
// survive losing power syncs the directory then.
//
// Errors name path and not the temporary file beside it, whose name is random: the
// same trouble reads the same each time.
func Replace(path string, data []byte, perm fs.FileMode, group int) error {
	if err := replace(path, data, perm, group); err != nil {
		return fmt.Errorf("write %s: %w", path, cause(err))
	}
	return nil
}

func replace(path string, data []byte, perm fs.FileMode, group int) error {
	// The temporary file is told its place: renameio would rather take $TMPDIR,
	// where nobody sweeps.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(perm))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if group >= 0 {
		if err := f.Chown(-1, group); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// cause takes the names out of an error.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// SyncDir makes renames and removals in a directory survive losing power: without it
// a file's content is on disk and its name is not. See fsync(2).
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
