//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that netcfgd needs of root's.
var kept = []uintptr{
	unix.CAP_NET_ADMIN, // netlink, /proc/sys/net
	// The services' directories belong to the services: netcfgd makes them, gives
	// them away with the group that reads there, and writes and reads in them.
	unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_DAC_OVERRIDE,
}

// limit starts the program afresh without the capabilities that it does not need,
// and without a way to get them back. It returns nil in the second life, and in a
// process that is not root.
func limit() error {
	if os.Geteuid() != 0 {
		return nil
	}
	// Capabilities belong to the thread; execve makes this thread the process, and
	// gives root what is left in the bounding set: capabilities(7).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dropped := false
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil || has == 0 || slices.Contains(kept, c) { // an error: a kernel too old to know it
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
		dropped = true
	}
	if !dropped {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	return fmt.Errorf("exec %s: %w", exe, syscall.Exec(exe, os.Args, os.Environ()))
}
