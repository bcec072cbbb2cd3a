//go:build linux

package update

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/perm"
)

// MountPerm makes sure that /perm is there, where init has not done so: gok's init does
// not make it. It is for the beginning of a process that may still mount.
func MountPerm(ctx context.Context, log *slog.Logger) error {
	may, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_ADMIN, 0, 0, 0)
	if err != nil || may == 0 {
		return nil // it was done before that was given up, or cannot be
	}
	var root, own unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return fmt.Errorf("stat /: %w", err)
	}
	if err := unix.Stat("/perm", &own); err == nil && own.Dev != root.Dev {
		return nil
	}
	return perm.Prepare(ctx, log)
}
