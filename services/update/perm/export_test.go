package perm

import (
	"context"
	"io"
	"log/slog"
	"os"

	"bulkhead/services/update/disk"
)

// A Box is a system that was started from a disk that the test made.
type Box struct{ p preparer }

// NewBox returns one that cannot grow its file system unless grow is set.
func NewBox(d disk.Disk, target, template string, log *slog.Logger, grow bool) Box {
	resize := func(*os.File, uint64) error { return nil }
	if grow {
		resize = resizeExt4
	}
	return Box{preparer{d, target, template, log, resize}}
}

func (b Box) Prepare(ctx context.Context) error { return b.p.prepare(ctx) }
func (b Box) RequestReset() error               { return b.p.requestReset() }

func SetMark(dev disk.Device) error                    { return setMark(dev) }
func ClearMark(dev disk.Device) error                  { return clearMark(dev) }
func Format(dev disk.Device, template io.Reader) error { return format(dev, template) }

// Inspect returns whether there is a mark and whether there is a file system.
func Inspect(r io.ReaderAt) (marked, superblock bool, err error) {
	s, err := inspect(r)
	return s.marked, s.superblock, err
}
