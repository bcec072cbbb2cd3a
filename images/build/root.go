package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bulkhead/services/flow/oui"
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
	if err := b.makers(); err != nil {
		return err
	}
	if err := b.permTemplate(ctx, b.inRoot(perm.Template)); err != nil {
		return err
	}
	if err := b.extraFiles(); err != nil {
		return err
	}
	if err := b.binaries(ctx); err != nil {
		return err
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

// ieeeData is where Debian's ieee-data has the lists of who makes network cards.
const ieeeData = "/usr/share/ieee-data"

// makers adds what the lists say, if they are there: without them the inventory knows
// devices by their MACs only.
func (b *builder) makers() error {
	list, err := oui.Build(ieeeData)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("list of makers: %w", err)
	}
	return b.writeRoot(strings.TrimPrefix(oui.Path, "/"), list)
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
	for _, p := range append(b.instance.programs(), program{pkg: "init", dir: "/gokrazy"}) {
		if _, err := os.Lstat(b.inRoot(p.Path())); err == nil {
			return fmt.Errorf("an extra file is in the place of the program %s", p.Path())
		}
	}
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
