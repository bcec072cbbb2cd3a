//go:build linux

// Package direct reads and writes a block device, or a file that stands for one, past
// the page cache (O_DIRECT): what is read was on the device, so reading back verifies
// it; writing an image fills no memory that services need; and what is written goes
// out in this order and in units of sectors, which devices write whole or not at all.
//
// It knows nothing of what is on the device.
package direct

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferBytes is how much goes through at once. It is a multiple of every sector size.
const bufferBytes = 1 << 20

// A Device is a block device or file. It is safe for concurrent use.
type Device struct {
	f      *os.File
	size   int64
	sector int64

	mu  sync.Mutex
	buf []byte // aligned
}

// Open opens the device at path for reading and writing.
func Open(path string) (*Device, error) { return open(path, os.O_RDWR) }

// OpenRead opens the device at path for reading, in use or not.
func OpenRead(path string) (*Device, error) { return open(path, os.O_RDONLY) }

// OpenUnused does what [Open] does, unless the device is in use, as by a file system
// that is mounted from it. The error wraps [unix.EBUSY] then.
func OpenUnused(path string) (*Device, error) { return open(path, os.O_RDWR|unix.O_EXCL) }

func open(path string, flag int) (*Device, error) {
	flag |= unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flag|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		// A file system that knows no direct access, as old tmpfs: only in tests.
		f, err = os.OpenFile(path, flag, 0)
	}
	if err != nil {
		return nil, err
	}
	d := &Device{f: f, sector: 512, buf: aligned(bufferBytes)}
	if d.size, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if info.Mode()&os.ModeDevice != 0 {
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("ask %s for its sector size: %w", path, err)
		}
		d.sector = int64(n)
	}
	return d, nil
}

// aligned returns n bytes that start at a multiple of 4096 in memory, which is enough
// for every device.
func aligned(n int) []byte {
	const unit = 4096
	b := make([]byte, n+unit)
	skip := unit - int(uintptr(unsafe.Pointer(&b[0]))%unit)
	return b[skip : skip+n : skip+n]
}

// Size returns the device's size in bytes.
func (d *Device) Size() int64 { return d.size }

// Close closes the device.
func (d *Device) Close() error { return d.f.Close() }

// Sync waits until all that was written survives losing power.
func (d *Device) Sync() error { return d.f.Sync() }

// ReadAt implements [io.ReaderAt].
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= d.size {
			return done, io.EOF
		}
		start := at - at%d.sector
		n, err := d.load(start, min(int64(len(p)-done)+at-start, bufferBytes))
		if got := copy(p[done:], d.buf[min(at-start, n):n]); got > 0 {
			done += got
		} else if err == nil {
			err = io.EOF
		}
		if err != nil && done < len(p) {
			return done, err
		}
	}
	return done, nil
}

// load reads the sectors that cover n bytes from start, which is where one begins,
// into the buffer, and returns how many bytes it got.
func (d *Device) load(start, n int64) (int64, error) {
	n = (n + d.sector - 1) / d.sector * d.sector
	got, err := d.f.ReadAt(d.buf[:n], start)
	if errors.Is(err, io.EOF) && got > 0 {
		err = nil // a file that ends within a sector
	}
	return int64(got), err
}

// WriteAt implements [io.WriterAt]. Of a sector that p covers in part, the rest stays.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("write %d bytes at %d of %d: %w", len(p), off, d.size, unix.ENOSPC)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		start := at - at%d.sector
		n := min(int64(len(p)-done)+at-start, bufferBytes)
		end := (start + n + d.sector - 1) / d.sector * d.sector
		// The first and the last sector may keep some of what they have.
		if at != start || start+n != end {
			if _, err := d.load(start, end-start); err != nil {
				return done, err
			}
		}
		put := copy(d.buf[at-start:n], p[done:])
		if _, err := d.f.WriteAt(d.buf[:min(end, d.size)-start], start); err != nil {
			return done, err
		}
		done += put
	}
	return done, nil
}
