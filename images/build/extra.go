package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// extraFiles adds what the instance says that programs need besides themselves.
func (b *builder) extraFiles() error {
	// An archive may have links that lead out of the image, and files behind them.
	root, err := os.OpenRoot(b.inRoot("."))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range b.instance.programs() {
		for _, to := range slices.Sorted(maps.Keys(p.ExtraFileContents)) {
			if err := addFile(root, to, strings.NewReader(p.ExtraFileContents[to]), 0o644); err != nil {
				return fmt.Errorf("extra files of %s: %w", p.pkg, err)
			}
		}
		for _, to := range slices.Sorted(maps.Keys(p.ExtraFilePaths)) {
			from := p.ExtraFilePaths[to]
			if !filepath.IsAbs(from) {
				from = filepath.Join(b.Instance, from)
			}
			if err := addPath(root, to, from, b.Arch); err != nil {
				return fmt.Errorf("extra files of %s: %w", p.pkg, err)
			}
		}
	}
	for _, name := range []string{"etc/gokr-pw.txt", "gokr-pw.txt"} {
		if _, err := root.Lstat(name); err == nil {
			return fmt.Errorf("extra file /%s: with it gokrazy's web interface listens on every private address", name)
		}
	}
	return nil
}

// addPath adds what from names on the host. As with gok, that is from_<arch>.tar,
// from.tar, or a file or folder.
func addPath(root *os.Root, to, from, arch string) error {
	for _, archive := range []string{from + "_" + arch + ".tar", from + ".tar"} {
		f, err := os.Open(archive)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(addArchive(root, to, f), f.Close())
	}
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		dest := path.Join(to, rel)
		switch {
		case d.IsDir():
			return root.MkdirAll(local(dest), 0o755)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s: only files and folders can be added; put others into a .tar", name)
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			err = addFile(root, dest, f, info.Mode())
		}
		return errors.Join(err, f.Close())
	})
}

func addArchive(root *os.Root, to string, r io.Reader) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s leads out of the archive", h.Name)
		}
		dest := path.Join(to, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(local(dest), 0o755)
		case tar.TypeReg:
			err = addFile(root, dest, t, fs.FileMode(h.Mode))
		case tar.TypeSymlink:
			if err = root.MkdirAll(local(path.Dir(dest)), 0o755); err == nil {
				err = root.Symlink(h.Linkname, local(dest))
			}
		default:
			err = fmt.Errorf("%s: only files, folders and links can be added", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

// local makes a path in the image one below the root's folder.
func local(p string) string { return path.Join(".", p) }

// addFile adds a file that is not there yet: nothing takes the place of what the
// builder or another program brings. Of the mode, only whether it can be run is kept.
func addFile(root *os.Root, to string, r io.Reader, mode fs.FileMode) error {
	if err := root.MkdirAll(local(path.Dir(to)), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(local(to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|mode&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
