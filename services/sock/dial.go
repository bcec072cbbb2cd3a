//go:build linux

package sock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dial connects to a socket that a service has in a directory of its own, below one
// that is root's. The service may have been taken over: Dial follows no link that it
// left there, and hangs up unless the directory's owner listens. The error wraps
// [io/fs.ErrNotExist] without a socket.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	c, err := dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return c, nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var owner, st unix.Stat_t
	if err := unix.Fstat(dir, &owner); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, filepath.Base(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, unix.ENOTSOCK
	}
	// By the descriptor, since the name may lead elsewhere by now.
	c, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e.Err // the made-up name says nothing
		}
		return nil, err
	}
	uid, err := peer(c.(*net.UnixConn))
	if err == nil && uid != int(owner.Uid) {
		err = fmt.Errorf("user %d listens there, not %d", uid, owner.Uid)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
