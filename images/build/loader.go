package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// The boot loader is systemd-boot, from Debian: it counts tries.
const (
	loaderPackage = "systemd-boot-efi"
	loaderDir     = "/usr/lib/systemd/boot/efi"
)

// loaderName is what the firmware looks for on a disk.
func loaderName(arch string) string {
	if arch == "arm64" {
		return "BOOTAA64.EFI"
	}
	return "BOOTX64.EFI"
}

func loaderFile(arch string) string {
	if arch == "arm64" {
		return "systemd-bootaa64.efi"
	}
	return "systemd-bootx64.efi"
}

// bootLoader returns the path of the boot loader for the architecture: the installed
// one, or one of the same version that was fetched for another architecture.
func (b *builder) bootLoader(ctx context.Context) (string, error) {
	installed := filepath.Join(loaderDir, loaderFile(b.Arch))
	if isFile(installed) {
		return installed, nil
	}
	version := debianVersion(ctx, loaderPackage)
	if version == "unknown" {
		return "", fmt.Errorf("%s of Debian is not installed; run .ci/deps image: %w", loaderPackage, fs.ErrNotExist)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cached := filepath.Join(cache, "bulkhead", loaderPackage, version, loaderFile(b.Arch))
	if isFile(cached) {
		return cached, nil
	}
	fmt.Fprintf(b.Log, "fetching %s %s for %s from Debian\n", loaderPackage, version, b.Arch)
	if err := b.fetchLoader(ctx, version, cached); err != nil {
		return "", fmt.Errorf("fetch %s for %s: %w", loaderPackage, b.Arch, err)
	}
	return cached, nil
}

// fetchLoader takes the boot loader out of Debian's package for the architecture. apt
// gets a state of its own, so that this machine's stays as it is.
func (b *builder) fetchLoader(ctx context.Context, version, to string) error {
	dir := filepath.Join(b.work, "apt")
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "deb"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return err
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-q",
			"-o", "Dir::State=" + filepath.Join(dir, "state"), "-o", "Dir::State::status=" + filepath.Join(dir, "status"),
			"-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Architecture=" + b.Arch, "-o", "APT::Architectures=" + b.Arch,
			"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %v: %w\n%s", args, err, out)
		}
		return nil
	}
	stale := apt("update") // sources that are no Debian's may lack the architecture
	if err := apt("download", loaderPackage+":"+b.Arch+"="+version); err != nil {
		return errors.Join(err, stale)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download left %q: %w", debs, err)
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", debs[0], filepath.Join(dir, "deb")).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", debs[0], err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "deb", loaderDir, loaderFile(b.Arch)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(to, data, 0o644)
}
