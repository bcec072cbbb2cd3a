//go:build linux

// Package flash writes a disk image to a disk of this machine and reads it back. It
// takes whole disks that nothing uses, and no others. Nobody is asked here: that the
// owner means this disk is the caller's to find out.
package flash

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
)

// A Target is a disk that an image may be written to.
type Target struct {
	Path      string // as it was named: /dev/sdb
	Name      string // as the kernel calls it: sdb
	Model     string // "" where the disk does not say
	Serial    string // likewise
	Bytes     int64
	Removable bool
}

// system is where it is looked what disks there are and what uses them.
type system struct {
	sys, proc string
	number    func(path string) (uint64, error) // device number of a block device
}

var host = system{sys: "/sys", proc: "/proc", number: blockNumber}

func blockNumber(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is not a disk", path)
	}
	return st.Rdev, nil
}

// ErrRefused says that the disk must not be written to, or cannot be. The message says
// why and what to do.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Look describes the disk at path. The error wraps [ErrRefused] if an image of
// imageBytes cannot be written there.
func Look(path string, imageBytes int64) (Target, error) { return host.look(path, imageBytes) }

func (s system) look(path string, imageBytes int64) (Target, error) {
	number, err := s.number(path)
	if err != nil {
		return Target{}, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(s.sys, "dev/block", deviceNumber(number)))
	if err != nil {
		return Target{}, fmt.Errorf("look up %s: %w", path, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return Target{}, refuse("%s is a partition; the image goes on the whole disk, /dev/%s", path, filepath.Base(filepath.Dir(dir)))
	}
	t := Target{
		Path: path, Name: filepath.Base(dir), Removable: s.text(dir, "removable") == "1",
		Model: s.text(dir, "device/model"), Serial: s.text(dir, "device/serial"),
	}
	if t.Serial == "" {
		t.Serial = s.text(dir, "serial") // of virtio disks
	}
	sectors, err := strconv.ParseInt(s.text(dir, "size"), 10, 64) // always of 512 bytes
	if err != nil {
		return Target{}, fmt.Errorf("size of %s: %w", path, err)
	}
	t.Bytes = sectors * 512
	// What is left for /perm is the least of it.
	need := max(disk.DiskBytes, imageBytes+disk.PermBytes)
	switch n := s.text(dir, "queue/logical_block_size"); {
	case sectors == 0:
		return Target{}, refuse("%s is empty: no card is in the reader", path)
	case s.text(dir, "ro") == "1":
		return Target{}, refuse("%s is read-only: cards and some sticks have a switch", path)
	case n != "" && n != "512":
		return Target{}, refuse("%s has sectors of %s bytes, and the image is for 512", path, n)
	case t.Bytes < need:
		return Target{}, refuse("%s has %d MiB, and %d are needed", path, t.Bytes/disk.MiB, need/disk.MiB)
	}
	return t, s.unused(path, dir)
}

func deviceNumber(n uint64) string { return fmt.Sprintf("%d:%d", unix.Major(n), unix.Minor(n)) }

func (s system) text(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "" // not every disk has everything
	}
	return strings.TrimSpace(string(data))
}

// unused refuses a disk if it, a partition of it, or something made of one, such as a
// volume of LVM or RAID, is in use.
func (s system) unused(path, dir string) error {
	uses, err := s.uses()
	if err != nil {
		return err
	}
	nodes, err := filepath.Glob(filepath.Join(dir, "*/partition"))
	if err != nil {
		return err
	}
	dirs := []string{dir}
	for _, n := range nodes {
		dirs = append(dirs, filepath.Dir(n))
	}
	for _, d := range dirs {
		name := filepath.Base(d)
		if at, ok := uses[s.text(d, "dev")]; ok {
			hint := "unmount it first, if it is the right disk"
			if slices.Contains([]string{"mounted on /", "mounted on /boot", "mounted on /usr", "mounted on /boot/efi"}, at) {
				hint = "this machine runs from it"
			}
			return refuse("%s is in use: /dev/%s is %s; %s", path, name, at, hint)
		}
		if holders, err := os.ReadDir(filepath.Join(d, "holders")); err == nil && len(holders) > 0 {
			return refuse("%s is in use: /dev/%s is part of %s; this may be a disk that this machine runs from", path, name, holders[0].Name())
		}
	}
	return nil
}

// uses returns what block devices are used for, by device number.
func (s system) uses() (map[string]string, error) {
	uses := map[string]string{}
	// See proc_pid_mountinfo(5). Some file systems have a device number that is not
	// that of the device, so that counts, too.
	err := s.lines("self/mountinfo", func(f []string) {
		if len(f) < 5 {
			return
		}
		at := "mounted on " + unescape.Replace(f[4])
		s.use(uses, f[2], at)
		if i := slices.Index(f, "-"); i > 0 && i+2 < len(f) && strings.HasPrefix(f[i+2], "/dev/") {
			if n, err := s.number(unescape.Replace(f[i+2])); err == nil {
				s.use(uses, deviceNumber(n), at)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	err = s.lines("swaps", func(f []string) {
		if len(f) > 0 && strings.HasPrefix(f[0], "/") {
			if n, err := s.number(unescape.Replace(f[0])); err == nil {
				s.use(uses, deviceNumber(n), "used for swapping")
			}
		}
	})
	return uses, err
}

// use notes a use; the first, and that as the root, say most.
func (s system) use(uses map[string]string, number, what string) {
	if _, ok := uses[number]; !ok || what == "mounted on /" {
		uses[number] = what
	}
}

// unescape undoes what the kernel does to names in its tables.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func (s system) lines(name string, each func(fields []string)) error {
	f, err := os.Open(filepath.Join(s.proc, name))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		each(strings.Fields(lines.Text()))
	}
	return lines.Err()
}
