package dns

import (
	"context"
	"net/netip"
)

// probe answers a query as if a client of a zone had sent it by TCP, which cuts no
// answer short. A zone in which nobody listens answers nothing.
func (s *server) probe(ctx context.Context, zone string, query []byte) []byte {
	l := s.listening(zone)
	if l == nil {
		return nil
	}
	z := l.view.Load().zone
	client := z.Address.Next()
	if !z.Subnet.Contains(client) {
		client = z.Address.Prev()
	}
	replies := make(chan []byte, 1)
	w := &waiter{client: netip.AddrPortFrom(client, s.port), tcp: true, send: func(reply []byte, _ netip.AddrPort) { replies <- reply }}
	if !l.handle(w, query) {
		return nil
	}
	select {
	case reply := <-replies:
		return reply
	case <-ctx.Done():
		return nil
	}
}

// listening returns the listener of a zone, if it has open sockets.
func (s *server) listening(zone string) *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.view.Load().zone.Zone == zone && l.open.Load() {
			return l
		}
	}
	return nil
}
