//go:build linux

package reconcile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/reconcile"
)

func TestFilesOfServicesAreReadWithCare(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("plain"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path("plain"), path("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("huge"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path("huge"), 1<<30); err != nil { // sparse
		t.Fatal(err)
	}
	if data, err := reconcile.ReadForeign(path("plain")); err != nil || string(data) != "text" {
		t.Errorf("a plain file: got %q, %v", data, err)
	}
	if _, err := reconcile.ReadForeign(path("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	for _, name := range []string{"link", "pipe", "huge", "."} { // a pipe without a writer must not hold up netcfgd
		if _, err := reconcile.ReadForeign(path(name)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestWatchedFileNeedNotExist(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "uplink.json")
	changed, err := reconcile.WatchFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tmp")
	if err := os.Rename(filepath.Join(dir, "tmp"), path); err != nil {
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
}
