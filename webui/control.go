//go:build linux

package webui

import (
	"context"
	"net/http"
	"path/filepath"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/services/sock"
)

// ControlSocket is the name of the console's socket in the service's run directory.
const ControlSocket = "control.sock"

// serveControl answers the console until ctx ends. Root alone gets through: whoever
// sees the screen owns the box. The console has no capability, and is in our group.
func (s *server) serveControl(ctx context.Context) error {
	l, err := sock.Listen(filepath.Join(s.o.Run, ControlSocket), svcconf.Webuid.ID)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/identity", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, access.Identity{Fingerprint: s.identity.fingerprint(), Addresses: s.conf.Load().Listen})
	})
	srv := s.newServer(mux)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}
