//go:build linux

// Package privdrop turns a service that gokrazy starts as root into one that holds
// only the capabilities it names, as a user of its own or as a root without the
// rest, and prepares the directories it will then own.
//
// It never gives anything back: there is no way from the second life to the first.
package privdrop

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Exec starts the running program afresh as user and group id, without other
// groups, with caps (such as [unix.CAP_NET_RAW]) as its only capabilities, the
// ambient and the bounding set included, and no way to gain more. Arguments,
// environment and process ID stay, so gokrazy goes on supervising it.
//
// Call it in main, before anything that matters. It returns nil at once in a
// process that is not root: the second life, or a test. In a root process it does
// not return unless it fails, and the caller must then exit: this thread may have
// lost some of its rights already.
func Exec(id int, caps ...uintptr) error {
	if os.Geteuid() != 0 {
		return nil
	}
	// Linux keeps credentials per thread, and execve makes the calling thread the
	// process. So this thread alone is stripped; the others are gone in a moment.
	runtime.LockOSThread()
	if err := strip(id, caps); err != nil {
		return err
	}
	return again()
}

// strip takes from the calling thread all but caps, and makes it user id.
func strip(id int, caps []uintptr) error {
	var sets [2]unix.CapUserData
	keep := make(map[uintptr]bool, len(caps))
	for _, c := range caps {
		keep[c] = true
		set, bit := &sets[c/32], uint32(1)<<(c%32)
		set.Permitted |= bit
		set.Effective |= bit
		set.Inheritable |= bit // or the ambient set refuses it
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep[c] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && err != unix.EINVAL { // EINVAL: a kernel too old to know it
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		// Leaving uid 0 clears the permitted set unless asked not to.
		{"keep capabilities", func() error { return unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) }},
		{"clear groups", func() error { return thread(unix.SYS_SETGROUPS, 0, 0, 0) }},
		{"set group", func() error { return thread(unix.SYS_SETRESGID, id, id, id) }},
		{"set user", func() error { return thread(unix.SYS_SETRESUID, id, id, id) }},
		{"set capabilities", func() error {
			return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0])
		}},
		{"forbid new privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	for _, c := range caps {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return fmt.Errorf("pass on capability %d: %w", c, err)
		}
	}
	return nil
}

// thread makes a system call on this thread only, where the syscall package's
// wrappers would repeat it on all of them.
func thread(nr uintptr, a, b, c int) error {
	if _, _, errno := unix.RawSyscall(nr, uintptr(a), uintptr(b), uintptr(c)); errno != 0 {
		return errno
	}
	return nil
}
