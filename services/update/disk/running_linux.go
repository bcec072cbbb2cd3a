package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// Disk is the disk that a system was started from.
type Disk struct {
	Path string // of the whole disk: /dev/sda
	Slot int    // whose root file system is the running one: 0 is A, 1 is B
}

// Partition returns the path of a partition.
func (d Disk) Partition(n int) string {
	if last := d.Path[len(d.Path)-1]; unicode.IsDigit(rune(last)) {
		return d.Path + "p" + strconv.Itoa(n) // as the kernel names them
	}
	return d.Path + strconv.Itoa(n)
}

// Running returns the disk of the running system. The error wraps [fs.ErrNotExist]
// if that was not started from a disk of this layout.
func Running() (Disk, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Disk{}, err
	}
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return Disk{}, fmt.Errorf("stat /: %w", err)
	}
	return Find("/sys", string(cmdline), root.Dev)
}

// Find does what [Running] does, for a system that was started with cmdline, whose
// root file system has the device number root, below sys.
//
// It goes by the root file system that is mounted and not by the GUID alone, which
// all disks with the same image share: with a second one plugged in, the box must
// not write to that.
func Find(sys, cmdline string, root uint64) (Disk, error) {
	_, slot, err := ParseRoot(cmdline)
	if err != nil {
		return Disk{}, err
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(root), unix.Minor(root))
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev/block", dev))
	if err != nil {
		return Disk{}, fmt.Errorf("find the disk of the root file system: %w", err)
	}
	number, err := os.ReadFile(filepath.Join(dir, "partition"))
	if err != nil {
		return Disk{}, fmt.Errorf("the root file system is not on a partition: %w", err)
	}
	if want := strconv.Itoa(RootA + slot); strings.TrimSpace(string(number)) != want {
		return Disk{}, fmt.Errorf("the root file system is on partition %s, the command line says %s",
			strings.TrimSpace(string(number)), want)
	}
	return Disk{Path: "/dev/" + filepath.Base(filepath.Dir(dir)), Slot: slot}, nil
}

var rootRE = regexp.MustCompile(`(?:^|\s)root=PARTUUID=([0-9A-Fa-f-]{36})/PARTNROFF=([12])(?:\s|$)`)

// ParseRoot returns what a kernel's command line says about the root file system: the
// GUID of the disk's first partition and the slot. The error wraps [fs.ErrNotExist]
// if it says nothing of the kind.
func ParseRoot(cmdline string) (GUID, int, error) {
	m := rootRE.FindStringSubmatch(cmdline)
	if m == nil {
		return GUID{}, 0, fmt.Errorf("no root=PARTUUID=.../PARTNROFF=1 or 2 on the kernel's command line: %w", fs.ErrNotExist)
	}
	g, err := ParseGUID(m[1])
	return g, int(m[2][0] - '1'), err
}

// Sectors returns the size of an open disk or of a file that stands for one. It
// refuses disks whose sectors are not of 512 bytes.
func Sectors(f *os.File) (uint64, error) {
	bytes, err := Bytes(f)
	if err != nil {
		return 0, err
	}
	size, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err == nil && size != SectorBytes {
		return 0, fmt.Errorf("%s has sectors of %d bytes: only disks with 512 can be used", f.Name(), size)
	}
	if err != nil && !errors.Is(err, unix.ENOTTY) {
		return 0, fmt.Errorf("size of the sectors of %s: %w", f.Name(), err)
	}
	return uint64(bytes) / SectorBytes, nil
}

// Bytes returns the size of an open disk, partition or file.
func Bytes(f *os.File) (int64, error) {
	n, err := f.Seek(0, 2)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	return n, nil
}
