package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options says where [Make] finds things.
type Options struct {
	Arch   Arch
	Source string // folder of a kernel source; "": the one of Debian's package
	Shared string // cache that is looked at first and never written; "": none
	Cache  string // cache of the user
	Out    io.Writer
	// Terminal says that Out is one, so that lines can be written over.
	Terminal bool

	tools []tool // that building needs; nil: those of the architecture
}

// CacheDir returns the user's cache of kernels.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "bulkhead", "kernel"), err
}

// FromEnvironment returns options with the sources and caches that KERNEL_SOURCE and
// KERNEL_CACHE name beside the user's cache.
func FromEnvironment(a Arch) (Options, error) {
	cache, err := CacheDir()
	return Options{Arch: a, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache, Out: io.Discard}, err
}

func (o Options) folders() []string {
	return slices.DeleteFunc([]string{o.Shared, o.Cache}, func(s string) bool { return s == "" })
}

// recipe returns what a build would be made of, as far as that is known: without
// source or compiler on this machine they stay empty.
func (o Options) recipe(ctx context.Context) (Recipe, source, error) {
	wanted, err := o.Arch.Wanted()
	if err != nil {
		return Recipe{}, source{}, err
	}
	r := Recipe{Arch: o.Arch.Name, Config: digest(wanted.String())}
	src, err := findSource(ctx, o.Source)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Recipe{}, source{}, err
	}
	r.Source = src.identity
	if r.Compiler, err = compilerVersion(ctx, o.Arch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Recipe{}, source{}, err
	}
	return r, src, nil
}

// Lookup returns the kernel that [Make] would return without building one. On a
// machine without the source's package, which then cannot say which version is
// wanted, that is the newest of the right configuration. The error wraps
// [fs.ErrNotExist] if there is none.
func Lookup(ctx context.Context, o Options) (Kernel, error) {
	want, _, err := o.recipe(ctx)
	if err != nil {
		return Kernel{}, err
	}
	return Find(o.folders(), want)
}

// Make returns the kernel of an architecture: out of a cache, or built, for which it
// installs what is missing. Two that want the same kernel at once build it once.
func Make(ctx context.Context, o Options) (Kernel, error) {
	want, _, err := o.recipe(ctx)
	if err != nil {
		return Kernel{}, err
	}
	k, err := Find(o.folders(), want)
	if err == nil && want.Source == "" {
		fmt.Fprintf(o.Out, "%s is not installed: taking the newest kernel that was built of it, %s\n", sourcePackage, k.Source)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if o.tools == nil {
		o.tools = o.Arch.tools()
	}
	packages := missing(o.tools)
	if want.Source == "" {
		packages = append(packages, sourcePackage)
	}
	if err := install(ctx, o.Out, packages...); err != nil {
		return Kernel{}, err
	}
	want, src, err := o.recipe(ctx) // again, with what was installed
	if err != nil {
		return Kernel{}, err
	}
	if want.Source == "" || want.Compiler == "" {
		return Kernel{}, fmt.Errorf("build a kernel for %s: source or compiler still missing", o.Arch.Name)
	}
	unlock, err := lock(ctx, o, want.Key())
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if k, err := Find(o.folders(), want); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	b := builder{Options: o, recipe: want, source: src, dir: filepath.Join(o.Cache, "."+want.Key()+".building")}
	return b.build(ctx)
}

// lock waits until nobody else builds the kernel with this key.
func lock(ctx context.Context, o Options, key string) (unlock func(), err error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(o.Cache, "."+key+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		// Not the blocking kind, which no context ends.
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if !said {
			fmt.Fprintln(o.Out, "somebody else is building this kernel: waiting")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// expected returns how many objects a build compiles: as many as the last one of the
// architecture did.
func (o Options) expected() int {
	count, newest := o.Arch.objects, time.Time{}
	for _, folder := range o.folders() {
		entries, _ := os.ReadDir(folder) // without one there is an estimate
		for _, e := range entries {
			k, ok := open(filepath.Join(folder, e.Name()))
			if !ok || k.Arch != o.Arch.Name {
				continue
			}
			log := filepath.Join(k.Dir, "build.log")
			i, err := os.Stat(log)
			if err != nil || !i.ModTime().After(newest) {
				continue
			}
			text, err := os.ReadFile(log)
			if err != nil {
				continue
			}
			var p progress
			for line := range strings.Lines(string(text)) {
				p.see(line)
			}
			if p.done > 0 {
				count, newest = p.done, i.ModTime()
			}
		}
	}
	return count
}
