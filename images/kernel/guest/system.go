//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts mounts what gokrazy mounts.
func mounts() error {
	var errs []error
	for _, m := range [][2]string{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"},
		{"tmpfs", "/run"}, {"tmpfs", "/tmp"}, {"cgroup2", "/sys/fs/cgroup"}, {"securityfs", "/sys/kernel/security"},
	} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			errs = append(errs, err)
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m[0], m[1], err))
		}
	}
	return errors.Join(errs...)
}

func fileSystems() error {
	text, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	known := strings.Fields(string(text))
	var errs []error
	for _, want := range []string{"squashfs", "ext4", "vfat"} {
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+want+" ") {
			errs = append(errs, fmt.Errorf("no %s", want))
		}
	}
	return errors.Join(errs...)
}

// closed tries the ways into the kernel that are to be shut, as root.
func closed() error {
	var errs []error
	shut := func(what string, want unix.Errno, nr, a, b uintptr) {
		if _, _, got := unix.Syscall(nr, a, b, 0); got != want {
			errs = append(errs, fmt.Errorf("%s: got %v, want %v", what, got, want))
		}
	}
	shut("load a module", unix.ENOSYS, unix.SYS_INIT_MODULE, 0, 0)
	shut("load a kernel", unix.ENOSYS, unix.SYS_KEXEC_LOAD, 0, 0)
	shut("load a kernel file", unix.ENOSYS, unix.SYS_KEXEC_FILE_LOAD, 0, 0)
	shut("bpf", unix.ENOSYS, unix.SYS_BPF, 0, 0)
	shut("io_uring", unix.ENOSYS, unix.SYS_IO_URING_SETUP, 1, 0)
	shut("userfaultfd", unix.ENOSYS, unix.SYS_USERFAULTFD, 0, 0)
	shut("user namespace", unix.EINVAL, unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0)
	for _, name := range []string{"/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore", "/proc/modules"} {
		if _, err := os.Lstat(name); err == nil {
			errs = append(errs, fmt.Errorf("there is %s", name))
		}
	}
	if err := unix.Mount("debugfs", "/tmp", "debugfs", 0, ""); !errors.Is(err, unix.ENODEV) {
		errs = append(errs, fmt.Errorf("mount debugfs: got %v, want %v", err, unix.ENODEV))
	}
	return errors.Join(errs...)
}

func landlock() error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	if version < 4 { // from there on it also narrows TCP ports
		return fmt.Errorf("version %d, want at least 4", version)
	}
	return nil
}

func lockdown() error {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "[integrity]") {
		return fmt.Errorf("it is %q, want integrity", strings.TrimSpace(string(text)))
	}
	return nil
}
