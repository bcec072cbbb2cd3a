package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/images/kernel"
)

// toy is a kernel source that "builds" in no time: it has every option there is, and
// its makefile takes every configuration as it comes. It counts builds in a file.
func toy(t *testing.T, image string) (source string, builds func() int) {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skipf("needs make: %v", err)
	}
	source = t.TempDir()
	counter := filepath.Join(t.TempDir(), "builds")
	options := map[string]bool{}
	for _, name := range []string{"amd64", "arm64"} {
		for option := range wanted(t, name) {
			options[option] = true
		}
	}
	needs, err := kernel.Needs()
	if err != nil {
		t.Fatal(err)
	}
	defconfig := ""
	for _, n := range needs {
		options[n.Option] = true
		if !n.Off {
			value := n.Value
			if value == "" {
				value = "y"
			}
			defconfig += "CONFIG_" + n.Option + "=" + value + "\n"
		}
	}
	kconfig := ""
	for _, name := range slices.Sorted(maps.Keys(options)) {
		kconfig += "config " + name + "\n\tbool \"" + name + "\"\n"
	}
	for name, text := range map[string]string{
		"Kbuild": "\n", "Kconfig": kconfig,
		"arch/x86/configs/x86_64_defconfig": defconfig + "CONFIG_SOUND_CARD=m\n",
		"arch/arm64/configs/defconfig":      defconfig,
		"Makefile": "olddefconfig:\n\tmkdir -p $(O)/include/config\n\techo 6.12.0-toy > $(O)/include/config/kernel.release\n" +
			"bzImage Image:\n\t@echo '  CC      a.o'; echo '  AS      b.o'; echo '  LD      vmlinux'\n\techo build >> " + counter + "\n" + image,
	} {
		write(t, filepath.Join(source, name), text)
	}
	return source, func() int {
		text, _ := os.ReadFile(counter) // none: not built
		return strings.Count(string(text), "build")
	}
}

// ok is how the toy makes an image.
const ok = "\tmkdir -p $(O)/arch/x86/boot && echo $(ARCH) $(KBUILD_BUILD_VERSION_TIMESTAMP) > $(O)/arch/x86/boot/$@\n"

func wanted(t *testing.T, name string) kernel.Config {
	t.Helper()
	a, err := kernel.ArchByName(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Wanted()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// options returns what builds the toy, with a compiler that only tells its version.
func toyOptions(t *testing.T, source string) kernel.Options {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"gcc", "x86_64-linux-gnu-gcc"} {
		write(t, filepath.Join(bin, name), "#!/bin/sh\necho 12.2.0\n")
		if err := os.Chmod(filepath.Join(bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	a, err := kernel.ArchByName("amd64")
	if err != nil {
		t.Fatal(err)
	}
	return kernel.Options{Arch: a, Source: source, Cache: t.TempDir(), Out: io.Discard}.Installed()
}

func TestMakeBuildsOnceAndThenFinds(t *testing.T) {
	source, builds := toy(t, ok)
	o := toyOptions(t, source)
	var out bytes.Buffer
	o.Out = &out
	first, err := kernel.Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := kernel.Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if builds() != 1 || first != second {
		t.Errorf("%d builds, in %s and %s; want one", builds(), first.Dir, second.Dir)
	}
	if !strings.Contains(out.String(), "compiled 1 of about ") && !strings.Contains(out.String(), "preparing") {
		t.Errorf("no progress was shown:\n%s", &out)
	}
	c, err := first.Config()
	if err != nil {
		t.Fatal(err)
	}
	if lost := wanted(t, "amd64").Lost(c); lost != nil {
		t.Errorf("lost of the fragments: %v", lost)
	}
	if c.Get("SOUND_CARD") != "n" {
		t.Error("what the defconfig wants as a module was built in")
	}

	// Elsewhere it is the same source, and a changed source is another one.
	moved := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(moved, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	o.Source = moved
	if k, err := kernel.Make(t.Context(), o); err != nil || k != first {
		t.Errorf("from a copy of the source: got %v, %v; want %v", k, err, first)
	}
	write(t, filepath.Join(moved, "Kbuild"), "# changed\n")
	if k, err := kernel.Make(t.Context(), o); err != nil || k == first {
		t.Errorf("from a changed source: got %v, %v; want another kernel", k, err)
	}
}

// TestResultIsAKernelPackage: gok finds it by go list, and takes these files.
func TestResultIsAKernelPackage(t *testing.T) {
	source, _ := toy(t, ok)
	k, err := kernel.Make(t.Context(), toyOptions(t, source))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(k.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"build.log", "cmdline.txt", "config", "config.txt", "go.mod", "kernel.go", "key", "version", "vmlinuz"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-mod=mod", "-f", "{{.Name}} {{.Dir}}", kernel.GokrazyModule)
	list.Dir = k.Dir
	out, err := list.CombinedOutput()
	if got, want := strings.TrimSpace(string(out)), "kernel "+k.Dir; err != nil || got != want {
		t.Errorf("go list: got %q, %v; want %q", got, err, want)
	}
	cmdline, err := os.ReadFile(filepath.Join(k.Dir, "cmdline.txt"))
	if err != nil || !strings.Contains(string(cmdline), "root=/dev/sda2 ") { // what gok replaces
		t.Errorf("cmdline.txt is %q, %v", cmdline, err)
	}
}

func TestMakersOfOneKernelBuildItOnce(t *testing.T) {
	source, builds := toy(t, "\tsleep 0.3\n"+ok)
	o := toyOptions(t, source)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := kernel.Make(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if builds() != 1 {
		t.Errorf("%d builds, want 1", builds())
	}
}

func TestFailedBuildLeavesItsLogOnly(t *testing.T) {
	source, _ := toy(t, "\techo 'net/a.c:7: error: it does not compile'; exit 1\n")
	o := toyOptions(t, source)
	_, err := kernel.Make(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "it does not compile") {
		t.Fatalf("got error %v, want one that shows the compiler's", err)
	}
	left := visible(t, o.Cache)
	if len(left) != 1 || !strings.HasSuffix(left[0], ".failed.log") || !strings.Contains(err.Error(), left[0]) {
		t.Errorf("left in the cache: %v, want a log that the error names: %v", left, err)
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	// The build says that it runs, and goes on for longer than tests may.
	source, _ := toy(t, "\techo running > "+started+"; sleep 3600\n")
	o := toyOptions(t, source)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = os.ReadFile(started) // until make has written
		cancel()
	}()
	if _, err := kernel.Make(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if left := visible(t, o.Cache); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
}

// visible returns what is in a cache besides locks.
func visible(t *testing.T, cache string) []string {
	t.Helper()
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestLineThatFallsAwayFailsTheBuild(t *testing.T) {
	source, builds := toy(t, ok)
	makefile, err := os.ReadFile(filepath.Join(source, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(source, "Makefile"), strings.Replace(string(makefile), "olddefconfig:\n",
		"olddefconfig:\n\tsed -i '/^CONFIG_WIREGUARD=/d' $(O)/.config\n", 1))
	_, err = kernel.Make(t.Context(), toyOptions(t, source))
	for _, want := range []string{
		"CONFIG_WIREGUARD: wanted y, is n",
		"CONFIG_WIREGUARD is n and must be on: tunnels",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
	if builds() != 0 {
		t.Error("it was built all the same")
	}
}

func TestSharedCacheIsNeverWritten(t *testing.T) {
	source, builds := toy(t, ok)
	o := toyOptions(t, source)
	o.Shared = t.TempDir()
	if err := os.Chmod(o.Shared, 0o555); err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Make(t.Context(), o)
	if err != nil || filepath.Dir(k.Dir) != o.Cache {
		t.Fatalf("got %v, %v; want a kernel in the user's cache", k, err)
	}
	// Another user, who has the first one's cache as the shared one.
	o.Shared, o.Cache = o.Cache, filepath.Join(t.TempDir(), "none", "yet")
	if again, err := kernel.Make(t.Context(), o); err != nil || again != k || builds() != 1 {
		t.Errorf("got %v, %v after %d builds; want the shared one", again, err, builds())
	}
	if _, err := os.Stat(o.Cache); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the user's cache was touched: %v", err)
	}
}

func TestEstimate(t *testing.T) {
	p := kernel.NewProgress(1000)
	for _, tt := range []struct {
		done    int
		elapsed time.Duration
		want    string
	}{
		{0, time.Minute, "preparing"},
		{10, time.Second, "compiled 10 of about 1000 objects"},
		{250, 3 * time.Minute, "compiled 250 of about 1000 objects (25 %), about 10 min left"},
		{990, 10 * time.Minute, "compiled 990 of about 1000 objects (99 %), about 20 s left"},
		{1000, 10 * time.Minute, "compiled 1000 objects, linking and packing"},
		{1100, 11 * time.Minute, "compiled 1100 objects, linking and packing"},
	} {
		for range tt.done {
			p.See("  CC      net/core/dev.o\n")
		}
		for range 3 {
			p.See("  LD      vmlinux.o\n")
		}
		if got := p.Estimate(tt.elapsed); got != tt.want {
			t.Errorf("after %d objects: got %q, want %q", tt.done, got, tt.want)
		}
		p = kernel.NewProgress(1000)
	}
}

func TestVersionsAreOrderedAsByDebian(t *testing.T) {
	versions := []string{"", "6.12~rc1", "6.12.9-1", "6.12.10-1~deb12u1", "6.12.10-1", "6.12.10-1+b1", "6.12.010-2", "6.13"}
	for i := range versions[1:] {
		a, b := versions[i], versions[i+1]
		if kernel.CompareVersions(a, b) >= 0 || kernel.CompareVersions(b, a) <= 0 {
			t.Errorf("%q is not before %q", a, b)
		}
	}
	for _, v := range versions {
		if kernel.CompareVersions(v, v) != 0 {
			t.Errorf("%q is not itself", v)
		}
	}
}
