package perm_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
	"bulkhead/services/update/perm"
)

// box is a box's disk on a loop device, in a mount namespace of its own.
type box struct {
	perm.Box
	file   *os.File
	loop   *os.File
	disk   disk.Disk
	target string
	log    bytes.Buffer
}

// inNamespace runs the test again with a mount namespace of its own.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("BULKHEAD_TEST_NAMESPACE") != "" {
		return true
	}
	if out, err := exec.Command("losetup", "--find").CombinedOutput(); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root and loop devices: %v %s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "BULKHEAD_TEST_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return false
}

func newBox(t *testing.T, bytes int64) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{target: filepath.Join(dir, "perm")}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(b.target, 0o755))
	dev := filepath.Join(dir, "dev") // where the kernel makes nodes of partitions
	must(os.Mkdir(dev, 0o755))
	must(unix.Mount("dev", dev, "devtmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(dev, unix.MNT_DETACH) })
	var err error
	b.file, err = os.Create(filepath.Join(dir, "disk"))
	must(err)
	t.Cleanup(func() { b.file.Close() })
	must(b.file.Truncate(bytes))
	must(disk.Create(b.file, disk.ImageTable(1)))

	path := filepath.Join(dir, "perm.ext4.gz")
	f, err := os.Create(path)
	must(err)
	z := gzip.NewWriter(f)
	_, err = z.Write(template(t))
	must(errors.Join(err, z.Close(), f.Close()))

	out, err := exec.Command("losetup", "--find", "--show", "--partscan", b.file.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	name := filepath.Base(strings.TrimSpace(string(out)))
	b.disk = disk.Disk{Path: filepath.Join(dev, name)}
	b.loop, err = os.OpenFile(b.disk.Path, os.O_RDWR, 0)
	must(err)
	t.Cleanup(func() {
		_ = unix.Unmount(b.target, 0) // it may not be mounted
		err := errors.Join(unix.IoctlSetInt(int(b.loop.Fd()), unix.LOOP_CLR_FD, 0), b.loop.Close())
		if err != nil {
			t.Errorf("detach %s: %v", name, err)
		}
	})
	b.Box = perm.NewBox(b.disk, b.target, path, slog.New(slog.NewTextHandler(&b.log, nil)), canGrow(t))
	return b
}

// canGrow reports whether this process has CAP_SYS_RESOURCE, which root in a container
// may lack.
func canGrow(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func (b *box) prepare(t *testing.T) {
	t.Helper()
	if err := b.Prepare(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, b.log.String())
	}
}

func (b *box) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(b.target, 0); err != nil {
		t.Fatal(err)
	}
}

// resize makes the disk larger.
func (b *box) resize(t *testing.T, bytes int64) {
	t.Helper()
	if err := b.file.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(b.loop.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatal(err)
	}
}

func (b *box) mib(t *testing.T) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(b.target, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize / disk.MiB
}

func (b *box) fsck(t *testing.T) {
	t.Helper()
	out, err := exec.Command("e2fsck", "-f", "-n", b.disk.Partition(disk.Perm)).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func (b *box) overwrite(t *testing.T, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(b.disk.Partition(disk.Perm), os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(data, at)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPermIsMadeAndGrows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if !canGrow(t) {
		t.Skip("needs CAP_SYS_RESOURCE")
	}
	b := newBox(t, 1<<30)
	b.prepare(t)
	if got := b.mib(t); got < 350 || got > 383 {
		t.Errorf("the file system has %d MiB", got)
	}
	note := filepath.Join(b.target, "note")
	if err := os.WriteFile(note, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.prepare(t) // nothing left to do
	b.resize(t, 3<<30)
	b.prepare(t) // while it is mounted
	if got := b.mib(t); got < 2300 {
		t.Errorf("after the disk grew the file system has %d MiB", got)
	}
	b.unmount(t)
	b.fsck(t)
	b.resize(t, 2<<40)
	b.prepare(t)
	if got := b.mib(t); got < 2_000_000 {
		t.Errorf("on a disk of 2 TiB the file system has %d MiB", got)
	}
	if data, err := os.ReadFile(note); string(data) != "kept" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
	b.unmount(t)
	b.fsck(t)
}

// TestGokrazyMountIsTakenOver is the second start: gokrazy's init comes first.
func TestGokrazyMountIsTakenOver(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := newBox(t, 1<<30)
	b.prepare(t)
	var st unix.Statfs_t
	const flags = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	if err := unix.Statfs(b.target, &st); err != nil || st.Flags&flags != flags {
		t.Errorf("mounted with flags %#x, %v", st.Flags, err)
	}
	if to, err := os.Readlink(filepath.Join(b.target, "var/run")); to != "/run" || err != nil {
		t.Errorf("var/run leads to %q, %v", to, err)
	}
	b.unmount(t)
	if err := unix.Mount(b.disk.Partition(disk.Perm), b.target, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	b.prepare(t)
	if err := unix.Statfs(b.target, &st); err != nil || st.Flags&flags != flags {
		t.Errorf("mounted with flags %#x, %v", st.Flags, err)
	}
	// That of another disk is not.
	b.unmount(t)
	if err := unix.Mount("other", b.target, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	b.prepare(t)
	if err := unix.Statfs(b.target, &st); err != nil || st.Type != unix.EXT4_SUPER_MAGIC {
		t.Errorf("a file system of type %#x is mounted, %v", st.Type, err)
	}
}

func TestUnfinishedFormatIsFinished(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := newBox(t, 1<<30)
	b.prepare(t)
	// All but the last step, and gokrazy's init has mounted it already.
	f, err := os.OpenFile(b.disk.Partition(disk.Perm), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	sector := make([]byte, 512)
	mark := &cutDevice{data: make([]byte, 4096), left: -1}
	if err := perm.SetMark(mark); err != nil {
		t.Fatal(err)
	}
	copy(sector, mark.data)
	if _, err := f.WriteAt(sector, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	b.prepare(t)
	b.unmount(t)
	// Cut in the middle of the template.
	b.overwrite(t, 0, mark.data)
	b.overwrite(t, 1<<20, bytes.Repeat([]byte{0xff}, 1<<20))
	b.prepare(t)
	b.unmount(t)
	b.fsck(t)
}

func TestDamagedFileSystemIsNeverFormatted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for name, damage := range map[string]struct {
		at   int64
		data []byte
	}{
		"no superblock":   {1024, make([]byte, 1024)},
		"half superblock": {1536, make([]byte, 512)},
		"no beginning":    {0, make([]byte, 1<<20)},
		"other content":   {0, bytes.Repeat([]byte("x"), 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 1<<30)
			b.prepare(t)
			b.unmount(t)
			b.overwrite(t, damage.at, damage.data)
			before := make([]byte, 8<<20)
			read := func() []byte {
				f, err := os.Open(b.disk.Partition(disk.Perm))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				data := make([]byte, 8<<20)
				if _, err := f.ReadAt(data, 0); err != nil {
					t.Fatal(err)
				}
				return data
			}
			copy(before, read())
			if err := b.Prepare(t.Context()); !errors.Is(err, perm.ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
			if !bytes.Equal(before, read()) {
				t.Error("something was written")
			}
			// What the owner asks for then is done.
			if err := b.RequestReset(); err != nil {
				t.Fatal(err)
			}
			b.prepare(t)
			b.unmount(t)
			b.fsck(t)
		})
	}
}

func TestFactoryReset(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := newBox(t, 1<<30)
	b.prepare(t)
	note := filepath.Join(b.target, "note")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.RequestReset(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("gone before the next start: %v", err)
	}
	b.prepare(t)
	list, err := os.ReadDir(b.target)
	if got := fmt.Sprint(list); err != nil || got != "[d lost+found/ d var/]" {
		t.Errorf("left are %s, %v", got, err)
	}
	b.unmount(t)
	b.fsck(t)
}

// TestDiskThatCannotGrow keeps what is there in use.
func TestDiskThatCannotGrow(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := newBox(t, 1<<30)
	b.prepare(t)
	b.unmount(t)
	if _, err := b.file.WriteAt([]byte("broken"), 512); err != nil { // the table, for us; the kernel has read it
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(b.loop.Fd()), unix.BLKFLSBUF, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Prepare(t.Context()); err == nil || errors.Is(err, perm.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if got := b.mib(t); got < 8 {
		t.Errorf("%d MiB are mounted", got)
	}
}
