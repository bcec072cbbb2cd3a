package txn

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/services/file"
)

// maxFile bounds what is read into memory, whoever wrote the file.
const maxFile = 32 << 20

// directory is the [disk] of a real file system.
type directory struct{ path string }

func (d directory) Prepare() error {
	// Services keep their state beside ours: only our own directory is closed to them.
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{d.path, filepath.Join(d.path, historyDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := sweep(dir); err != nil {
			return err
		}
	}
	return nil
}

// readable reports whether there is a directory to read.
func (d directory) readable() bool {
	_, err := os.ReadDir(d.path)
	return err == nil
}

// sweep removes temporary files of a process that died while writing: [file.Replace]
// names them ".<name><random>".
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d directory) Read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, err
}

func (d directory) Write(name string, data []byte) error {
	path := filepath.Join(d.path, name)
	if err := file.Replace(path, data, 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(filepath.Dir(path))
}

func (d directory) Rename(from, to string) error {
	from, to = filepath.Join(d.path, from), filepath.Join(d.path, to)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(file.SyncDir(filepath.Dir(to)), file.SyncDir(filepath.Dir(from)))
}

func (d directory) Remove(name string) error {
	path := filepath.Join(d.path, name)
	if err := os.Remove(path); err != nil {
		return err
	}
	return file.SyncDir(filepath.Dir(path))
}

func (d directory) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
