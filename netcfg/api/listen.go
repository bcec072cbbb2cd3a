//go:build linux

package api

import (
	"net"
	"path/filepath"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// Listen opens the socket in the run directory. Root, or whoever runs this process,
// gets through, and webuid, who says on whose behalf it asks.
func Listen(run string) (net.Listener, error) {
	return sock.Listen(filepath.Join(run, SocketFile), svcconf.Webuid.ID, svcconf.Webuid.ID)
}
