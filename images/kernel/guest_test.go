package kernel_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"bulkhead/images/kernel"
)

// machines are what QEMU starts a kernel in: by emulation, which is always there.
var machines = map[string]struct {
	qemu string
	args []string
}{
	"amd64": {"qemu-system-x86_64", []string{"-machine", "q35,accel=tcg", "-cpu", "max,la57=off", "-device", "i6300esb"}},
	"arm64": {"qemu-system-aarch64", []string{"-machine", "virt,accel=tcg", "-cpu", "cortex-a72"}},
}

// TestGuest starts the kernel in QEMU with a program as init that holds the running
// kernel against needed.txt and tries it out: see package guest. Without a kernel in
// a cache or without QEMU it is skipped; with BULKHEAD_NEED_VM=1 it then fails, on
// the architecture of this machine.
func TestGuest(t *testing.T) {
	for _, name := range []string{"amd64", "arm64"} {
		t.Run(name, func(t *testing.T) { testGuest(t, name) })
	}
}

func testGuest(t *testing.T, name string) {
	lack := t.Skipf
	if os.Getenv("BULKHEAD_NEED_VM") == "1" && name == runtime.GOARCH {
		lack = t.Fatalf
	}
	arch, err := kernel.ArchByName(name)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		lack("no cache: %v", err)
	}
	k, err := kernel.Lookup(t.Context(), kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if errors.Is(err, fs.ErrNotExist) {
		lack("no kernel has been built: run make kernel ARCH=%s, or set KERNEL_CACHE (%v)", name, err)
	} else if err != nil {
		t.Fatal(err)
	}
	m := machines[name]
	qemu, err := exec.LookPath(m.qemu)
	if err != nil {
		lack("QEMU is not installed: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, append(m.args,
		"-m", "256", "-smp", "1", "-kernel", k.Image(), "-initrd", initramfs(t, name),
		"-append", fmt.Sprintf("console=%s panic=-1 quiet", arch.Console()),
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
		// The cards of configs/zero-trust.yaml, connected to nothing.
		"-netdev", "hubport,id=wan,hubid=1", "-device", "virtio-net-pci,netdev=wan,mac=52:54:00:10:00:01,romfile=",
		"-netdev", "hubport,id=trunk,hubid=2", "-device", "virtio-net-pci,netdev=trunk,mac=52:54:00:10:00:02,romfile=",
		"-device", "virtio-rng-pci", "-object", "rng-random,filename=/dev/urandom,id=rng0",
	)...)
	out, err := cmd.CombinedOutput()
	done := false
	for line := range strings.Lines(string(out)) {
		line, ours := strings.CutPrefix(strings.TrimSpace(line), "guest: ")
		switch {
		case !ours:
		case line == "done":
			done = true
		case strings.HasPrefix(line, "FAIL "):
			t.Error(line)
		default:
			t.Log(line)
		}
	}
	if !done {
		t.Errorf("the guest did not come to its end (%v):\n%s", cmp.Or(err, ctx.Err()), out)
	}
}

// initramfs returns a file with package guest as init and a configuration for it.
func initramfs(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	var b bytes.Buffer
	for _, f := range []struct {
		name, from string
		mode       int
	}{
		{"init", program, 0o100755},
		{"bulkhead.yaml", "../../configs/zero-trust.yaml", 0o100644},
	} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			t.Fatal(err)
		}
		cpio(&b, f.name, f.mode, data)
	}
	cpio(&b, "TRAILER!!!", 0, nil)
	name := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// cpio appends a file to an archive in the "newc" format. See
// Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
func cpio(b *bytes.Buffer, name string, mode int, data []byte) {
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	b.WriteString("070701")
	// inode, mode, uid, gid, links, mtime, size, device and rdevice (two each),
	// length of the name, checksum
	for _, field := range []int{0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(b, "%08x", field)
	}
	b.WriteString(name + "\x00")
	pad()
	b.Write(data)
	pad()
}
