package perm_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkhead/services/update/disk"
	"bulkhead/services/update/perm"
)

// template makes a small file system like the one of an image.
func template(t *testing.T) []byte {
	t.Helper()
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skip("no mke2fs: make deps-test")
	}
	path := filepath.Join(t.TempDir(), "template")
	out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "metadata_csum,64bit", "-J", "size=4",
		"-E", "resize=536870912", path, "16M").CombinedOutput()
	if err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var errCut = errors.New("power is gone")

// cutDevice is a partition whose disk loses power: what was written since the last
// sync is there from the end, to the sector, as far as left goes.
type cutDevice struct {
	data    []byte
	pending []span
	left    int // sectors; negative: no end
	sectors int // that were written
}

type span struct {
	at   int64
	data []byte
}

func (d *cutDevice) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(d.data).ReadAt(p, at)
}

func (d *cutDevice) WriteAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > int64(len(d.data)) {
		return 0, io.ErrShortWrite
	}
	for i := 0; i < len(p); i += disk.SectorBytes {
		d.pending = append(d.pending, span{at + int64(i), bytes.Clone(p[i:min(i+disk.SectorBytes, len(p))])})
	}
	return len(p), nil
}

func (d *cutDevice) Sync() error {
	for len(d.pending) > 0 {
		if d.left == 0 {
			d.pending = nil
			return errCut
		}
		d.left--
		d.sectors++
		s := d.pending[len(d.pending)-1]
		d.pending = d.pending[:len(d.pending)-1]
		copy(d.data[s.at:], s.data)
	}
	return nil
}

// TestPowerIsLostWhileFormatting cuts at every sector of the beginning and the end
// of formatting and at some between, over old content that looks like a file system.
// Whatever is left must be seen as unfinished until all of it is there.
func TestPowerIsLostWhileFormatting(t *testing.T) {
	want := template(t)
	fill := func() []byte { // a former file system, and rubbish
		b := bytes.Repeat([]byte{0xa5}, len(want))
		copy(b[1024:2048], want[1024:2048])
		return b
	}
	steps := func(dev *cutDevice) error {
		return errors.Join(perm.SetMark(dev), perm.Format(dev, bytes.NewReader(want)))
	}
	whole := &cutDevice{data: fill(), left: -1}
	if err := steps(whole); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= whole.sectors; cut++ {
		if cut == 8 { // within the template's body, where one sector is like the other
			for ; cut < whole.sectors-16; cut += whole.sectors / 7 {
				tryCut(t, fill(), want, cut, steps)
			}
			cut = whole.sectors - 16
		}
		tryCut(t, fill(), want, cut, steps)
	}
}

func tryCut(t *testing.T, data, want []byte, cut int, steps func(*cutDevice) error) {
	t.Helper()
	dev := &cutDevice{data: data, left: cut}
	err := perm.SetMark(dev)
	if err == nil {
		err = perm.Format(dev, bytes.NewReader(want))
	}
	if err != nil && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	marked, superblock, err := perm.Inspect(dev)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !marked && cut > 0:
		if !bytes.Equal(dev.data, want) {
			t.Fatalf("cut after %d sectors: unfinished, and no mark", cut)
		}
	case marked && superblock && cut > 8:
		if !bytes.Equal(dev.data[disk.SectorBytes:], want[disk.SectorBytes:]) {
			t.Fatalf("cut after %d sectors: unfinished, and a superblock", cut)
		}
	}
	dev.left = -1
	if err := steps(dev); err != nil || !bytes.Equal(dev.data, want) {
		t.Fatalf("cut after %d sectors: not mended by doing it again: %v", cut, err)
	}
}

func TestOnlyWholeSuperblocksCount(t *testing.T) {
	want := template(t)
	if marked, ok, err := perm.Inspect(bytes.NewReader(want)); marked || !ok || err != nil {
		t.Fatalf("got mark %v, superblock %v, %v", marked, ok, err)
	}
	for _, at := range []int{1024, 1080, 1500, 2040, 2047} {
		broken := bytes.Clone(want[:4096])
		broken[at] ^= 1
		if _, ok, err := perm.Inspect(bytes.NewReader(broken)); ok || err != nil {
			t.Errorf("byte %d changed: superblock %v, %v", at, ok, err)
		}
	}
}

func TestTemplatesThatAreNoneAreNotWritten(t *testing.T) {
	for _, bad := range [][]byte{nil, make([]byte, 4096), make([]byte, 8192)} {
		dev := &cutDevice{data: make([]byte, 1<<20), left: -1}
		if err := perm.Format(dev, bytes.NewReader(bad)); err == nil || dev.sectors != 0 {
			t.Errorf("got %v after %d sectors", err, dev.sectors)
		}
	}
}
