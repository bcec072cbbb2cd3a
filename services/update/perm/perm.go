// Package perm looks after the partition that keeps what the box must not forget: it
// makes it when the box starts for the first time, mounts it on /perm and grows it
// with the disk. All of that can be cut off at any instant and is taken up again at
// the next start.
//
// It never formats a partition that may hold somebody's data: a file system that
// cannot be mounted is reported and left as it is.
package perm

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
)

const (
	mountPoint = "/perm"
	// Template is where a root file system has the compressed file system that a new
	// partition begins with.
	Template = "/usr/share/bulkhead/perm.ext4.gz"
	// resetFile on /perm asks for a factory reset at the next start.
	resetFile = ".factory-reset"
)

// ErrDamaged says that the partition has no file system that can be mounted, and that
// it may have been in use, so that it was left alone.
var ErrDamaged = errors.New("/perm is damaged")

// Prepare makes /perm be there, as large as the disk allows, with nothing on it that
// could be run. It is idempotent. The error wraps [ErrDamaged] if only a factory
// reset would help, and [fs.ErrNotExist] if the system was not started from a disk of
// this layout.
//
// It is called before any service runs; where gokrazy's init has mounted the
// partition already, it takes that over.
func Prepare(ctx context.Context, log *slog.Logger) error {
	d, err := disk.Running()
	if err != nil {
		return fmt.Errorf("prepare /perm: %w", err)
	}
	p := preparer{disk: d, target: mountPoint, template: Template, log: log, resize: resizeExt4}
	if err := p.prepare(ctx); err != nil {
		return fmt.Errorf("prepare /perm on %s: %w", d.Partition(disk.Perm), err)
	}
	return nil
}

// Reset makes the next start begin with an empty /perm. What was there is not read
// again, but on most disks it is not overwritten either.
func Reset() error {
	d, err := disk.Running()
	if err != nil {
		return fmt.Errorf("factory reset: %w", err)
	}
	p := preparer{disk: d, target: mountPoint}
	if err := p.requestReset(); err != nil {
		return fmt.Errorf("factory reset: %w", err)
	}
	return nil
}

type preparer struct {
	disk     disk.Disk
	target   string
	template string
	log      *slog.Logger
	resize   func(dir *os.File, blocks uint64) error
}

func (p preparer) node() string { return p.disk.Partition(disk.Perm) }

func (p preparer) prepare(ctx context.Context) error {
	// A partition that is there can be used even if the disk cannot be changed.
	growErr := p.growPartition()
	if err := p.unmountForeign(); err != nil {
		return errors.Join(growErr, err)
	}
	if err := p.finishFormat(); err != nil {
		return errors.Join(growErr, err)
	}
	if err := p.mount(); err != nil {
		return errors.Join(growErr, err)
	}
	if err := p.reset(); err != nil {
		return errors.Join(growErr, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(growErr, p.growFileSystem(), p.links())
}

// growPartition makes the partition reach to the end of the disk, and makes it if
// there is none.
func (p preparer) growPartition() error {
	dev, err := os.OpenFile(p.disk.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	sectors, err := disk.Sectors(dev)
	if err != nil {
		return err
	}
	old, err := disk.Read(dev, sectors)
	if err != nil {
		return err
	}
	grown, err := old.WithPerm(sectors)
	if err != nil {
		return err
	}
	part, before := grown.Partition(disk.Perm), old.Partition(disk.Perm)
	if before == (disk.Partition{}) {
		// No table names this place yet, so whatever is there is nobody's.
		if err := setMark(section{dev, part.Start()}); err != nil {
			return err
		}
	}
	if err := disk.Write(dev, grown); err != nil {
		return err
	}
	if part != before {
		p.log.Info("partition for /perm", "device", p.node(), "MiB", part.Bytes()/disk.MiB, "was", before.Bytes()/disk.MiB)
	}
	return disk.Announce(dev, disk.Perm, part)
}

// section is a part of a disk.
type section struct {
	disk.Device
	start int64
}

func (s section) ReadAt(b []byte, at int64) (int, error)  { return s.Device.ReadAt(b, s.start+at) }
func (s section) WriteAt(b []byte, at int64) (int, error) { return s.Device.WriteAt(b, s.start+at) }

// finishFormat writes the file system to a partition that is marked for it.
func (p preparer) finishFormat() error {
	dev, err := os.OpenFile(p.node(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	s, err := inspect(dev)
	if err != nil {
		return err
	}
	if !s.marked {
		return nil
	}
	// gokrazy's init may have mounted what lacks only the last step.
	if err := p.unmount(); err != nil {
		return err
	}
	if s.superblock {
		return clearMark(dev)
	}
	f, err := os.Open(p.template)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.template, err)
	}
	p.log.Info("new file system for /perm", "device", p.node())
	return format(dev, z)
}

// reset carries out a factory reset that was asked for.
func (p preparer) reset() error {
	if _, err := os.Lstat(filepath.Join(p.target, resetFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	p.log.Info("factory reset: emptying /perm")
	if err := p.unmount(); err != nil {
		return err
	}
	if err := p.markNode(); err != nil {
		return err
	}
	p.discard()
	if err := p.finishFormat(); err != nil {
		return err
	}
	return p.mount()
}

// requestReset leaves word for the next start: on the file system, or, where none is
// mounted, as the mark that none is there.
func (p preparer) requestReset() error {
	mounted, err := p.mounted()
	if err != nil {
		return err
	}
	if !mounted {
		return p.markNode()
	}
	f, err := os.OpenFile(filepath.Join(p.target, resetFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(p.target)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (p preparer) markNode() error {
	dev, err := os.OpenFile(p.node(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(setMark(dev), dev.Close())
}

// discard lets a disk that can forget what it held, all but the mark. It does not
// matter if it cannot.
func (p preparer) discard() {
	dev, err := os.OpenFile(p.node(), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer dev.Close()
	n, err := disk.Bytes(dev)
	if err == nil && n > disk.MiB {
		err = discardRange(dev, disk.MiB, uint64(n)-disk.MiB)
	}
	if err != nil {
		p.log.Info("the old content of /perm was not discarded", "err", err)
	}
}

// links makes what gokrazy's init makes if it finds the partition: /var leads there.
func (p preparer) links() error {
	if err := os.MkdirAll(filepath.Join(p.target, "var"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/run", filepath.Join(p.target, "var/run")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// mounted reports whether the partition is mounted on the target.
func (p preparer) mounted() (bool, error) {
	var node, target unix.Stat_t
	if err := unix.Stat(p.node(), &node); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, &fs.PathError{Op: "stat", Path: p.node(), Err: err}
	}
	if err := unix.Stat(p.target, &target); err != nil {
		return false, &fs.PathError{Op: "stat", Path: p.target, Err: err}
	}
	return target.Dev == node.Rdev, nil
}
