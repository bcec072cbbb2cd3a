//go:build linux

// Package sock is how a daemon listens for other programs on the box: a unix socket
// that only the users it names get through to. It never looks at what they say.
package sock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Listen opens a socket at path. Root and whoever runs this process get through, and
// the users in allowed, all of whom are in group: by the socket's mode, and by what
// the kernel says of the caller. A negative group means that there are no others. A
// process that is not root can name a group that it is in: a root without capabilities
// comes in by that. It cannot give the socket to another, and has it for itself.
//
// A socket that a dead process left is replaced. The directory belongs to root or to
// the process's own user: whoever else could write there could lead root astray.
func Listen(path string, group int, allowed ...int) (net.Listener, error) {
	// The socket is made where nobody can reach it before its mode is set, and
	// renamed, so that there is no moment without one or with a wider one.
	private, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	hidden := filepath.Join(private, "s") // short: a socket's path has 107 bytes
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then the name may be the next process's
	if err := admit(hidden, group); err != nil {
		l.Close()
		return nil, err
	}
	if err := os.Rename(hidden, path); err != nil {
		l.Close()
		return nil, err
	}
	return &listener{l, append([]int{0, os.Geteuid()}, allowed...)}, nil
}

// admit lets a group open the socket at path.
func admit(path string, group int) error {
	if group < 0 {
		return os.Chmod(path, 0o600)
	}
	switch err := os.Chown(path, -1, group); {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return os.Chmod(path, 0o600)
	case err != nil:
		return err
	}
	return os.Chmod(path, 0o660)
}

// listener hangs up on callers that are none of its users.
type listener struct {
	*net.UnixListener
	users []int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(c)
		if err == nil && slices.Contains(l.users, uid) {
			return &conn{c, uid}, nil
		}
		c.Close()
	}
}

// conn is a connection with the user at its other end.
type conn struct {
	*net.UnixConn
	uid int
}

// peer returns the user at the other end: SO_PEERCRED, unix(7).
func peer(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the caller's user: %w", err)
	}
	return int(cred.Uid), nil
}

type peerKey struct{}

// ConnContext notes who is at the other end of a connection of [Listen]'s. It is for
// the ConnContext of an [net/http.Server].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, peerKey{}, c.uid)
	}
	return ctx
}

// PeerUID returns the user who made a request, and false for one that came otherwise
// than through a [Listen] socket and [ConnContext].
func PeerUID(ctx context.Context) (uid int, ok bool) {
	uid, ok = ctx.Value(peerKey{}).(int)
	return uid, ok
}
