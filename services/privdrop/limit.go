//go:build linux

package privdrop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limit starts the running program afresh as the root that it is, with those of caps
// that it has as its only capabilities, in no other groups than the given ones, and
// without a way to gain more. It is for the few programs that must own root's files
// or reach root's sockets. Without any capability root is bound by the modes of
// files like everybody else: another user's socket takes that user's group.
// It returns nil in the second life, and in a process that is not root. On an error
// the process still has at least the rights it needs, and may go on with them.
func Limit(groups []int, caps ...uintptr) error {
	if os.Geteuid() != 0 {
		return nil
	}
	// As in [Exec]: this thread becomes the process, and execve gives root what is
	// left in the bounding set: capabilities(7).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	drop := surplus(caps)
	if len(drop) == 0 {
		return nil
	}
	if err := setGroups(groups); err != nil {
		return err
	}
	for _, c := range drop {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return again()
}

// surplus is the capabilities of the bounding set that are not among caps.
func surplus(caps []uintptr) []uintptr {
	var list []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == nil && has == 1 && !slices.Contains(caps, c) { // an error: a kernel too old to know it
			list = append(list, c)
		}
	}
	return list
}

// setGroups leaves the process in the given groups only.
func setGroups(groups []int) error {
	old, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	if slices.Equal(old, groups) {
		return nil
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	return nil
}

// again executes the running program afresh. It returns only with an error.
func again() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	err = syscall.Exec(exe, os.Args, os.Environ())
	if errors.Is(err, unix.EACCES) {
		// The program lies where the new user may not look, such as in the directory
		// of "go test". The kernel's own link to it needs no way there.
		err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	return fmt.Errorf("exec %s: %w", exe, err)
}
