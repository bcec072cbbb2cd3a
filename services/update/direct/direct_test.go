//go:build linux

package direct_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/direct"
)

// TestWritesLandWhereTheyShould compares with the same writes to a slice.
func TestWritesLandWhereTheyShould(t *testing.T) {
	const size = 3<<20 + 1024
	path := filepath.Join(t.TempDir(), "disk")
	random := rand.New(rand.NewPCG(1, 1))
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := direct.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Size() != size {
		t.Errorf("got size %d, want %d", d.Size(), size)
	}
	for range 200 {
		at := random.IntN(size)
		n := min(random.IntN(1<<random.IntN(22)), size-at)
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		if _, err := d.WriteAt(p, int64(at)); err != nil {
			t.Fatal(err)
		}
		copy(want[at:], p)
		got := make([]byte, n)
		if _, err := d.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, p) {
			t.Fatalf("%d bytes at %d read back otherwise, %v", n, at, err)
		}
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(d, 0, size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the whole reads otherwise, %v", err)
	}
	if _, err := d.ReadAt(make([]byte, 100), size-50); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: got %v", err)
	}
	if _, err := d.WriteAt(make([]byte, 100), size-50); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing behind the end: got %v", err)
	}
}
