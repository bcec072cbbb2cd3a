package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/services/onlink"
)

const drain = 200 * time.Millisecond // of a socket that is to be closed

// listener answers the queries of one zone. What it answers may change; where it
// listens does not.
type listener struct {
	srv    *server
	ctx    context.Context
	cancel context.CancelFunc
	place  onlink.Place
	view   atomic.Pointer[view]
	opened chan struct{} // closed when it listens for the first time
	open   atomic.Bool   // it listens
}

// run listens until ctx ends.
func (l *listener) run() {
	log := l.srv.log.With("zone", l.view.Load().zone.Zone, "address", l.place.Addr, "link", l.place.Link)
	l.place.Serve(l.ctx, func(on context.Context, s *onlink.Pair) error {
		log.Info("answers")
		l.serve(on, s)
		return nil
	}, func(err error) { log.Warn("cannot listen yet", "err", err) })
}

// serve uses s until on ends.
func (l *listener) serve(on context.Context, s *onlink.Pair) {
	// Best effort: bursts of a whole zone fit, as far as the system lets them.
	_ = s.UDP.SetReadBuffer(1 << 20)
	var serving sync.WaitGroup
	serving.Go(func() { l.serveUDP(s.UDP) })
	serving.Go(func() { l.serveTCP(s.TCP) })
	l.open.Store(true)
	defer l.open.Store(false)
	select {
	case <-l.opened:
	default:
		close(l.opened)
	}
	<-on.Done()
	s.TCP.Close()
	wait := drain // what has arrived by now is still answered
	if l.srv.ctx.Err() != nil {
		wait = 0
	}
	s.UDP.SetReadDeadline(time.Now().Add(wait))
	serving.Wait()
	s.UDP.Close()
}
