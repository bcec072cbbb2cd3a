package main

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// typeHidden reads a line from a terminal that shows nothing of it. It takes the keys
// one by one: in lines, the kernel would cut what is longer than 4,095 bytes
// (termios(3)), and a signal would leave the terminal mute.
func typeHidden(f *os.File) (line string, err error) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	mute := *was
	mute.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	mute.Iflag |= unix.ICRNL
	mute.Cc[unix.VMIN], mute.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &mute); err != nil {
		return "", err
	}
	// What was pasted beyond the line's end must not become a command.
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETSF, was)) }()
	var typed []byte
	for key := make([]byte, 1); ; {
		if _, err := f.Read(key); err != nil {
			return "", err
		}
		switch c := key[0]; c {
		case '\n':
			return string(typed), nil
		case 3: // Ctrl-C
			return "", errors.New("interrupted: nothing has changed")
		case 4: // Ctrl-D
			return "", io.ErrUnexpectedEOF
		case 8, 127: // backspace
			if len(typed) > 0 {
				typed = typed[:len(typed)-1]
			}
		case 21: // Ctrl-U
			typed = nil
		default:
			if len(typed) == maxSecret {
				return "", errors.New("that is too long for a secret")
			}
			typed = append(typed, c)
		}
	}
}
