//go:build linux

package api

import (
	"context"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/services/sock"
)

// Uptime is how long the machine has been up: a clock that all its processes share, and
// that nobody sets.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("api: no CLOCK_BOOTTIME: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(t.Nano())
}

type acceptedKey struct{}

// ConnContext is for [net/http.Server]: it notes when a connection was accepted, for
// [Accepted], and whose it is.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(sock.ConnContext(ctx, c), acceptedKey{}, Uptime())
}

// Accepted is when the connection was accepted that a request came over, by [Uptime].
func Accepted(ctx context.Context) time.Duration {
	t, _ := ctx.Value(acceptedKey{}).(time.Duration)
	return t
}
