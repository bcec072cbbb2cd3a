package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// builder makes one kernel.
type builder struct {
	Options
	recipe Recipe
	source source
	dir    string // for everything that is not the result; nobody else uses it
}

func (b *builder) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}

// build builds the kernel and moves it into the cache. Of a build that fails only
// the log is left.
func (b *builder) build(ctx context.Context) (Kernel, error) {
	// What is there is left from a build that was killed: we hold the lock.
	if err := os.RemoveAll(b.dir); err != nil {
		return Kernel{}, err
	}
	if err := os.MkdirAll(b.path("obj"), 0o755); err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(b.dir)
	log, err := os.Create(b.path("build.log"))
	if err != nil {
		return Kernel{}, err
	}
	defer log.Close()

	started := time.Now()
	fmt.Fprintf(b.Out, "building Linux %s for %s with %s (key %s)\n", b.source.version, b.Arch.Name, b.recipe.Compiler, b.recipe.Key())
	k, err := b.steps(ctx, log)
	if err == nil {
		_ = os.Remove(b.failedLog()) // of an earlier build, if there is one
		fmt.Fprintf(b.Out, "built in %s\n", time.Since(started).Round(time.Second))
		return k, nil
	}
	if ctx.Err() != nil {
		return Kernel{}, fmt.Errorf("build the kernel: %w", ctx.Err())
	}
	kept := b.failedLog()
	if os.Rename(log.Name(), kept) == nil {
		err = fmt.Errorf("%w\n\tthe whole log: %s", err, kept)
	}
	return Kernel{}, fmt.Errorf("build the kernel: %w", err)
}

// failedLog is where the log of a build that failed is kept until one succeeds.
func (b *builder) failedLog() string { return filepath.Join(b.Cache, b.recipe.Key()+".failed.log") }

func (b *builder) steps(ctx context.Context, log io.Writer) (Kernel, error) {
	if b.source.tarball != "" {
		fmt.Fprintln(b.Out, "unpacking the source")
	}
	src, err := b.source.unpack(ctx, b.path("src"))
	if err != nil {
		return Kernel{}, err
	}
	if err := b.configure(ctx, src, log); err != nil {
		return Kernel{}, err
	}
	if err := b.compile(ctx, src, log); err != nil {
		return Kernel{}, err
	}
	return b.collect()
}

// configure writes the configuration and makes sure that it came out as asked for.
func (b *builder) configure(ctx context.Context, src string, log io.Writer) error {
	base, err := os.ReadFile(filepath.Join(src, "arch", b.Arch.srcarch, "configs", b.Arch.defconfig))
	if err != nil {
		return err
	}
	wanted, err := b.Arch.Wanted()
	if err != nil {
		return err
	}
	// The fragments go over the short defconfig and not over the complete .config
	// that it becomes: there, options stay on that only a driver now off had selected.
	start := ParseConfig(string(base)).WithoutModules().Overlay(wanted)
	if err := os.WriteFile(b.path("obj", ".config"), []byte(start), 0o644); err != nil {
		return err
	}
	if err := b.make(ctx, src, func(line string) { fmt.Fprint(log, line) }, "olddefconfig"); err != nil {
		return err
	}
	result, err := os.ReadFile(b.path("obj", ".config"))
	if err != nil {
		return err
	}
	options, err := ReadKconfig(os.DirFS(src), b.Arch.srcarch)
	if err != nil {
		return err
	}
	return Check(b.Arch.Name, wanted, ParseConfig(string(result)), options)
}

// compile makes the kernel and shows how far it is.
func (b *builder) compile(ctx context.Context, src string, log io.Writer) error {
	p := progress{total: b.expected()}
	r := reporter{w: b.Out, terminal: b.Terminal}
	defer r.end()
	started := time.Now()
	return b.make(ctx, src, func(line string) {
		fmt.Fprint(log, line)
		p.see(line)
		r.show(time.Now(), p.estimate(time.Since(started)))
	}, fmt.Sprintf("--jobs=%d", runtime.NumCPU()), b.Arch.image)
}

// tail is how many lines of make's are shown when it fails.
const tail = 25

// make runs the kernel's makefile and calls see with each line of output. Nothing of
// this machine gets into the kernel: no user, no host, no time, no folder.
func (b *builder) make(ctx context.Context, src string, see func(line string), args ...string) error {
	cmd := exec.CommandContext(ctx, "make", append([]string{
		"--directory=" + src, "--no-print-directory", "O=" + b.path("obj"), "ARCH=" + b.Arch.kbuild, "CROSS_COMPILE=" + b.Arch.cross(),
		"KBUILD_BUILD_USER=bulkhead", "KBUILD_BUILD_HOST=bulkhead", "KBUILD_BUILD_VERSION=1",
		"KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC", // of the files in the empty initramfs
		"KBUILD_BUILD_VERSION_TIMESTAMP=" + b.source.version,
	}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC"}
	// A group of its own, so that the compilers end with make.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second

	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		err := cmd.Wait()
		w.Close()
		ended <- err
	}()
	var last []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			see(line)
			last = append(last, line)
			last = last[max(0, len(last)-tail):]
		}
		if err != nil {
			break
		}
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("make %s: %w\n%s", args[len(args)-1], err, strings.Join(last, ""))
	}
	return nil
}

// collect puts the result together and moves it into the cache in one step.
func (b *builder) collect() (Kernel, error) {
	out := b.path("out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return Kernel{}, err
	}
	release, err := os.ReadFile(b.path("obj", "include", "config", "kernel.release"))
	if err != nil {
		return Kernel{}, err
	}
	for name, from := range map[string]string{
		"vmlinuz":   b.path("obj", "arch", b.Arch.srcarch, "boot", b.Arch.image),
		"config":    b.path("obj", ".config"),
		"build.log": b.path("build.log"),
	} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = writeSynced(filepath.Join(out, name), string(data))
		}
		if err != nil {
			return Kernel{}, err
		}
	}
	files := b.Arch.gokrazyFiles()
	files["version"] = strings.TrimSpace(string(release)) + "\n"
	files["key"] = b.recipe.String()
	for name, text := range files {
		if err := writeSynced(filepath.Join(out, name), text); err != nil {
			return Kernel{}, err
		}
	}
	dir := filepath.Join(b.Cache, b.recipe.Key())
	// A folder of this name can only be damaged: nobody found a kernel in it.
	if err := os.RemoveAll(dir); err != nil {
		return Kernel{}, err
	}
	if err := errors.Join(syncDir(out), os.Rename(out, dir), syncDir(b.Cache)); err != nil {
		return Kernel{}, err
	}
	return Kernel{b.recipe, dir}, nil
}

// writeSynced writes a file that is on the disk before the folder gets its name.
func writeSynced(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
