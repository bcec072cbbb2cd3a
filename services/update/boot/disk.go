//go:build linux

package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/direct"
)

// A Disk is the disk that the running system was booted from.
type Disk struct {
	Slot Slot // that runs

	devices map[int]string // device nodes by number of partition
}

// Running finds the disk of the running system: that which / is mounted from. Disks
// with an image of their own that are plugged in as well do not confuse it.
func Running() (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return Disk{}, fmt.Errorf("find the disk of the root file system: %w", err)
	}
	return find("/sys", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
}

// find looks a partition up in sysfs, and its sisters.
func find(sys string, major, minor uint32) (Disk, error) {
	own, err := filepath.EvalSymlinks(fmt.Sprintf("%s/dev/block/%d:%d", sys, major, minor))
	if err != nil {
		return Disk{}, fmt.Errorf("the root file system is on no disk: %w", err)
	}
	number, err := partition(own)
	if err != nil {
		return Disk{}, fmt.Errorf("the root file system is on no partition of a disk (device %d:%d): %w", major, minor, err)
	}
	d := Disk{Slot: A, devices: map[int]string{}}
	switch number {
	case A.Partition():
	case B.Partition():
		d.Slot = B
	default:
		return Disk{}, fmt.Errorf("the root file system is on partition %d: want %d or %d", number, A.Partition(), B.Partition())
	}
	list, err := filepath.Glob(filepath.Dir(own) + "/*/partition")
	if err != nil {
		return Disk{}, err
	}
	for _, file := range list {
		dir := filepath.Dir(file)
		n, err := partition(dir)
		if err != nil {
			return Disk{}, err
		}
		if d.devices[n], err = deviceNode(dir); err != nil {
			return Disk{}, err
		}
	}
	return d, nil
}

// partition returns the number of the partition that a directory of sysfs is about.
func partition(dir string) (int, error) {
	data, err := os.ReadFile(dir + "/partition")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// deviceNode returns the device node of what a directory of sysfs is about.
func deviceNode(dir string) (string, error) {
	data, err := os.ReadFile(dir + "/uevent")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name, nil
		}
	}
	return "", fmt.Errorf("%s/uevent names no device", dir)
}

// ESP returns the device node of the boot partition.
func (d Disk) ESP() (string, error) { return d.node(1) }

// Root returns the device node of a slot's root partition.
func (d Disk) Root(slot Slot) (string, error) { return d.node(slot.Partition()) }

func (d Disk) node(n int) (string, error) {
	if p, ok := d.devices[n]; ok {
		return p, nil
	}
	return "", fmt.Errorf("the disk has no partition %d", n)
}

// With opens the disk's boot partition for as long as f runs.
func (d Disk) With(f func(*ESP) error) error {
	node, err := d.ESP()
	if err != nil {
		return err
	}
	dev, err := direct.Open(node)
	if err != nil {
		return fmt.Errorf("open the boot partition: %w", err)
	}
	defer dev.Close()
	e, err := Open(dev)
	if err != nil {
		return err
	}
	return f(e)
}
