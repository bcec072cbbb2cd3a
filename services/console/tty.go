//go:build linux

package console

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// drain is how long a terminal may take to accept a screen. The kernel keeps 4 KiB
// for it, more than a screen, so one that works makes nobody wait.
const drain = 2 * time.Second

// terminal is a screen with a keyboard.
type terminal interface {
	// Read waits for keys. An error is the end of the terminal.
	Read([]byte) (int, error)
	// Write gives up on a terminal that does not take what is shown: then the error
	// wraps [os.ErrDeadlineExceeded], and part of it may be there.
	Write([]byte) (int, error)
	Size() size
	Close() error
}

// tty is a terminal of the kernel's.
type tty struct{ file *os.File }

// openTTY opens a terminal and sets it up. It waits neither for a carrier nor for a
// terminal that is busy.
func openTTY(path string) (terminal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t := &tty{f}
	if err := t.control(setUp); err != nil {
		f.Close()
		return nil, fmt.Errorf("set up %s: %w", path, err)
	}
	return t, nil
}

// setUp makes the terminal raw: every byte comes as it is and at once, none is a
// signal, and no XOFF in the noise of an open line can stop the output. Speed and
// flow control stay as the kernel's command line says. What others write, such as
// init, keeps its carriage returns.
func setUp(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = unix.IGNBRK | unix.IGNPAR // neither BREAK nor broken characters say anything
	t.Oflag = unix.OPOST | unix.ONLCR
	t.Lflag = 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL // three wires are enough
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) // typed at something else
}

func (t *tty) control(f func(fd int) error) error {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

func (t *tty) Read(p []byte) (int, error) { return t.file.Read(p) }

func (t *tty) Write(p []byte) (int, error) {
	if err := t.file.SetWriteDeadline(time.Now().Add(drain)); err != nil {
		return 0, err
	}
	n, err := t.file.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Whoever plugs a terminal in later wants to see what is, not what was.
		err = errors.Join(err, t.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH) }))
	}
	return n, err
}

// Size returns the terminal's size. A serial line does not know, and a VT100 has
// 80 by 24.
func (t *tty) Size() size {
	s := size{80, 24}
	_ = t.control(func(fd int) error {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil && ws.Col > 0 && ws.Row > 0 {
			s = size{int(ws.Col), int(ws.Row)}
		}
		return nil
	})
	return s
}

func (t *tty) Close() error { return t.file.Close() }
