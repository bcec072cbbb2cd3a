//go:build linux

package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/direct"
	"bulkhead/services/update/disk"
)

// chunk is how much is written at a time.
const chunk = 4 * disk.MiB

// A device is a disk past the cache: what is read was on it.
type device interface {
	disk.Device
	Size() int64
}

// Image is an image that has been looked at.
type Image struct {
	f     *os.File
	Bytes int64
}

// Open opens a disk image and makes sure that it is one of ours.
func Open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	sectors, err := disk.Sectors(f)
	if err == nil {
		var t *disk.Table
		if t, err = disk.Read(f, sectors); err == nil {
			_, err = t.WithPerm(sectors + disk.PermBytes/disk.SectorBytes)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not an image to flash: make image makes out/bulkhead-<arch>.img: %w", path, err), f.Close())
	}
	return &Image{f, int64(sectors) * disk.SectorBytes}, nil
}

// Close closes the image.
func (i *Image) Close() error { return i.f.Close() }

// Write writes the image to the disk; done is told how many bytes are. The partition
// table goes last, so that a disk that is half written is none that starts. A box
// that was on it before is gone, with all that it kept: the image has zeros where its
// /perm began, and the second copy of its table, at the end of the disk, is wiped.
func (i *Image) Write(ctx context.Context, t Target, done func(int64)) error {
	return i.with(t, func(dev device) error { return i.write(ctx, dev, done) })
}

// Verify reads the disk and compares it with the image.
func (i *Image) Verify(ctx context.Context, t Target, done func(int64)) error {
	return i.with(t, func(dev device) error { return i.verify(ctx, dev, done) })
}

// with opens the disk for nobody else. The error wraps [ErrRefused] if somebody has
// it.
func (i *Image) with(t Target, f func(device) error) error {
	dev, err := direct.OpenUnused(t.Path)
	if errors.Is(err, unix.EBUSY) {
		return refuse("%s is in use", t.Path)
	}
	if err != nil {
		return err
	}
	if dev.Size() != t.Bytes {
		return errors.Join(refuse("%s is not the disk that it was: it has %d bytes now", t.Path, dev.Size()), dev.Close())
	}
	return errors.Join(f(dev), dev.Close())
}

func (i *Image) write(ctx context.Context, dev device, done func(int64)) error {
	// No table, old or new, until all else is there; and none at the end of the disk.
	zeros := make([]byte, disk.MiB)
	for _, at := range []int64{0, dev.Size()/disk.SectorBytes*disk.SectorBytes - disk.MiB} {
		if _, err := dev.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	if err := i.copy(ctx, dev, disk.MiB, func(n int64) { done(n - disk.MiB) }); err != nil {
		return err
	}
	head := make([]byte, disk.MiB)
	if _, err := i.f.ReadAt(head, 0); err != nil {
		return err
	}
	if _, err := dev.WriteAt(head, 0); err != nil {
		return err
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	done(i.Bytes)
	return nil
}

// copy writes the image from an offset on, and tells how far it is.
func (i *Image) copy(ctx context.Context, dev device, from int64, done func(int64)) error {
	return i.each(ctx, from, func(data []byte, at int64) error {
		if _, err := dev.WriteAt(data, at); err != nil {
			return fmt.Errorf("write at byte %d: %w", at, err)
		}
		done(at + int64(len(data)))
		return nil
	}, func() error { return dev.Sync() })
}

// each calls do with the image's bytes from an offset on, and now and then flush: a
// disk's own cache would hide how fast it is.
func (i *Image) each(ctx context.Context, from int64, do func(data []byte, at int64) error, flush func() error) error {
	buf := make([]byte, chunk)
	for n, at := 0, from; at < i.Bytes; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := buf[:min(chunk, i.Bytes-at)]
		if _, err := io.ReadFull(io.NewSectionReader(i.f, at, int64(len(data))), data); err != nil {
			return fmt.Errorf("read the image: %w", err)
		}
		if err := do(data, at); err != nil {
			return err
		}
		at += int64(len(data))
		if n%16 == 15 || at == i.Bytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *Image) verify(ctx context.Context, dev device, done func(int64)) error {
	have := make([]byte, chunk)
	return i.each(ctx, 0, func(want []byte, at int64) error {
		have := have[:len(want)]
		if _, err := dev.ReadAt(have, at); err != nil {
			return fmt.Errorf("read back at byte %d: %w", at, err)
		}
		if !bytes.Equal(have, want) {
			return fmt.Errorf("the disk does not hold what was written to it, from byte %d on: it is broken, or smaller than it says", at)
		}
		done(at + int64(len(want)))
		return nil
	}, func() error { return nil })
}
