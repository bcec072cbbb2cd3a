// Package build makes the image of the appliance: a disk image to flash and a gokrazy
// archive to push, out of the sources, a kernel that was built already, a gokrazy
// instance, and Debian's tools for file systems. The same sources and tools give the
// same bytes, wherever and whenever that is.
//
// It builds no kernel, talks to no box, and needs no privileges.
package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/images/kernel"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/manifest"
)

// Options say what to build. Arch, Tree, Out and Kernel are required.
type Options struct {
	Arch   string // as Go calls it
	Tree   string // folder of this module
	Out    string // folder for what is made
	Kernel string // folder of a kernel package, as [kernel.Make] makes it
	// Instance is the folder with the instance's config.json; "": images/bulkhead
	// in Tree.
	Instance string
	// Hostname replaces the instance's.
	Hostname string
	// Revision is [Describe] of Tree if it has no time.
	Revision Revision
	// Serial is that of slot a's loader entry. Updates count up from it. 0 is 1.
	Serial uint64
	// Replace maps the import path of a program to another main package that takes
	// its place and its name, for images that are to fail.
	Replace map[string]string
	// Log is told what is going on; nil: nobody.
	Log io.Writer
}

// Result is what was built.
type Result struct {
	Image   string // path of the disk image
	Archive string // path of the gokrazy archive
	Info    manifest.Info
	Payload int64 // bytes of the boot and root partitions that are in use
}

// builder is one run of [Build].
type builder struct {
	Options
	instance Instance
	info     manifest.Info
	arch     kernel.Arch
	kernel   kernel.Recipe
	work     string // temporary folder
}

// Build makes bulkhead-<arch>.img and bulkhead-<arch>.gaf in the folder Out. Those
// that are there are replaced when the new ones are complete.
func Build(ctx context.Context, o Options) (Result, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return Result{}, fmt.Errorf("build an image for %s: %w", o.Arch, err)
	}
	defer os.RemoveAll(b.work)
	r, err := b.build(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("build an image for %s: %w", o.Arch, err)
	}
	return r, nil
}

func newBuilder(ctx context.Context, o Options) (*builder, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	o.Serial = cmp.Or(o.Serial, 1)
	for _, dir := range []*string{&o.Tree, &o.Out, &o.Kernel} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = abs
	}
	o.Instance = cmp.Or(o.Instance, filepath.Join(o.Tree, "images/bulkhead"))
	arch, err := kernel.ArchByName(o.Arch)
	if err != nil {
		return nil, err
	}
	b := &builder{Options: o, arch: arch}
	if b.instance, err = ReadInstance(o.Instance); err != nil {
		return nil, err
	}
	b.instance.Hostname = cmp.Or(o.Hostname, b.instance.Hostname)
	for pkg := range o.Replace {
		if _, ok := find(b.instance.programs(), pkg); !ok {
			return nil, fmt.Errorf("replace %s: not among the instance's packages", pkg)
		}
	}
	if o.Revision.Time.IsZero() {
		if b.Revision, err = Describe(ctx, o.Tree); err != nil {
			return nil, err
		}
	}
	version, err := os.ReadFile(filepath.Join(o.Kernel, "version"))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(o.Kernel, "key"))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if b.kernel, err = kernel.ParseRecipe(string(key)); err != nil {
		return nil, fmt.Errorf("kernel in %s: %w", o.Kernel, err)
	}
	if b.kernel.Arch != o.Arch {
		return nil, fmt.Errorf("the kernel in %s is for %s", o.Kernel, b.kernel.Arch)
	}
	b.info = manifest.Info{
		Version: b.Revision.Version, Built: b.Revision.Time.UTC(), Arch: o.Arch, Git: b.Revision.Git,
		Kernel: strings.TrimSpace(string(version)),
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, err
	}
	b.work, err = os.MkdirTemp(o.Out, ".build-")
	return b, err
}

func find(list []program, pkg string) (program, bool) {
	for _, p := range list {
		if p.pkg == pkg {
			return p, true
		}
	}
	return program{}, false
}

func (b *builder) build(ctx context.Context) (Result, error) {
	fmt.Fprintf(b.Log, "bulkhead %s for %s, kernel %s\n", b.info.Version, b.Arch, b.info.Kernel)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"programs", b.rootTree},
		{"root file system", b.squash},
		{"boot partition", b.espImage},
		{"archive", b.archive},
		{"disk image", b.diskImage},
	} {
		fmt.Fprintf(b.Log, "  %s\n", step.what)
		if err := step.do(ctx); err != nil {
			return Result{}, err
		}
	}
	r := Result{
		Image:   filepath.Join(b.Out, "bulkhead-"+b.Arch+".img"),
		Archive: filepath.Join(b.Out, "bulkhead-"+b.Arch+".gaf"),
		Info:    b.info,
	}
	var err error
	if r.Payload, err = b.payload(ctx); err != nil {
		return Result{}, err
	}
	return r, errors.Join(os.Rename(b.imageFile(), r.Image), os.Rename(b.archiveFile(), r.Archive))
}

// payload is what is in the boot partition of one slot, and in its root.
func (b *builder) payload(ctx context.Context) (int64, error) {
	loader, err := b.bootLoader(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, f := range []string{b.kernelFile(), loader, b.rootImage()} {
		i, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		n += i.Size()
	}
	return n, nil
}

func (b *builder) kernelFile() string  { return filepath.Join(b.Kernel, "vmlinuz") }
func (b *builder) rootImage() string   { return filepath.Join(b.work, "root.img") }
func (b *builder) espFile() string     { return filepath.Join(b.work, "esp.img") }
func (b *builder) sbomFile() string    { return filepath.Join(b.work, "sbom.json") }
func (b *builder) imageFile() string   { return filepath.Join(b.work, "disk.img") }
func (b *builder) archiveFile() string { return filepath.Join(b.work, "bulkhead.gaf") }

// number is that of the instance in GUIDs: gok derives it from the name as well.
func (b *builder) number() uint32 {
	h := fnv.New32a()
	h.Write([]byte(b.instance.Hostname)) // never fails
	return h.Sum32()
}

// cmdline is the kernel's command line in slot a.
func (b *builder) cmdline() string {
	words := []string{"console=tty0"}
	if serial, _ := b.instance.console(b.arch.Console()); serial != "" { // checked when it was read
		words = append(words, "console="+serial)
	}
	return strings.Join(append(words,
		fmt.Sprintf("root=PARTUUID=%s/PARTNROFF=1", disk.PartitionID(b.number(), disk.ESP)),
		// rootwait: USB and SD disks appear late. panic: what cannot run restarts,
		// and the boot loader counts that. quiet: a serial port is slow.
		"ro", "init=/gokrazy/init", "panic=10", "oops=panic", "rootwait", "quiet"), " ")
}
