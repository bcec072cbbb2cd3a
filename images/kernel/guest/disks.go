//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
)

// disks does with disks, which the test has prepared, what updates rely on: loader
// entries change their names on a FAT, a partition is added to a disk in use, and a
// file system grows while it is mounted.
func disks() error {
	return errors.Join(renameOnFAT(), growExt4(), addPartition())
}

// diskBySerial returns the device of the disk that the test gave a serial number.
func diskBySerial(serial string) (string, error) {
	names, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(name)), nil
		}
	}
	return "", fmt.Errorf("no disk has the serial number %s", serial)
}

// mounted calls f with the folder that a disk is mounted on.
func mounted(serial, kind string, f func(dir string) error) error {
	dev, err := diskBySerial(serial)
	if err != nil {
		return err
	}
	dir := "/tmp/" + serial
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dev, dir, kind, unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount %s as %s: %w", dev, kind, err)
	}
	return errors.Join(f(dir), unix.Unmount(dir, 0))
}

// renameOnFAT writes names that are short and names that are not, by the default code
// page and character set, and finds them again after mounting anew.
func renameOnFAT() error {
	names := []string{"vmlinuz", "b+0-1.conf", "BOOTX64.EFI", "Größe.txt"}
	err := mounted("fat", "vfat", func(dir string) error {
		for _, name := range names {
			old := filepath.Join(dir, name+".new")
			if err := os.WriteFile(old, []byte(name), 0o644); err != nil {
				return err
			}
			if err := os.Rename(old, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return syncDir(dir)
	})
	if err != nil {
		return err
	}
	return mounted("fat", "vfat", func(dir string) error {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(text) != name {
				return fmt.Errorf("read %s: got %q, %v", name, text, err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, names[0]+".new")); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the old name is still there: %v", err)
		}
		return nil
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// growExt4 grows a file system to its disk. See EXT4_IOC_RESIZE_FS of fs/ext4/ext4.h.
func growExt4() error {
	const resize = 0x40086610 // _IOW('f', 16, __u64)
	return mounted("ext4", "ext4", func(dir string) error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		var before, after unix.Statfs_t
		if err := unix.Fstatfs(int(d.Fd()), &before); err != nil {
			return err
		}
		blocks := 2 * before.Blocks
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
			return fmt.Errorf("grow ext4 to %d blocks: %w", blocks, errno)
		}
		if err := unix.Fstatfs(int(d.Fd()), &after); err != nil {
			return err
		}
		if after.Blocks < before.Blocks*3/2 {
			return fmt.Errorf("it has grown from %d to %d blocks only", before.Blocks, after.Blocks)
		}
		return nil
	})
}

// addPartition has the kernel know of a partition that no table has.
func addPartition() error {
	dev, err := diskBySerial("empty")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := disk.Announce(f, 4, disk.Partition{First: 2048, Last: 4095}); err != nil {
		return err
	}
	_, err = os.Stat("/sys/block/" + filepath.Base(dev) + "/" + filepath.Base(dev) + "4")
	return err
}
