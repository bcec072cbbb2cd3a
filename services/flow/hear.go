//go:build linux

package flow

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
)

// namesBuffer is how much the kernel keeps of what dnsd says, in bytes.
const namesBuffer = 1 << 20

// hear takes in what names clients were told by dnsd, until ctx ends.
func (d *daemon) hear(ctx context.Context) error {
	path := filepath.Join(d.dirs.Run, svcconf.NamesDir, svcconf.NamesSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetReadBuffer(namesBuffer) // or with less
	// The socket has dnsd's group, as the directory has.
	if err := os.Chmod(path, 0o660); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, svcconf.MaxNames)
	for {
		n, _, flags, _, err := conn.ReadMsgUnix(buf, nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case flags&unix.MSG_TRUNC != 0:
			continue
		}
		d.named(buf[:n], time.Now())
	}
}

func (d *daemon) named(b []byte, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lost, ok := svcconf.ReadNames(b, func(n svcconf.Named) { d.tracker.Named(n.Client, n.Addr, n.Name, now) })
	if ok {
		d.dropped += uint64(lost)
	}
}
