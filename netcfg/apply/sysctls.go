//go:build linux

package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/netcfg/state"
)

// sysctlRoot holds the kernel's settings. Those below net differ by network
// namespace, and which one is meant is decided by the thread that opens the file,
// whatever the path: there is no way to it through another process's directory in
// /proc. So whoever touches it must be inside the namespace.
const sysctlRoot = "/proc/sys"

func sysctlPath(key string) (string, error) {
	if !filepath.IsLocal(key) || filepath.Clean(key) != key {
		return "", fmt.Errorf("setting %q: %w", key, fs.ErrInvalid)
	}
	return filepath.Join(sysctlRoot, key), nil
}

func (k *Kernel) setSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	err = k.inside(func() error {
		if _, err := os.Stat(path); err != nil {
			return err // rather than O_CREATE's "permission denied" from procfs
		}
		return os.WriteFile(path, []byte(value), 0)
	})
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		err = perr.Err // the path says the same as the key
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", key, value, err)
	}
	return nil
}

// sysctls reads the settings that are wanted. One that does not exist has the
// value "", which no setting is asked to have: the link that it belongs to is yet
// to be made, or the kernel lacks what it switches. If what it lacks is IPv6 as a
// whole, settings of it are as wanted, since all of them are there to keep it shut.
func (k *Kernel) sysctls(want []state.Sysctl) ([]state.Sysctl, error) {
	list := make([]state.Sysctl, len(want))
	err := k.inside(func() error {
		_, err := os.Stat(filepath.Join(sysctlRoot, "net/ipv6"))
		noIPv6 := errors.Is(err, fs.ErrNotExist)
		for i, w := range want {
			if noIPv6 && strings.HasPrefix(w.Key, "net/ipv6/") {
				list[i] = w
				continue
			}
			path, err := sysctlPath(w.Key)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("read setting: %w", err)
			}
			list[i] = state.Sysctl{Key: w.Key, Value: strings.Join(strings.Fields(string(data)), " ")}
		}
		return nil
	})
	return list, err
}
