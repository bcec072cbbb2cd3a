package build_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/build"
	"bulkhead/images/kernel"
	"bulkhead/netcfg/model"
	"bulkhead/services/flow/oui"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

var revision = build.Revision{
	Git: "abcdef0123456789abcdef0123456789abcdef01", Time: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC), Version: "2026.11.27-abcdef0",
}

// realKernel returns the folder of the kernel that was built for this machine. A test
// that needs it is skipped without; with BULKHEAD_NEED_VM=1 it fails.
func realKernel(t *testing.T) string {
	t.Helper()
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		if os.Getenv("BULKHEAD_NEED_VM") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Lookup(t.Context(), kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("BULKHEAD_NEED_VM") != "1" {
		t.Skipf("no kernel has been built: run make kernel, or set KERNEL_CACHE (%v)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k.Dir
}

// toyKernel looks like one to those who do not start it.
func toyKernel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image := make([]byte, 1<<20)
	copy(image, "MZ")
	image[60] = 64
	copy(image[64:], "PE\x00\x00\x64\x86")
	for name, data := range map[string][]byte{
		"vmlinuz": image, "version": []byte("6.12.0-toy\n"), "config": []byte("CONFIG_TOY=y\n"),
		"key": []byte(kernel.Recipe{Arch: "amd64", Source: "debian 6.12.0-1", Config: "c", Compiler: "gcc 12"}.String()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"/sbin/mkfs.vfat", "/usr/bin/mcopy", "/usr/bin/mksquashfs", "/sbin/mke2fs", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"} {
		if _, err := os.Stat(tool); err != nil {
			t.Skipf("run .ci/deps image: %v", err)
		}
	}
}

func buildImage(t *testing.T, o build.Options) build.Result {
	t.Helper()
	needTools(t)
	if o.Tree == "" {
		o.Tree = "../.."
	}
	if o.Revision.Time.IsZero() {
		o.Revision = revision
	}
	o.Arch, o.Out = "amd64", t.TempDir()
	r, err := build.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// copyTree copies the files of this module to another folder, without git.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("needs git: %v", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and git does not know yet
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sum(t *testing.T, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestSameSourcesGiveTheSameBytes(t *testing.T) {
	needTools(t)
	k := toyKernel(t)
	a := buildImage(t, build.Options{Kernel: k})
	b := buildImage(t, build.Options{Kernel: k, Tree: copyTree(t)})
	for _, pair := range [][2]string{{a.Image, b.Image}, {a.Archive, b.Archive}} {
		if sum(t, pair[0]) != sum(t, pair[1]) {
			t.Errorf("%s differs", filepath.Base(pair[0]))
		}
	}
}

// TestImage looks into one image.
func TestImage(t *testing.T) {
	r := buildImage(t, build.Options{Kernel: toyKernel(t), Hostname: "gw"})
	t.Run("partitions", func(t *testing.T) { testPartitions(t, r) })
	t.Run("boot partition", func(t *testing.T) { testBootPartition(t, r) })
	t.Run("archive", func(t *testing.T) { testArchive(t, r) })
	t.Run("root", func(t *testing.T) { testRoot(t, r) })
}

func testPartitions(t *testing.T, r build.Result) {
	f, err := os.Open(r.Image)
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
	if sectors != disk.ImageBytes/disk.SectorBytes || table.Partition(disk.Perm) != (disk.Partition{}) {
		t.Errorf("%d sectors, partition 4 %+v", sectors, table.Partition(disk.Perm))
	}
}

// device is the boot partition of an image file.
type device struct {
	*io.SectionReader
	*os.File
}

func (d device) ReadAt(p []byte, at int64) (int, error) { return d.SectionReader.ReadAt(p, at) }
func (d device) WriteAt([]byte, int64) (int, error)     { return 0, errors.New("read only") }
func (d device) Size() int64                            { return d.SectionReader.Size() }
func (d device) Sync() error                            { return nil }

func testBootPartition(t *testing.T, r build.Result) {
	f, err := os.Open(r.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	esp, err := boot.Open(device{io.NewSectionReader(f, disk.MiB, disk.ESPBytes), f})
	if err != nil {
		t.Fatal(err)
	}
	a, err := esp.Status(boot.A)
	if err != nil {
		t.Fatal(err)
	}
	id, slot, err := disk.ParseRoot(a.Entry.Options)
	if err != nil || slot != 0 || !strings.HasPrefix(id.String(), "60c24cc1-f3f9-427a-8199-") {
		t.Errorf("options %q: %v", a.Entry.Options, err)
	}
	want := boot.Status{State: boot.Good, Entry: boot.Entry{
		Slot: boot.A, Serial: 1, Version: revision.Version, Built: "2026-11-27T08:00:00Z", Options: a.Entry.Options,
	}}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("slot a (-want +got):\n%s", diff)
	}
	if b, err := esp.Status(boot.B); err != nil || b != (boot.Status{State: boot.Disabled}) {
		t.Errorf("slot b is %+v, %v", b, err)
	}
	for _, slot := range []boot.Slot{boot.A, boot.B} {
		k, err := esp.Kernel(slot)
		if err != nil {
			t.Fatal(err)
		}
		if k.Size() != 24*disk.MiB {
			t.Errorf("slot %s has room for a kernel of %d bytes", slot, k.Size())
		}
	}
}

func testArchive(t *testing.T, r build.Result) {
	a, err := gaf.Open(r.Archive)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m, err := a.Describe("")
	if err != nil {
		t.Fatal(err)
	}
	if m.Version != revision.Version || !m.Built.Equal(revision.Time) || m.Arch != "amd64" || m.Kernel.Version != "6.12.0-toy" || m.Kernel.Size != 1<<20 {
		t.Errorf("the archive says %+v", m)
	}
	if _, _, err := disk.ParseRoot(m.Cmdline); err != nil {
		t.Error(err)
	}
}

// unpack returns the folder with the root file system's content, and its listing.
func unpack(t *testing.T, r build.Result) (dir, list string) {
	t.Helper()
	tmp := t.TempDir()
	dir, img := filepath.Join(tmp, "root"), filepath.Join(tmp, "root.img")
	a, err := gaf.Open(r.Archive)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	in, _, err := a.Root()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(img)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unsquashfs", "-quiet", "-no-progress", "-d", dir, img).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := exec.Command("unsquashfs", "-lln", img).Output()
	if err != nil {
		t.Fatal(err)
	}
	return dir, string(text)
}

func testRoot(t *testing.T, r build.Result) {
	dir, list := unpack(t, r)
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " 0/0 ") || strings.HasPrefix(line, "-rws") || strings.Contains(line, "gokr-pw.txt") ||
			strings.HasPrefix(line, "-") && line[8] == 'w' {
			t.Errorf("not in a root file system: %s", line)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if got := string(read("etc/hostname")); got != "gw" {
		t.Errorf("hostname %q", got)
	}
	info, err := manifest.ParseInfo(read("etc/bulkhead/image.json"))
	if diff := cmp.Diff(r.Info, info); diff != "" || err != nil {
		t.Errorf("image.json (-want +got):\n%s%v", diff, err)
	}
	for link, want := range map[string]string{"var": "/perm/var", "etc/resolv.conf": "/tmp/resolv.conf"} {
		if got, err := os.Readlink(filepath.Join(dir, link)); got != want || err != nil {
			t.Errorf("%s leads to %q, %v", link, got, err)
		}
	}
	for _, d := range []string{"bin", "dev", "mnt", "perm", "proc", "run", "sys", "tmp"} {
		if i, err := os.Stat(filepath.Join(dir, d)); err != nil || !i.IsDir() {
			t.Errorf("%s is no folder: %v", d, err)
		}
	}
	if !strings.Contains(string(read("etc/ssl/ca-bundle.pem")), "BEGIN CERTIFICATE") {
		t.Error("no certificates")
	}
	testSBOM(t, read("etc/gokrazy/sbom.json"))
	testTemplate(t, filepath.Join(dir, "usr/share/bulkhead/perm.ext4.gz"))
	if _, err := os.Stat("/usr/share/ieee-data"); err == nil {
		makers, err := oui.Open(filepath.Join(dir, oui.Path))
		if err != nil {
			t.Fatal(err)
		}
		defer makers.Close()
		if got := makers.Vendor(model.MAC{0xb8, 0x27, 0xeb}); !strings.HasPrefix(got, "Raspberry Pi") {
			t.Errorf("the maker of b8:27:eb is %q", got)
		}
	}
}

func testSBOM(t *testing.T, data []byte) {
	var frame struct {
		Hash string    `json:"sbom_hash"`
		BOM  build.BOM `json:"sbom"`
	}
	if err := json.Unmarshal(data, &frame); err != nil {
		t.Fatal(err)
	}
	if len(frame.Hash) != 64 || frame.BOM.Kernel.Source != "debian 6.12.0-1" || len(frame.BOM.Kernel.Config) != 64 {
		t.Errorf("got %q, %+v", frame.Hash, frame.BOM.Kernel)
	}
	var paths []string
	for _, p := range frame.BOM.Programs {
		paths = append(paths, p.Path)
		for _, m := range p.Modules {
			if m.Version == "" || m.Sum == "" && m.Path != "bulkhead" {
				t.Errorf("%s: %+v", p.Path, m)
			}
		}
	}
	for _, want := range []string{"/gokrazy/init", "/user/netcfgd", "/user/bulkhead"} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s is not in %v", want, paths)
		}
	}
	for _, p := range frame.BOM.Debian {
		if p.Version == "" {
			t.Errorf("%s has no version", p.Name)
		}
	}
}

func testTemplate(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "perm.ext4")
	out, err := os.Create(to)
	if err == nil {
		_, err = io.Copy(out, z)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/e2fsck", "-f", "-n", to).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func TestPayloadStaysSmall(t *testing.T) {
	const limit = 64_000_000
	if r := buildImage(t, build.Options{Kernel: realKernel(t)}); r.Payload > limit {
		t.Errorf("the boot and root partitions hold %d bytes, want at most %d", r.Payload, limit)
	}
}

func TestBuildsThatAreRefused(t *testing.T) {
	needTools(t)
	k := toyKernel(t)
	big := toyKernel(t)
	if err := os.Truncate(filepath.Join(big, "vmlinuz"), 25<<20); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		o    build.Options
		want string
	}{
		{"other architecture", build.Options{Arch: "arm64", Kernel: k}, "is for amd64"},
		{"unknown architecture", build.Options{Arch: "riscv64", Kernel: k}, "riscv64"},
		{"no kernel", build.Options{Arch: "amd64", Kernel: t.TempDir()}, "kernel"},
		{"unknown program replaced", build.Options{Arch: "amd64", Kernel: k, Replace: map[string]string{"x": "y"}}, "replace x"},
		{"program that does not compile", build.Options{Arch: "amd64", Kernel: k, Replace: map[string]string{"bulkhead/cmd/dnsd": "./nothing"}}, "go build"},
		{"kernel that is too large", build.Options{Arch: "amd64", Kernel: big}, "there is room for 25165824"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			tt.o.Tree, tt.o.Out, tt.o.Revision = "../..", out, revision
			if _, err := build.Build(t.Context(), tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
