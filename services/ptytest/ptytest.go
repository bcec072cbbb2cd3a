//go:build linux

// Package ptytest gives a test a terminal: it types what a person would, and reads what
// they would see. Only tests import it.
package ptytest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is what a test gives up after that waits for a terminal; nothing takes that
// long.
const Patience = 30 * time.Second

// PTY is a terminal, held by its other end. One goroutine uses it.
type PTY struct {
	*os.File
	Path string // of the terminal itself
	Seen []byte // what was sent to it, since the last text that was waited for

	screen Screen
}

// New returns a terminal that goes away with the test.
func New(t testing.TB) *PTY {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := &PTY{File: f}
	p.Control(t, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		p.Path = fmt.Sprintf("/dev/pts/%d", n)
		return err
	})
	return p
}

// Control calls f with the terminal's file descriptor.
func (p *PTY) Control(t testing.TB, f func(fd int) error) {
	t.Helper()
	raw, err := p.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil || inner != nil {
		t.Fatal(err, inner)
	}
}

// Resize makes the terminal cols wide and rows high.
func (p *PTY) Resize(t testing.TB, cols, rows int) {
	t.Helper()
	p.Control(t, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(cols), Row: uint16(rows)})
	})
}

// Attach makes the terminal that of a program that is to be started: what is typed comes
// to it, ^C is its interrupt, and it dies when the terminal hangs up. The file is to be
// closed once the program runs.
func (p *PTY) Attach(t testing.TB, cmd *exec.Cmd) *os.File {
	t.Helper()
	f, err := os.OpenFile(p.Path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // of descriptor 0
	return f
}

// Press types keys.
func (p *PTY) Press(t testing.TB, keys string) {
	t.Helper()
	if _, err := p.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// WaitFor reads until the terminal was sent want, whatever became of it on the screen.
func (p *PTY) WaitFor(t testing.TB, want string) {
	t.Helper()
	p.until(t, fmt.Sprintf("%q", want), func() bool { return strings.Contains(string(p.Seen), want) })
	p.Seen = p.Seen[strings.Index(string(p.Seen), want)+len(want):]
}

// WaitScreen reads until what is on the screen is as ok wants it, and returns it.
func (p *PTY) WaitScreen(t testing.TB, what string, ok func(lines []string) bool) []string {
	t.Helper()
	p.until(t, what, func() bool { return ok(p.screen.Lines()) })
	return p.screen.Lines()
}

// until reads until ok.
func (p *PTY) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !ok() {
		n, err := p.Read(buf)
		if err != nil {
			t.Fatalf("wait for %s: %v; the screen is\n%s\nafter %q", what, err, strings.Join(p.screen.Lines(), "\n"), p.Seen)
		}
		p.Seen = append(p.Seen, buf[:n]...)
		p.screen.Write(buf[:n])
	}
}
