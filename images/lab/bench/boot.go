//go:build linux

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"bulkhead/images/kernel"
	"bulkhead/images/lab"
	"bulkhead/images/lab/vm"
	slot "bulkhead/services/update/boot"
)

const (
	bootRounds = 3
	bootMore   = 4 * time.Second // than the bare kernel, at most, as a goal
	bootTime   = 5 * time.Minute // for all rounds
)

// boot measures how long the image takes from power-on until it serves all zones, next
// to what the bare kernel takes to start init in the same QEMU: started by QEMU itself,
// and as the image's is, by firmware and boot loader from the image's disk.
func boot(ctx context.Context, w *lab.World, o Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	l, err := lab.StartVM(ctx, w, lab.VMOptions{File: o.File, Bin: o.Bin, Image: o.Image})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	image, err := imageStages(ctx, l)
	if err != nil {
		return err
	}
	if err := l.Box.Kill(); err != nil { // it would compete with the others
		return err
	}
	direct, loaded, err := bareKernels(ctx, w, l, o.Image)
	if err != nil {
		return err
	}
	served := image[len(image)-1]
	rows := [][]string{{"", "clock", "processor", ""}}
	for _, s := range slices.Concat([]lab.Stage{direct, loaded}, image) {
		rows = append(rows, []string{s.Name, seconds(s.At), seconds(s.CPU), ""})
	}
	more := func(bare lab.Stage, than, goal string) {
		rows = append(rows, []string{"image more than the bare kernel " + than, seconds(served.At - bare.At), seconds(served.CPU - bare.CPU), goal})
	}
	more(direct, "started directly", "")
	more(loaded, "by the same firmware", target(served.At-loaded.At <= bootMore, "at most "+bootMore.String()))
	how := "emulated"
	if l.Box.Accelerated {
		how = "by KVM"
	}
	table(o.W, fmt.Sprintf("Start of the image in QEMU, %s, seconds after power-on, median of %d", how, bootRounds), rows)
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// imageStages restarts the lab's box again and again, and returns what it reached when,
// in the order of that.
func imageStages(ctx context.Context, l *lab.Lab) ([]lab.Stage, error) {
	rounds := make(map[string][]lab.Stage)
	for range bootRounds {
		stages, err := l.Reboot(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range stages {
			rounds[s.Name] = append(rounds[s.Name], s)
		}
	}
	var list []lab.Stage
	for _, of := range rounds {
		list = append(list, medians(of))
	}
	slices.SortFunc(list, func(a, b lab.Stage) int { return cmp.Compare(a.At, b.At) })
	return list, nil
}

// medians returns those of both times of one stage.
func medians(of []lab.Stage) lab.Stage {
	var at, cpu []time.Duration
	for _, s := range of {
		at, cpu = append(at, s.At), append(cpu, s.CPU)
	}
	return lab.Stage{Name: of[0].Name, At: median(at), CPU: median(cpu)}
}

// bareKernels measures the start of the kernel with an init that does nothing but tell
// that it runs: without firmware and boot loader, and with those of the image.
func bareKernels(ctx context.Context, w *lab.World, l *lab.Lab, image string) (direct, loaded lab.Stage, err error) {
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		return direct, loaded, err
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		return direct, loaded, err
	}
	k, err := kernel.Lookup(ctx, kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if err != nil {
		return direct, loaded, err
	}
	dir := filepath.Join(w.Dir, "bare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return direct, loaded, err
	}
	initrd, err := bareInit(ctx, dir)
	if err != nil {
		return direct, loaded, err
	}
	options := "quiet panic=-1 console=" + arch.Console()
	disk, err := bareDisk(ctx, dir, image, initrd, options)
	if err != nil {
		return direct, loaded, err
	}
	o := vm.Options{Arch: arch.Name, Dir: dir, NICs: idle(l)}
	o.Kernel, o.Initrd, o.Append = k.Image(), initrd, options
	if direct, err = bareKernel(ctx, "bare kernel started directly, until init", o); err != nil {
		return direct, loaded, err
	}
	o.Kernel, o.Initrd, o.Append, o.Disk = "", "", "", disk
	loaded, err = bareKernel(ctx, "bare kernel by the same firmware, until init", o)
	return direct, loaded, err
}

// idle are network cards like those of the lab's box, with nobody at the other end: the
// firmware and the kernel take their time for each.
func idle(l *lab.Lab) []vm.NIC {
	var nics []vm.NIC
	for _, p := range l.Config.Ports {
		nics = append(nics, vm.NIC{Name: p.Name, MAC: p.MAC, Plug: func(c io.ReadWriteCloser) {
			go func() { _, _ = io.Copy(io.Discard, c) }() // until QEMU ends
		}})
	}
	return nics
}

// bareKernel starts a machine until its init tells that it runs.
func bareKernel(ctx context.Context, name string, o vm.Options) (lab.Stage, error) {
	ready := regexp.MustCompile("guest: ready")
	var rounds []lab.Stage
	for range bootRounds {
		start := time.Now()
		m, err := vm.Start(ctx, o)
		if err != nil {
			return lab.Stage{}, err
		}
		_, err = m.Await(ctx, ready)
		rounds = append(rounds, lab.Stage{Name: name, At: time.Since(start), CPU: m.CPU()})
		if err := errors.Join(err, m.Kill()); err != nil {
			return lab.Stage{}, err
		}
	}
	return medians(rounds), nil
}

// bareInit builds an initramfs with the init of the bare kernel, and returns its path.
func bareInit(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "bulkhead/images/lab/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the bare kernel's init: %w: %s", err, out)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	initrd := filepath.Join(dir, "initramfs")
	return initrd, os.WriteFile(initrd, vm.Initramfs(vm.File{Name: "init", Mode: vm.Program, Data: init}), 0o644)
}

// bareDisk makes a disk that is the image's but for the entry of its boot loader, which
// starts the same file of a kernel with initrd, and returns its path.
func bareDisk(ctx context.Context, dir, image, initrd, options string) (string, error) {
	raw, entry, disk := filepath.Join(dir, "raw"), filepath.Join(dir, "entry"), filepath.Join(dir, "disk")
	text := fmt.Sprintf("title bare\nlinux %s\ninitrd /initramfs\noptions %s\n", slot.A.Kernel(), options)
	if err := os.WriteFile(entry, []byte(text), 0o644); err != nil {
		return "", err
	}
	esp := raw + "@@1M"
	for _, args := range [][]string{
		{"qemu-img", "convert", "-f", "raw", "-O", "raw", image, raw}, // a sparse copy
		{"mcopy", "-o", "-i", esp, initrd, "::/initramfs"},
		{"mcopy", "-o", "-i", esp, entry, "::" + slot.EntriesDir + "/" + slot.EntryName(slot.A, slot.Good)},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("make the bare kernel's disk: %s: %w: %s", args[0], err, out)
		}
	}
	if err := os.RemoveAll(disk); err != nil {
		return "", err
	}
	return disk, vm.NewDisk(ctx, disk, raw, 1<<30)
}
