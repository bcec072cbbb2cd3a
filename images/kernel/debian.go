package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// tool is a Debian package that building needs, and something it brings: a command,
// or a file.
type tool struct{ pkg, brings string }

func (a Arch) tools() []tool {
	list := []tool{
		{"make", "make"},
		{"gcc", "gcc"}, // also for the programs that the build itself runs
		{"libc6-dev", "/usr/include/stdlib.h"},
		{"binutils", "ld"},
		{"flex", "flex"},
		{"bison", "bison"},
		{"bc", "bc"},
		{"perl", "perl"},
		{"libelf-dev", "/usr/include/libelf.h"},
		{"xz-utils", "xz"},
		{"zstd", "zstd"},
	}
	if a.cross() != "" {
		list = append(list, tool{a.crossPkg, a.cross() + "gcc"})
	}
	return list
}

// missing returns those packages that have to be installed before building.
func missing(tools []tool) []string {
	var list []string
	for _, t := range tools {
		_, err := os.Stat(t.brings)
		if !strings.HasPrefix(t.brings, "/") {
			_, err = exec.LookPath(t.brings)
		}
		if err != nil {
			list = append(list, t.pkg)
		}
	}
	return list
}

// install installs Debian packages, and says so.
func install(ctx context.Context, w io.Writer, packages ...string) error {
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this is not Debian: install what its packages %s provide, or set KERNEL_SOURCE, then run again",
			strings.Join(packages, " "))
	}
	fmt.Fprintln(w, "installing", strings.Join(packages, " "))
	// Wait for another installation to end instead of failing beside it.
	apt := []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-q", "-o", "DPkg::Lock::Timeout=300"}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return fmt.Errorf("not root, and no sudo: run this as root: apt-get install %s", strings.Join(packages, " "))
		}
		apt = append([]string{"sudo"}, apt...)
	}
	run := func(args ...string) error {
		args = append(apt[:len(apt):len(apt)], args...)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	// The lists may be old or absent. What counts is whether the installation works.
	stale := run("update")
	if err := run(append([]string{"install", "-y", "--no-install-recommends"}, packages...)...); err != nil {
		return errors.Join(err, stale)
	}
	return nil
}
