//go:build linux

// Package sockhttp speaks HTTP at the sockets of the box's daemons. It is not part of
// package sock, so that daemons which speak none of it are no larger for it.
package sockhttp

import (
	"context"
	"net"
	"net/http"

	"bulkhead/services/sock"
)

// Transport connects to the socket at path as [sock.Dial] does, whatever the address of a
// request says, and anew for each.
func Transport(path string) *http.Transport {
	return &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return sock.Dial(ctx, path) },
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
}
