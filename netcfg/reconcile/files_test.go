//go:build linux

package reconcile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/netcfg/reconcile"
)

func TestLeasesAreReadOnceUntilTheyChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.json")
	l := reconcile.NewLeasesFile(path)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := l.Read(); len(list) != 0 || err != nil {
		t.Errorf("without a file: %v, %v", list, err)
	}
	write(`{"leases":[{}]}`)
	first, err := l.Read()
	if err != nil || len(first) != 1 {
		t.Fatalf("got %v, %v", first, err)
	}
	if again, err := l.Read(); err != nil || &again[0] != &first[0] {
		t.Errorf("the same file was read again: %v", err)
	}
	write(`{"leases":[{},{}]}`)
	if list, err := l.Read(); err != nil || len(list) != 2 {
		t.Errorf("another file: got %v, %v", list, err)
	}
	write(`{"leases":[` + strings.Repeat("{},", 1<<16) + `{}]}`)
	for range 2 {
		if list, err := l.Read(); err == nil || len(list) != 0 {
			t.Errorf("too many: got %d, %v", len(list), err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Read(); len(list) != 0 || err != nil {
		t.Errorf("the file is gone: %v, %v", list, err)
	}
}
