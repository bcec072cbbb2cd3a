//go:build linux

package vm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"bulkhead/images/kernel"
	"bulkhead/images/lab/vm"
	"bulkhead/netcfg/model"
)

// lack skips the test, or fails it where BULKHEAD_NEED_VM says that all is there.
func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("BULKHEAD_NEED_VM") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// goarch is the architecture of the machines: this computer's, or the one that
// BULKHEAD_NEED_VM names.
func goarch() string {
	switch need := os.Getenv("BULKHEAD_NEED_VM"); need {
	case "", "1":
		return runtime.GOARCH
	default:
		return need
	}
}

// findKernel returns the kernel of the machines, which must have been built.
func findKernel(t testing.TB) kernel.Kernel {
	t.Helper()
	arch, err := kernel.ArchByName(goarch())
	if err != nil {
		t.Fatal(err)
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Lookup(t.Context(), kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if err != nil {
		lack(t, "no kernel: run make kernel: %v", err)
	}
	return k
}

// console is the kernel's name of the serial line.
func console(t testing.TB) string {
	t.Helper()
	arch, err := kernel.ArchByName(goarch())
	if err != nil {
		t.Fatal(err)
	}
	return arch.Console()
}

// options are those of a machine that runs package guest.
func options(t testing.TB) vm.Options {
	t.Helper()
	if err := vm.Lacks(goarch()); err != nil {
		lack(t, "%v", err)
	}
	k := findKernel(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch())
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(initrd, vm.Initramfs(vm.File{Name: "init", Mode: vm.Program, Data: init}), 0o644); err != nil {
		t.Fatal(err)
	}
	return vm.Options{
		Arch: goarch(), Dir: dir, Memory: 128,
		Kernel: k.Image(), Initrd: initrd, Append: "quiet panic=-1 console=" + console(t),
	}
}

func start(t testing.TB, ctx context.Context, o vm.Options) *vm.Machine {
	t.Helper()
	m, err := vm.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	})
	await(t, ctx, m, "guest: ready")
	return m
}

func await(t testing.TB, ctx context.Context, m *vm.Machine, pattern string) {
	t.Helper()
	if _, err := m.Await(ctx, regexp.MustCompile(pattern)); err != nil {
		t.Fatal(err)
	}
}

// order tells the guest to do something and waits for its answer.
func order(t testing.TB, ctx context.Context, m *vm.Machine, text, want string) {
	t.Helper()
	if err := m.Send(text + "\n"); err != nil {
		t.Fatal(err)
	}
	got, err := m.Await(ctx, regexp.MustCompile(`guest: \w+: (.*)\.\r?\n`))
	if err != nil {
		t.Fatal(err)
	}
	if got[1] != want {
		t.Fatalf("%s: got %q, want %q", text, got[1], want)
	}
}

// TestMachine does to one machine all that can be done to it.
func TestMachine(t *testing.T) {
	o := options(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	image := append([]byte("of the image\x00"), make([]byte, 1<<20)...)
	base := filepath.Join(o.Dir, "image")
	if err := os.WriteFile(base, image, 0o644); err != nil {
		t.Fatal(err)
	}
	o.Disk = filepath.Join(o.Dir, "disk")
	if err := vm.NewDisk(ctx, o.Disk, base, 4<<20); err != nil {
		t.Fatal(err)
	}
	cables := 0
	plug := func(io.ReadWriteCloser) { cables++ }
	o.NICs = []vm.NIC{
		{Name: "wan", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 1}, Plug: plug, Unplugged: true},
		{Name: "trunk", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 2}, Plug: plug},
	}

	m := start(t, ctx, o)
	order(t, ctx, m, "read", "of the image")
	order(t, ctx, m, "carrier eth0 0", "0")
	order(t, ctx, m, "carrier eth1 1", "1")
	for nic, up := range map[string]bool{"wan": true, "trunk": false} {
		if err := m.SetCable(ctx, nic, up); err != nil {
			t.Fatal(err)
		}
	}
	order(t, ctx, m, "carrier eth0 1", "1")
	order(t, ctx, m, "carrier eth1 0", "0")
	order(t, ctx, m, "write of the guest", "done")
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("read\n"); err == nil {
		t.Error("a machine without power was listening")
	}
	if _, err := m.Await(ctx, regexp.MustCompile("never")); !errors.Is(err, vm.ErrOff) {
		t.Errorf("got %v, want %v", err, vm.ErrOff)
	}
	if err := m.Reset(ctx); !errors.Is(err, vm.ErrOff) {
		t.Errorf("got %v, want %v", err, vm.ErrOff)
	}

	m = start(t, ctx, o)
	order(t, ctx, m, "read", "of the guest")
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, m, "guest: ready")
	order(t, ctx, m, "hang", "now")
	if e, err := m.AwaitEvent(ctx, "WATCHDOG"); err != nil {
		t.Fatal(e, err)
	}
	await(t, ctx, m, "guest: ready")
	if err := m.Send("off\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-ctx.Done():
		t.Fatal("the machine did not switch itself off")
	}
	if cables != 4 {
		t.Errorf("cables were plugged in %d times, want 4", cables)
	}
	if now, err := os.ReadFile(base); err != nil || !bytes.Equal(now, image) {
		t.Errorf("the image was changed (%v)", err)
	}
}

func TestWhatQEMUComplainsOf(t *testing.T) {
	o := options(t)
	o.Disk = filepath.Join(o.Dir, "no such disk")
	m, err := vm.Start(t.Context(), o)
	if err == nil {
		t.Fatal("it started", m.Kill())
	}
	if !regexp.MustCompile("no such disk").MatchString(err.Error()) {
		t.Errorf("got %v, want what QEMU says", err)
	}
}
