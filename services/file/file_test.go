//go:build linux

package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/file"
)

const limit = 1 << 10

func TestFilesAreReadWithCare(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, size := range map[string]int64{"plain": limit, "empty": 0, "huge": 1 << 40} { // sparse
		if err := os.WriteFile(path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path(name), size); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(path("plain"), path("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"plain": limit, "empty": 0} {
		if data, err := file.Read(path(name), limit); err != nil || len(data) != size {
			t.Errorf("%s: got %d bytes, %v", name, len(data), err)
		}
	}
	if _, err := file.Read(path("none"), limit); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	for _, name := range []string{"link", "pipe", "huge", "."} { // a pipe without a writer must not hold up the reader
		if _, err := file.Read(path(name), limit); err == nil {
			t.Errorf("%s was read", name)
		}
		if _, err := file.Stat(path(name)); name != "huge" && err == nil {
			t.Errorf("%s counts as a file", name)
		}
	}
	// Kernel files say that they are empty.
	if data, err := file.Read("/proc/self/status", 1<<20); err != nil || len(data) == 0 {
		t.Errorf("a file that grows: got %d bytes, %v", len(data), err)
	}
}

func TestReplacingFailsInTheSameWordsEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, second := file.Replace(path, []byte("a"), 0o600, -1), file.Replace(path, []byte("a"), 0o600, -1)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("got %v, then %v", first, second)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestWatchedFileNeedNotExist(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "uplink.json")
	changed, err := file.Watch(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Replace(path, []byte("x"), 0o600, -1); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for range changed { // ends when the directory is gone
	}
	if _, err := file.Watch(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: got %v, want an error wrapping fs.ErrNotExist", err)
	}
}
