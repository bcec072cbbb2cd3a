//go:build linux

package auth

import (
	"sync/atomic"

	"bulkhead/services/metrics"
)

// counters count what happened since the start.
type counters struct {
	logins, refused, waits atomic.Uint64
}

func (s *server) metrics(p *metrics.Page) {
	p.Gauge("owned", "Whether somebody may do everything.", metrics.Of(metrics.Truth(s.owned())))
	p.Gauge("users", "Users.", metrics.Of(len(s.users.Users())))
	p.Gauge("sessions", "Sessions of users.", metrics.Of(len(s.users.Sessions(""))))
	p.Gauge("tokens", "Tokens.", metrics.Of(len(s.tokens.List())))
	p.Counter("logins_total", "Attempts to log in, by what became of them.",
		metrics.Of(s.count.logins.Load(), "outcome", "let in"),
		metrics.Of(s.count.refused.Load(), "outcome", "refused"),
		metrics.Of(s.count.waits.Load(), "outcome", "too early"))
}
