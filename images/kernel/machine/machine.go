// Package machine starts a kernel in QEMU with one Go program as init and nothing
// else: no disk, no network but what the caller plugs in. Emulation must be enough, so
// it is all that is used. It knows nothing of what the program does.
package machine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead/images/kernel"
)

// emulators are QEMU's programs and a machine for each architecture.
var emulators = map[string][]string{
	"amd64": {"qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max,la57=off"},
	"arm64": {"qemu-system-aarch64", "-machine", "virt,accel=tcg", "-cpu", "cortex-a72"},
}

// Machine is what to start.
type Machine struct {
	Arch   kernel.Arch
	Kernel string            // path
	Init   string            // path of the program, linked statically
	Args   []string          // of the program
	Files  map[string][]byte // beside it, by path from the root
	QEMU   []string          // further arguments: devices
}

// Emulator returns the path of the QEMU that starts machines of an architecture. The
// error wraps [exec.ErrNotFound] if it is not installed.
func Emulator(a kernel.Arch) (string, error) { return exec.LookPath(emulators[a.Name][0]) }

// Build compiles a main package of this module, for an architecture and without C, to
// the file out.
func Build(ctx context.Context, a kernel.Arch, pkg, out string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+a.Name)
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// Run starts the machine and calls see with each line of its serial port until the
// program switches the machine off or reboots it. A program that ends, and a kernel that
// panics, end the machine, too.
func (m Machine) Run(ctx context.Context, see func(line string)) error {
	qemu, err := Emulator(m.Arch)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "machine")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initramfs")
	if err := m.writeInitramfs(initrd); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, qemu, slices.Concat(emulators[m.Arch.Name][1:], []string{
		"-m", "256", "-smp", "1", "-nodefaults", "-kernel", m.Kernel, "-initrd", initrd,
		// What comes after the dashes goes to init.
		"-append", strings.Join(append([]string{"console=" + m.Arch.Console(), "panic=-1", "quiet", "--"}, m.Args...), " "),
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
	}, m.QEMU)...)
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		w.Close()
		ended <- err
	}()
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			see(line)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(<-ended, ctx.Err())
}

// writeInitramfs writes a file with the program as init, and the others.
func (m Machine) writeInitramfs(name string) error {
	program, err := os.ReadFile(m.Init)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	known := map[string]bool{".": true}
	add := func(name string, mode fs.FileMode, data []byte) {
		for _, dir := range parents(name) {
			if !known[dir] {
				known[dir] = true
				cpio(&b, dir, 0o040755, nil)
			}
		}
		cpio(&b, name, 0o100000|int(mode), data)
	}
	add("init", 0o755, program)
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		add(strings.TrimPrefix(path.Clean(name), "/"), 0o755, m.Files[name])
	}
	cpio(&b, "TRAILER!!!", 0, nil)
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// parents are the folders that a file is in, outermost first.
func parents(name string) []string {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	return append(parents(dir), dir)
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
