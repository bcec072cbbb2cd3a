//go:build linux

// Package trial runs package guest in a machine with a kernel and nothing else: no
// disk, no network but what the caller plugs in. It knows nothing of what the guest
// finds out.
package trial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead/images/kernel"
	"bulkhead/images/lab/vm"
)

// Trial is what to start.
type Trial struct {
	Arch   kernel.Arch
	Kernel kernel.Kernel
	Config string            // path of the configuration that the guest applies
	Args   []string          // of the guest
	Files  map[string][]byte // beside it, by absolute path
	QEMU   []string          // further arguments
}

// prefix starts the lines that are the guest's and not the kernel's.
const prefix = "guest: "

// Run returns what the guest has printed, line by line, once it is at its end. If it
// does not come there, the error holds all that the machine has. Package guest is
// compiled from the module that the caller is started in.
func (t Trial) Run(ctx context.Context) ([]string, error) {
	dir, err := os.MkdirTemp("", "trial")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initramfs")
	if err := t.writeInitramfs(ctx, initrd); err != nil {
		return nil, err
	}
	m, err := vm.Start(ctx, vm.Options{
		Arch: t.Arch.Name, Dir: dir, Kernel: t.Kernel.Image(), Initrd: initrd,
		// A kernel that panics restarts, which ends this machine. What comes after the
		// dashes goes to init.
		Append: strings.Join(append([]string{"console=" + t.Arch.Console(), "panic=-1", "quiet", "--"}, t.Args...), " "),
		QEMU:   append([]string{"-no-reboot"}, t.QEMU...),
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-m.Done():
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), m.Kill())
	}
	var lines []string
	for line := range strings.Lines(m.Text()) {
		if line, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			lines = append(lines, line)
		}
	}
	if n := len(lines); n > 0 && lines[n-1] == "done" {
		return lines[:n-1], nil
	}
	return lines, errors.Join(err, fmt.Errorf("the guest did not come to its end:\n%s", m.Text()))
}

// writeInitramfs writes a file with package guest as init, and the others.
func (t Trial) writeInitramfs(ctx context.Context, name string) error {
	program := name + ".init"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "bulkhead/images/kernel/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+t.Arch.Name)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w\n%s", err, out)
	}
	files := maps.Clone(t.Files)
	if files == nil {
		files = map[string][]byte{}
	}
	for to, from := range map[string]string{"/init": program, "/bulkhead.yaml": t.Config} {
		var err error
		if files[to], err = os.ReadFile(from); err != nil {
			return err
		}
	}
	var list []vm.File
	known := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, dir := range parents(name) {
			if !known[dir] {
				known[dir] = true
				list = append(list, vm.File{Name: dir[1:], Mode: vm.Directory})
			}
		}
		list = append(list, vm.File{Name: name[1:], Mode: vm.Program, Data: files[name]})
	}
	return os.WriteFile(name, vm.Initramfs(list...), 0o644)
}

// parents are the folders that a file is in, outermost first, without the root.
func parents(name string) []string {
	dir := path.Dir(name)
	if dir == "/" {
		return nil
	}
	return append(parents(dir), dir)
}
