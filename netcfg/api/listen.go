//go:build linux

package api

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Listen opens the socket in the run directory. Only root, or whoever runs this
// process, gets through: by the socket's mode, and by what the kernel says of the
// caller. A socket that a dead process left is replaced.
func Listen(run string) (net.Listener, error) {
	// The socket is made where nobody can reach it before its mode is set, and
	// renamed, so that there is no moment without one or with a wider one.
	private, err := os.MkdirTemp(run, ".netcfgd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	hidden := filepath.Join(private, SocketFile)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then the name may be the next process's
	if err := os.Chmod(hidden, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	if err := os.Rename(hidden, filepath.Join(run, SocketFile)); err != nil {
		l.Close()
		return nil, err
	}
	return &rootOnly{l}, nil
}

// rootOnly hangs up on callers that are neither root nor this process's own user.
type rootOnly struct{ *net.UnixListener }

func (l *rootOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(conn)
		if err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return conn, nil
		}
		conn.Close()
	}
}

// peer returns the user at the other end: SO_PEERCRED, unix(7).
func peer(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
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
	return cred.Uid, nil
}
