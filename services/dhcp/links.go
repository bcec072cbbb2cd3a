package dhcp

import (
	"context"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
)

// links runs one goroutine for each link that is served.
type links struct {
	s      *Server
	cancel map[string]context.CancelFunc // by link
	wg     sync.WaitGroup
}

func newLinks(s *Server) *links {
	return &links{s: s, cancel: make(map[string]context.CancelFunc)}
}

// set begins to serve the links of conf that are not served yet, and ends with those
// that are not in it. The others go on as they are, packets on their way included.
func (l *links) set(ctx context.Context, conf svcconf.DHCP) {
	wanted := make(map[string]bool, len(conf.Zones))
	for _, z := range conf.Zones {
		wanted[z.Link] = true
		if l.cancel[z.Link] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		l.cancel[z.Link] = cancel
		l.wg.Go(func() { l.s.serveLink(ctx, z.Link) })
	}
	for link, cancel := range l.cancel {
		if !wanted[link] {
			cancel()
			delete(l.cancel, link)
		}
	}
}

// stop ends everything and waits for it.
func (l *links) stop() {
	l.set(context.Background(), svcconf.DHCP{})
	l.wg.Wait()
}

// serveLink serves a link until ctx ends, whenever it is there. What keeps it from
// that is logged when it changes.
func (s *Server) serveLink(ctx context.Context, link string) {
	log := s.log.With("link", link)
	for last := ""; ctx.Err() == nil; {
		c, err := open(ctx, link)
		if err == nil {
			log.Info("serving")
			last = ""
			s.conns.Store(link, c)
			err = c.serve(ctx, func(packet []byte) { s.receive(link, packet) })
			s.conns.CompareAndDelete(link, c)
		}
		if ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			log.Warn("not serving", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}
