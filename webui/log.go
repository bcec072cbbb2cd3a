//go:build linux

package webui

import (
	"log/slog"
	"sync"
	"time"
)

// seldom logs at a bounded rate what strangers can cause.
type seldom struct {
	log   *slog.Logger
	every time.Duration

	mu      sync.Mutex
	last    time.Time
	skipped int
}

// warn logs the message, unless another was logged a moment ago: then it counts.
func (s *seldom) warn(msg string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.last.IsZero() || now.Sub(s.last) >= s.every {
		if s.skipped > 0 {
			args = append(args, "notShown", s.skipped)
		}
		s.log.Warn(msg, args...)
		s.last, s.skipped = now, 0
		return
	}
	s.skipped++
}
