//go:build linux

package privdrop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir makes base/name a directory of the given owner and group with mode 2750 and
// returns its path. The set-group-ID bit lets files made in it belong to its group,
// so that a service can write for a reader whose group it is not in. A directory
// that is there already gets that owner, group and mode; what is in it is left
// alone. base is made with mode 0755 if need be, parents included.
//
// name is one path element and may not be a symbolic link: base/name may lie in
// what another service could once write to, and root follows no one's pointers.
//
// A process that is not root makes the directory for itself and owner and group
// are ignored, so that tests and laboratories run as they are.
func Dir(base, name string, owner, group int) (string, error) {
	path := filepath.Join(base, name)
	if name == "" || name == "." || name == ".." || name != filepath.Base(name) {
		return "", fmt.Errorf("prepare %s: %q is not one path element", path, name)
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	parent, err := unix.Open(base, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", base, err)
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, name, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("create %s: %w", path, err)
	}
	dir, err := unix.Openat(parent, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s without following links: %w", path, err)
	}
	defer unix.Close(dir)
	if os.Geteuid() != 0 {
		return path, nil
	}
	if err := unix.Fchown(dir, owner, group); err != nil {
		return "", fmt.Errorf("give %s to user %d, group %d: %w", path, owner, group, err)
	}
	if err := unix.Fchmod(dir, unix.S_ISGID|0o750); err != nil {
		return "", fmt.Errorf("set mode of %s: %w", path, err)
	}
	return path, nil
}
