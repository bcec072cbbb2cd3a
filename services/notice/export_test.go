//go:build linux

package notice

import "time"

// Patient makes the server wait as long as a connection likes.
func (s *Server) Patient() { s.slow = time.Hour }
