package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The Debian package that the source comes from: a kernel with long-term support,
// maintained by Debian's security team.
const (
	sourcePackage = "linux-source-6.12"
	sourceTarball = "/usr/src/linux-source-6.12.tar.xz"
)

// source is where a kernel is built from.
type source struct {
	identity string // Recipe.Source
	version  string // for people, and for "uname -v"
	tree     string // a folder; or
	tarball  string // an archive with one folder in it
}

// findSource returns the tree that somebody names, or what Debian's package
// installed. With neither the error wraps [fs.ErrNotExist].
func findSource(ctx context.Context, tree string) (source, error) {
	if tree != "" {
		sum, err := treeDigest(tree)
		if err != nil {
			return source{}, fmt.Errorf("read KERNEL_SOURCE: %w", err)
		}
		return source{identity: "tree " + sum[:16], version: "tree " + sum[:16], tree: tree}, nil
	}
	out, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", sourcePackage).Output()
	if err != nil && ctx.Err() != nil {
		return source{}, ctx.Err()
	}
	version, installed := strings.CutPrefix(string(out), "installed ")
	if _, err := os.Stat(sourceTarball); err != nil || !installed {
		return source{}, fmt.Errorf("package %s of Debian is not installed: %w", sourcePackage, fs.ErrNotExist)
	}
	return source{identity: "debian " + version, version: version, tarball: sourceTarball}, nil
}

// treeDigest returns a hash of the files of a source tree: names, contents, links
// and whether they are executable. Times and the history of git do not count.
func treeDigest(dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, "Kbuild")); err != nil {
		return "", fmt.Errorf("%s is not a kernel source: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	sum := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".git":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := root.Readlink(name)
			fmt.Fprintf(sum, "%q -> %q\n", name, target)
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		i, err := f.Stat()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %t %d\n", name, i.Mode()&0o100 != 0, i.Size())
		_, err = io.Copy(sum, f)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// unpack returns the folder with the source: the named tree itself, or the archive
// unpacked below dir.
func (s source) unpack(ctx context.Context, dir string) (string, error) {
	if s.tree != "" {
		return filepath.Abs(s.tree)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	// Left out are the documentation, but for its Kconfig, and the tests: a tenth of
	// all files.
	cmd := exec.CommandContext(ctx, "tar", "--extract", "--file", s.tarball, "--directory", dir, "--strip-components=1",
		"--no-same-owner", "--exclude=*/Documentation/*/*", "--exclude=*/tools/testing/*/*")
	cmd.Env = append(os.Environ(), "XZ_DEFAULTS=--threads=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w\n%s", s.tarball, err, out)
	}
	return dir, nil
}

// compilerVersion returns the compiler of an architecture as it counts for the
// recipe, with its major version only: "gcc 12". Without that compiler the error
// wraps [fs.ErrNotExist].
func compilerVersion(ctx context.Context, a Arch) (string, error) {
	out, err := exec.CommandContext(ctx, a.cross()+"gcc", "-dumpversion").Output()
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fs.ErrNotExist
		}
		return "", fmt.Errorf("ask %sgcc for its version: %w", a.cross(), err)
	}
	major, _, _ := strings.Cut(string(bytes.TrimSpace(out)), ".")
	return "gcc " + major, nil
}
