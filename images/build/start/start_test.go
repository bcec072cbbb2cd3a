package start_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead/images/build"
	"bulkhead/images/kernel"
	"bulkhead/images/lab/vm"
	"bulkhead/services/update/disk"
)

// image builds the image of this machine's architecture. Without a kernel or QEMU the
// test is skipped; with BULKHEAD_NEED_VM=1 it fails.
func image(t *testing.T) build.Result {
	t.Helper()
	lack := t.Skipf
	if os.Getenv("BULKHEAD_NEED_VM") == "1" {
		lack = t.Fatalf
	}
	if err := vm.Lacks(runtime.GOARCH); err != nil {
		lack("no machine can be made: %v", err)
	}
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		lack("%v", err)
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Lookup(t.Context(), kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if errors.Is(err, fs.ErrNotExist) {
		lack("no kernel has been built: run make kernel, or set KERNEL_CACHE (%v)", err)
	} else if err != nil {
		t.Fatal(err)
	}
	r, err := build.Build(t.Context(), build.Options{Arch: arch.Name, Tree: "../../..", Out: t.TempDir(), Kernel: k.Dir})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// box is a machine with a disk of its own that the image was written to.
type box struct {
	dir, disk string
}

func newBox(t *testing.T, r build.Result, size int64) box {
	t.Helper()
	dir := t.TempDir()
	b := box{dir, filepath.Join(dir, "disk")}
	if err := vm.NewDisk(t.Context(), b.disk, r.Image, size); err != nil {
		t.Fatal(err)
	}
	return b
}

// start switches the box on; it is killed with the test at the latest.
func (b box) start(t *testing.T) *vm.Machine {
	t.Helper()
	m, err := vm.Start(t.Context(), vm.Options{Arch: runtime.GOARCH, Dir: b.dir, Disk: b.disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.cut(t, m) })
	return m
}

func (b box) cut(t *testing.T, m *vm.Machine) {
	t.Helper()
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
}

// up waits until the services are started, and fails if /perm was not ready then.
func (b box) up(t *testing.T, m *vm.Machine, r build.Result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a second or two where there is KVM
	defer cancel()
	got, err := m.Await(ctx, regexp.MustCompile(`starting \d+ services of version (\S+)\r?\n`))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.Text())
	}
	if got[1] != r.Info.Version {
		t.Errorf("version %s was started, want %s", got[1], r.Info.Version)
	}
	if strings.Contains(m.Text(), "level=ERROR") {
		t.Errorf("not all was well:\n%s", m.Text())
	}
}

// perm returns the partition for /perm as a file, after the machine is off. What was
// in the file system's journal is in its place.
func (b box) perm(t *testing.T) string {
	t.Helper()
	raw := filepath.Join(b.dir, "raw")
	run(t, "qemu-img", "convert", "-O", "raw", b.disk, raw)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sectors, err := disk.Sectors(f)
	if err != nil {
		t.Fatal(err)
	}
	table, err := disk.Read(f, sectors)
	if err != nil {
		t.Fatal(err)
	}
	part := table.Partition(disk.Perm)
	if end := sectors - disk.MiB/disk.SectorBytes; part.Last < end-disk.MiB/disk.SectorBytes {
		t.Errorf("partition 4 ends at sector %d, the disk has %d", part.Last, sectors)
	}
	// e2fsck knows offsets, and forgets them after it has replayed a journal.
	perm := filepath.Join(b.dir, "perm")
	run(t, "dd", "status=none", "conv=sparse", "bs=1M", "skip="+strconv.FormatInt(part.Start()/disk.MiB, 10), "if="+raw, "of="+perm)
	cmd := exec.CommandContext(t.Context(), "/sbin/e2fsck", "-f", "-p", perm)
	out, err := cmd.CombinedOutput()
	// 1: the journal was replayed, and what it left to be counted was.
	if err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	return perm
}

// blocks returns the size of the file system, in blocks of 4 KiB.
func blocks(t *testing.T, perm string) int64 {
	t.Helper()
	m := regexp.MustCompile(`Block count: +(\d+)`).FindStringSubmatch(run(t, "/sbin/dumpe2fs", "-h", perm))
	if m == nil {
		t.Fatal("dumpe2fs names no number of blocks")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestPermIsMadeAndGrowsWithTheDisk starts a new box, and again after its disk grew.
func TestPermIsMadeAndGrowsWithTheDisk(t *testing.T) {
	r := image(t)
	b := newBox(t, r, 1<<30)
	m := b.start(t)
	b.up(t, m, r)
	b.cut(t, m)
	if n := blocks(t, b.perm(t)) * 4 >> 10; n < 350 {
		t.Errorf("/perm has %d MiB", n)
	}
	run(t, "qemu-img", "resize", "-q", b.disk, strconv.Itoa(3<<30))
	m = b.start(t)
	b.up(t, m, r)
	if strings.Contains(m.Text(), "new file system") {
		t.Error("/perm was made again")
	}
	b.cut(t, m)
	if n := blocks(t, b.perm(t)) * 4 >> 10; n < 2300 {
		t.Errorf("after the disk grew /perm has %d MiB", n)
	}
}

// TestPowerIsLostAtFirstStart cuts the power at random instants of first starts. Each
// time the next start must bring the box up with a /perm that is in order.
// BULKHEAD_KILLS says how many times.
func TestPowerIsLostAtFirstStart(t *testing.T) {
	kills := 2
	if s := os.Getenv("BULKHEAD_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	r := image(t)
	b := newBox(t, r, 1<<30)
	m := b.start(t)
	begin := time.Now()
	b.up(t, m, r)
	whole := time.Since(begin)
	b.cut(t, m)
	for range kills {
		b := newBox(t, r, 1<<30)
		// The firmware and the kernel take most of the time and write nothing.
		after := whole - time.Duration(rand.Int64N(int64(whole)/2)) + whole/10
		ctx, cancel := context.WithTimeout(t.Context(), after)
		m := b.start(t)
		<-ctx.Done()
		cancel()
		last := m.Tail(200)
		b.cut(t, m)
		m = b.start(t)
		b.up(t, m, r)
		b.cut(t, m)
		b.perm(t)
		if t.Failed() {
			t.Fatalf("after power was lost at %v of %v, when the console said: %s", after, whole, last)
		}
	}
}
