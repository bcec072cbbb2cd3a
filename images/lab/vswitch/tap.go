//go:build linux

package vswitch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tap is a network interface whose other end is a file.
type tap struct {
	file *os.File
	buf  [MaxFrame]byte
}

// OpenTAP makes a network interface in the network namespace of the calling thread
// that is a cable to the switch. The interface goes with the link. It needs
// CAP_NET_ADMIN there.
func OpenTAP(name string) (Link, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make TAP %s: %w", name, err), unix.Close(fd))
	}
	// Only now: the runtime asks the file what it can wait for, and a TAP that is
	// not attached says that it is broken.
	return &tap{file: os.NewFile(uintptr(fd), name)}, nil
}

// Read implements [Link]. It waits while the interface is down.
func (t *tap) Read() ([]byte, error) {
	n, err := t.file.Read(t.buf[:])
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, n), t.buf[:n]...), nil
}

// Write implements [Link].
func (t *tap) Write(frames [][]byte) error {
	for _, f := range frames {
		// While the interface is down the kernel takes nothing; a cable does not
		// break by that.
		if _, err := t.file.Write(f); err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// Close implements [Link].
func (t *tap) Close() error { return t.file.Close() }
