//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"bulkhead/images/kernel"
	"bulkhead/images/lab"
	"bulkhead/images/lab/vm"
)

const (
	bootRounds = 3
	bootMore   = 4 * time.Second // than the bare kernel, at most, as a goal
	bootTime   = 5 * time.Minute // for all rounds
)

// boot measures how long the image takes from power-on until it serves all zones, next
// to what the bare kernel takes to start init in the same QEMU.
func boot(ctx context.Context, w *lab.World, o Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	bare, err := bareKernel(ctx, w)
	if err != nil {
		return err
	}
	l, err := lab.StartVM(ctx, w, lab.VMOptions{File: o.File, Bin: o.Bin, Image: o.Image})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var names []string
	times := make(map[string][]time.Duration)
	for range bootRounds {
		stages, err := l.Reboot(ctx)
		if err != nil {
			return err
		}
		for _, s := range stages {
			if times[s.Name] == nil {
				names = append(names, s.Name)
			}
			times[s.Name] = append(times[s.Name], s.At)
		}
	}
	rows := [][]string{{"bare kernel, until init", seconds(bare), ""}}
	var last time.Duration
	for _, name := range names {
		m := median(times[name])
		last = max(last, m)
		rows = append(rows, []string{name, seconds(m), ""})
	}
	more := last - bare
	rows = append(rows, []string{"more than the bare kernel", seconds(more), target(more <= bootMore, "at most "+bootMore.String())})
	how := "emulated"
	if l.Box.Accelerated {
		how = "by KVM"
	}
	table(o.W, fmt.Sprintf("Start of the image in QEMU, %s, seconds after power-on, median of %d", how, bootRounds), rows)
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// bareKernel measures the start of the kernel, without firmware and boot loader, with an
// init that does nothing.
func bareKernel(ctx context.Context, w *lab.World) (time.Duration, error) {
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		return 0, err
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		return 0, err
	}
	k, err := kernel.Lookup(ctx, kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(w.Dir, "bare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "bulkhead/images/lab/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the bare kernel's init: %w: %s", err, out)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return 0, err
	}
	initrd := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(initrd, vm.Initramfs(vm.File{Name: "init", Mode: vm.Program, Data: init}), 0o644); err != nil {
		return 0, err
	}
	ready := regexp.MustCompile("guest: ready")
	var times []time.Duration
	for range bootRounds {
		start := time.Now()
		m, err := vm.Start(ctx, vm.Options{
			Arch: arch.Name, Dir: dir, Kernel: k.Image(), Initrd: initrd, Append: "quiet panic=-1 console=" + arch.Console(),
		})
		if err != nil {
			return 0, err
		}
		_, err = m.Await(ctx, ready)
		times = append(times, time.Since(start))
		if err := errors.Join(err, m.Kill()); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}
