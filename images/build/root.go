package build

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bulkhead/services/update/manifest"
	"bulkhead/services/update/perm"
)

// caBundle is where Debian has the certificates that it trusts, in one file.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// rootTree lays out the root file system in a folder: what gokrazy's init expects,
// the programs, and what is Bulkhead's own.
func (b *builder) rootTree(ctx context.Context) error {
	for _, dir := range []string{"bin", "dev", "etc/bulkhead", "etc/gokrazy", "etc/ssl", "gokrazy", "mnt", "perm", "proc", "run", "sys", "tmp", "user", "usr/share/bulkhead"} {
		if err := os.MkdirAll(b.inRoot(dir), 0o755); err != nil {
			return err
		}
	}
	for _, m := range b.instance.MountDevices {
		if err := os.MkdirAll(b.inRoot(m.Target), 0o755); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"var": "/perm/var", "etc/resolv.conf": "/tmp/resolv.conf"} {
		if err := os.Symlink(to, b.inRoot(link)); err != nil {
			return err
		}
	}
	info, err := json.Marshal(b.info)
	if err != nil {
		return err
	}
	mounts, err := b.instance.mountDevices()
	if err != nil {
		return err
	}
	certificates, err := os.ReadFile(caBundle)
	if err != nil {
		return err
	}
	host := b.instance.Hostname
	for name, data := range map[string][]byte{
		"etc/hostname":                      []byte(host),
		"etc/hosts":                         []byte("127.0.0.1 localhost " + host + "\n::1 localhost\n"),
		"etc/ssl/ca-bundle.pem":             certificates,
		"etc/gokrazy/mountdevices.json":     mounts,
		"etc/bulkhead/" + manifest.InfoFile: append(info, '\n'),
	} {
		if err := b.writeRoot(name, data); err != nil {
			return err
		}
	}
	if err := b.permTemplate(ctx, b.inRoot(perm.Template)); err != nil {
		return err
	}
	if err := b.binaries(ctx); err != nil {
		return err
	}
	for _, p := range b.instance.programs() {
		if err := b.extraFiles(p.PackageConfig); err != nil {
			return fmt.Errorf("extra files of %s: %w", p.pkg, err)
		}
	}
	sbom, err := b.sbom(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.sbomFile(), sbom, 0o644); err != nil {
		return err
	}
	return b.writeRoot("etc/gokrazy/sbom.json", sbom)
}

func (b *builder) inRoot(path string) string { return filepath.Join(b.work, "root", path) }

func (b *builder) writeRoot(name string, data []byte) error {
	path := b.inRoot(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func (b *builder) binaries(ctx context.Context) error {
	byDir := map[string][]program{}
	for _, p := range b.instance.programs() {
		byDir[p.dir] = append(byDir[p.dir], p)
	}
	for dir, list := range byDir {
		if err := b.compile(ctx, b.inRoot(dir), list); err != nil {
			return err
		}
	}
	return b.compileInit(ctx, b.inRoot("gokrazy/init"), b.instance.programs())
}

// extraFiles adds what an instance says that a program needs. As with gok, a path on
// the host names "path_<arch>.tar", "path.tar", or a file or folder.
func (b *builder) extraFiles(c PackageConfig) error {
	for _, to := range slices.Sorted(maps.Keys(c.ExtraFileContents)) {
		if err := b.newFile(to, strings.NewReader(c.ExtraFileContents[to]), 0o644); err != nil {
			return err
		}
	}
	for _, to := range slices.Sorted(maps.Keys(c.ExtraFilePaths)) {
		from := c.ExtraFilePaths[to]
		if !filepath.IsAbs(from) {
			from = filepath.Join(b.Instance, from)
		}
		if err := b.extraPath(to, from); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) extraPath(to, from string) error {
	for _, archive := range []string{from + "_" + b.Arch + ".tar", from + ".tar"} {
		f, err := os.Open(archive)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return b.unpack(to, f)
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(b.inRoot(dest), 0o755)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s: only files and folders can be added; put others into a .tar", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		i, err := f.Stat()
		if err != nil {
			return err
		}
		return b.newFile(dest, f, i.Mode())
	})
}

func (b *builder) unpack(to string, r io.Reader) error {
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
		dest := filepath.Join(to, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(b.inRoot(dest), 0o755)
		case tar.TypeReg:
			err = b.newFile(dest, t, fs.FileMode(h.Mode))
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, b.inRoot(dest))
		default:
			err = fmt.Errorf("%s: only files, folders and links can be added", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

// newFile adds a file that is not there yet: nothing takes the place of what the
// builder or another program brings. Of the mode, only whether it can be run is kept.
func (b *builder) newFile(to string, r io.Reader, mode fs.FileMode) error {
	path := b.inRoot(to)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|mode&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// squash makes the root's image of the folder.
func (b *builder) squash(ctx context.Context) error {
	// The folder's modes come from the caller's umask.
	err := filepath.WalkDir(b.inRoot("."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() || i.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		return err
	}
	seconds := strconv.FormatInt(b.Revision.Time.Unix(), 10)
	_, err = b.tool(ctx, "mksquashfs", b.inRoot("."), b.rootImage(), "-noappend", "-all-root", "-no-xattrs",
		"-mkfs-time", seconds, "-all-time", seconds, "-comp", "zstd", "-b", "131072", "-quiet", "-no-progress")
	return err
}
