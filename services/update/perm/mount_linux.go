package perm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
)

// mountFlags: nothing on /perm is a program or a device, and no service needs to know
// when files were read.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// mount mounts the partition, or changes the flags of the mount that is there.
func (p preparer) mount() error {
	mounted, err := p.mounted()
	if err != nil {
		return err
	}
	if mounted {
		if err := unix.Mount("", p.target, "", unix.MS_REMOUNT|mountFlags, ""); err != nil {
			return fmt.Errorf("mount %s again with other flags: %w", p.target, err)
		}
		return nil
	}
	if err := unix.Mount(p.node(), p.target, "ext4", mountFlags, ""); err != nil {
		return fmt.Errorf("%w: mount %s: %w", ErrDamaged, p.node(), err)
	}
	return nil
}

func (p preparer) unmount() error {
	mounted, err := p.mounted()
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(p.target, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", p.target, err)
	}
	return nil
}

// unmountForeign unmounts what is not of the running system's disk: gokrazy's init
// takes the last disk whose first partition has the right GUID, and all disks with
// the same image have it.
func (p preparer) unmountForeign() error {
	var own, parent unix.Stat_t
	if err := unix.Stat(p.target, &own); err != nil {
		return fmt.Errorf("stat %s: %w", p.target, err)
	}
	if err := unix.Stat(filepath.Dir(p.target), &parent); err != nil {
		return fmt.Errorf("stat %s: %w", filepath.Dir(p.target), err)
	}
	ours, err := p.mounted()
	if err != nil || ours || own.Dev == parent.Dev {
		return err
	}
	p.log.Warn("something else was mounted on /perm", "device", fmt.Sprintf("%d:%d", unix.Major(own.Dev), unix.Minor(own.Dev)))
	if err := unix.Unmount(p.target, 0); err != nil {
		return fmt.Errorf("unmount what is on %s: %w", p.target, err)
	}
	return nil
}

// growFileSystem makes the file system as large as its partition. It does nothing if
// that is so already.
func (p preparer) growFileSystem() error {
	node, err := os.Open(p.node())
	if err != nil {
		return err
	}
	defer node.Close()
	bytes, err := disk.Bytes(node)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.target, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", p.target, err)
	}
	dir, err := os.Open(p.target)
	if err != nil {
		return err
	}
	defer dir.Close()
	blocks := uint64(bytes) / uint64(st.Bsize)
	if err := p.resize(dir, blocks); err != nil {
		return fmt.Errorf("grow the file system of %s to %d blocks: %w", p.target, blocks, err)
	}
	return nil
}

// resizeExt4 changes the number of blocks of the file system that dir is on. It takes
// CAP_SYS_RESOURCE.
func resizeExt4(dir *os.File, blocks uint64) error {
	const resize = 0x40086610 // EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), resize, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		return errno
	}
	return nil
}

func discardRange(f *os.File, from, length uint64) error {
	span := [2]uint64{from, length}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span)))
	if errno != 0 && !errors.Is(errno, unix.EOPNOTSUPP) {
		return errno
	}
	return nil
}
