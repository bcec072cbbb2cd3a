//go:build linux

package flash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/images/flash"
	"bulkhead/services/update/disk"
)

// machine is a made-up sysfs and procfs.
type machine struct {
	t       *testing.T
	dir     string
	numbers map[string]uint64
}

func newMachine(t *testing.T) *machine {
	m := &machine{t, t.TempDir(), map[string]uint64{}}
	m.write("proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n23 22 0:40 / /home\\040a rw - btrfs /dev/sde1 rw\n24 22 0:5 / /proc rw - proc proc rw\n")
	m.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sdd1 partition 100 0 -2\n")
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// add makes a disk (sda) or a partition (sda/sda1) of it known.
func (m *machine) add(name string, minor uint32, files map[string]string) {
	m.t.Helper()
	dir := "sys/devices/" + name
	m.write(dir+"/dev", fmt.Sprintf("8:%d\n", minor))
	m.write(dir+"/size", "31457280\n")
	for f, text := range files {
		m.write(dir+"/"+f, text)
	}
	link := filepath.Join(m.dir, "sys/dev/block", "8:"+strconv.Itoa(int(minor)))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(m.dir, dir), link); err != nil {
		m.t.Fatal(err)
	}
	m.numbers["/dev/"+filepath.Base(name)] = unix.Mkdev(8, minor)
}

func (m *machine) look(path string) (flash.Target, error) {
	return flash.NewSystem(filepath.Join(m.dir, "sys"), filepath.Join(m.dir, "proc"), func(p string) (uint64, error) {
		if n, ok := m.numbers[p]; ok {
			return n, nil
		}
		return 0, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrNotExist}
	}).Look(path, disk.ImageBytes)
}

func TestTargetIsDescribed(t *testing.T) {
	m := newMachine(t)
	m.add("sdb", 16, map[string]string{"removable": "1\n", "device/model": "Cruzer Blade    \n", "device/serial": "4C53\n", "queue/logical_block_size": "512\n"})
	m.add("sdb/sdb1", 17, map[string]string{"partition": "1\n"})
	got, err := m.look("/dev/sdb")
	if err != nil {
		t.Fatal(err)
	}
	want := flash.Target{Path: "/dev/sdb", Name: "sdb", Model: "Cruzer Blade", Serial: "4C53", Bytes: 15 << 30, Removable: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDisksThatAreRefused(t *testing.T) {
	tests := []struct {
		name string
		add  func(*machine)
		path string
		want string
	}{
		{"partition", func(m *machine) {
			m.add("sdb", 16, nil)
			m.add("sdb/sdb1", 17, map[string]string{"partition": "1\n"})
		}, "/dev/sdb1", "whole disk, /dev/sdb"},
		{"system disk", func(m *machine) {
			m.add("sda", 0, nil)
			m.add("sda/sda2", 2, map[string]string{"partition": "2\n"})
		}, "/dev/sda", "this machine runs from it"},
		{"mounted, with a device number of its own", func(m *machine) {
			m.add("sde", 64, nil)
			m.add("sde/sde1", 65, map[string]string{"partition": "1\n"})
		}, "/dev/sde", "/dev/sde1 is mounted on /home a"},
		{"swap", func(m *machine) {
			m.add("sdd", 48, nil)
			m.add("sdd/sdd1", 49, map[string]string{"partition": "1\n"})
		}, "/dev/sdd", "swapping"},
		{"volume group", func(m *machine) {
			m.add("sdb", 16, nil)
			m.add("sdb/sdb1", 17, map[string]string{"partition": "1\n", "holders/dm-0": ""})
		}, "/dev/sdb", "part of dm-0"},
		{"read-only", func(m *machine) { m.add("sdb", 16, map[string]string{"ro": "1\n"}) }, "/dev/sdb", "read-only"},
		{"small", func(m *machine) { m.add("sdb", 16, map[string]string{"size": "1000000\n"}) }, "/dev/sdb", "706 are needed"},
		{"empty reader", func(m *machine) { m.add("sdb", 16, map[string]string{"size": "0\n"}) }, "/dev/sdb", "no card"},
		{"large sectors", func(m *machine) {
			m.add("sdb", 16, map[string]string{"queue/logical_block_size": "4096\n"})
		}, "/dev/sdb", "sectors of 4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			tt.add(m)
			if got, err := m.look(tt.path); !errors.Is(err, flash.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want a refusal with %q", got, err, tt.want)
			}
		})
	}
	if _, err := newMachine(t).look("/dev/sdz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a disk that is not there: %v", err)
	}
}

func TestFilesAndTerminalsAreNoDisks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, os.DevNull, filepath.Dir(path)} {
		if got, err := flash.Look(p, disk.ImageBytes); err == nil || !strings.Contains(err.Error(), "not a disk") {
			t.Errorf("%s: got %+v, %v", p, got, err)
		}
	}
}

// image makes an image file with something in its partitions.
func image(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(disk.ImageBytes); err != nil {
		t.Fatal(err)
	}
	if err := disk.Create(f, disk.ImageTable(1)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{disk.MiB, 130 * disk.MiB, 400*disk.MiB + 17} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("image"), 100_000), at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// oldDisk is a file that stands for a disk on which a box was: a second table at its
// end, and a file system where /perm is.
func oldDisk(t *testing.T) flash.Target {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 30
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 641 * disk.MiB, 642*disk.MiB + 4096, size - disk.MiB} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("old"), disk.MiB/3), at); err != nil {
			t.Fatal(err)
		}
	}
	return flash.Target{Path: path, Name: "disk", Bytes: size}
}

func TestImageIsWrittenAndVerified(t *testing.T) {
	i, err := flash.Open(image(t))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	target := oldDisk(t)
	for _, do := range []func(context.Context, flash.Target, func(int64)) error{i.Write, i.Verify} {
		last := int64(0)
		err := do(t.Context(), target, func(n int64) {
			if n < last {
				t.Errorf("%d bytes are done after %d were", n, last)
			}
			last = n
		})
		if err != nil || last != disk.ImageBytes {
			t.Errorf("%d bytes, %v", last, err)
		}
	}
	f, err := os.OpenFile(target.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := disk.Read(f, uint64(target.Bytes/disk.SectorBytes))
	if err != nil || table.Partition(disk.Perm) != (disk.Partition{}) {
		t.Errorf("the table on the disk: %+v, %v", table, err)
	}
	for _, at := range []int64{641 * disk.MiB, target.Bytes - disk.MiB} {
		b := make([]byte, 4096)
		if _, err := f.ReadAt(b, at); err != nil || !bytes.Equal(b, make([]byte, 4096)) {
			t.Errorf("something is left at byte %d: %v", at, err)
		}
	}
	// One bit that the disk lost.
	if _, err := f.WriteAt([]byte{'j'}, 400*disk.MiB+17); err != nil {
		t.Fatal(err)
	}
	if err := i.Verify(t.Context(), target, func(int64) {}); err == nil || !strings.Contains(err.Error(), "does not hold") {
		t.Errorf("a changed byte: %v", err)
	}
}

// TestHalfWrittenDiskDoesNotStart interrupts writing.
func TestHalfWrittenDiskDoesNotStart(t *testing.T) {
	i, err := flash.Open(image(t))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	target := oldDisk(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = i.Write(ctx, target, func(n int64) {
		if n > disk.ImageBytes/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f, err := os.Open(target.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if table, err := disk.Read(f, uint64(target.Bytes/disk.SectorBytes)); err == nil {
		t.Errorf("it has a table: %+v", table)
	}
}

func TestOnlyImagesAreWritten(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "archive": "PK\x03\x04" + strings.Repeat("x", 100_000)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i, err := flash.Open(path); err == nil || !strings.Contains(err.Error(), "not an image to flash") {
			t.Errorf("%s: got %v, %v", name, i, err)
		}
	}
}

func TestDiskThatChangedIsRefused(t *testing.T) {
	i, err := flash.Open(image(t))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	target := oldDisk(t)
	target.Bytes++
	if err := i.Write(t.Context(), target, func(int64) {}); !errors.Is(err, flash.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
