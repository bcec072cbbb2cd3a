package dhcp

import (
	"context"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// probe answers a client of a zone that does not exist: what it would be sent, or nil.
// A zone on whose link nobody listens answers nothing.
func (s *Server) probe(_ context.Context, zone string, packet []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.core.zoneNamed(zone)
	if z == nil {
		return nil
	}
	if _, open := s.conns.Load(z.link); !open {
		return nil
	}
	return s.core.probe(time.Now(), z, packet)
}

func (c *core) zoneNamed(name string) *zone {
	for _, z := range c.zones {
		if z.name == name {
			return z
		}
	}
	return nil
}

// probe handles a packet that asks without taking anything: it is answered like any
// other, and what was offered is free again at once. A pool that is used up offers
// nothing, but it informs.
func (c *core) probe(now time.Time, z *zone, packet []byte) []byte {
	m, err := parse(packet)
	if err != nil || m.kind != dhcpv4.MessageTypeDiscover && m.kind != dhcpv4.MessageTypeInform {
		return nil
	}
	_, real := c.heard.clients[m.client.MAC]
	res := c.handle(now, z.link, packet, nil)
	z.table.Withdraw(now, m.client)
	if !real {
		delete(c.heard.clients, m.client.MAC) // nobody was there
	}
	return res.reply.data
}
