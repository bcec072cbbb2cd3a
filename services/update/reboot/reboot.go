//go:build linux

// Package reboot restarts the machine through its firmware, so that the boot loader
// counts the try: never by kexec, which goes around it. It switches it off as well.
package reboot

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// InitSocket is where gokrazy's init takes orders: only root may open it.
const InitSocket = "/run/gokrazy-http.sock"

// These bound how long a reboot takes when nothing goes as it should.
const (
	perSignal  = "5s"             // that gokrazy gives services after SIGTERM, and then after SIGKILL
	politeTime = 30 * time.Second // for stopping services and unmounting /perm
	syncTime   = 10 * time.Second
)

// Now asks gokrazy's init to stop the services, unmount /perm and reboot. If that does
// not come about in time, it makes the kernel write what it holds and reboots itself.
// It returns only with an error, or when ctx ends first: the caller is among the
// services that are stopped.
func Now(ctx context.Context, log *slog.Logger) error {
	return leave(ctx, log, "/reboot?kexec=off&", unix.LINUX_REBOOT_CMD_RESTART)
}

// Off is [Now], and switches the machine off instead.
func Off(ctx context.Context, log *slog.Logger) error {
	return leave(ctx, log, "/poweroff?", unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func leave(ctx context.Context, log *slog.Logger, order string, hard int) error {
	polite, cancel := context.WithTimeout(ctx, politeTime)
	defer cancel()
	if err := ask(polite, order); err != nil {
		log.Warn("gokrazy's init does not obey", "err", err)
	} else {
		<-polite.Done() // it answers a second before it does
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	down(hard)
	return nil
}

// ask posts the order to gokrazy's init.
func ask(ctx context.Context, order string) error {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", InitSocket)
	}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gokrazy"+order+"wait_per_signal="+perSignal, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Hard reboots at once, after a bounded time for the kernel to write what it holds: a
// disk that hangs must not keep a bad system up.
func Hard() { down(unix.LINUX_REBOOT_CMD_RESTART) }

func down(cmd int) {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(syncTime):
	}
	_ = unix.Reboot(cmd) // returns only if we may not
}
