//go:build linux

// Package reboot restarts the machine through its firmware, so that the boot loader
// counts the try: never by kexec, which goes around it.
package reboot

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// gokrazySocket is where gokrazy's init takes orders: only root may open it.
const gokrazySocket = "/run/gokrazy-http.sock"

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
	polite, cancel := context.WithTimeout(ctx, politeTime)
	defer cancel()
	if err := ask(polite); err != nil {
		log.Warn("gokrazy's init does not reboot", "err", err)
	} else {
		<-polite.Done() // it answers a second before it reboots
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	Hard()
	return nil
}

// ask posts the order to gokrazy's init.
func ask(ctx context.Context) error {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", gokrazySocket)
	}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gokrazy/reboot?kexec=off&wait_per_signal="+perSignal, nil)
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
func Hard() {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(syncTime):
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // returns only if we may not
}
