package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/services/onlink"
)

const (
	retryListen = 500 * time.Millisecond // for a link that is not there yet
	watchLink   = time.Second            // for one that has been made anew
	drain       = 200 * time.Millisecond // of a socket that is to be closed
)

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

// run listens until ctx ends, and again whenever the link that it is bound to has
// been replaced by another of the same name: a socket stays with the old one.
func (l *listener) run() {
	log := l.srv.log.With("zone", l.view.Load().zone.Zone, "address", l.place.Addr, "link", l.place.Link)
	var said string
	for l.ctx.Err() == nil {
		s, err := l.place.Open(l.ctx)
		wait := retryListen
		if err == nil {
			log.Info("answers")
			said = ""
			l.serve(s)
			wait = 0
		} else if said != err.Error() && l.ctx.Err() == nil {
			said = err.Error()
			log.Warn("cannot listen yet", "err", err)
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// serve uses s until the listener is cancelled or its link is another one.
func (l *listener) serve(s *onlink.Pair) {
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
	tick := time.NewTicker(watchLink)
	defer tick.Stop()
	for same := true; same; {
		select {
		case <-l.ctx.Done():
			same = false
		case <-tick.C:
			same = s.Hears()
		}
	}
	s.TCP.Close()
	wait := drain // what has arrived by now is still answered
	if l.srv.ctx.Err() != nil {
		wait = 0
	}
	s.UDP.SetReadDeadline(time.Now().Add(wait))
	serving.Wait()
	s.UDP.Close()
}
