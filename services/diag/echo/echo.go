// Package echo asks hosts for ICMP echoes: whether they answer, and who is on the way.
//
// It sends nothing else. Whether the box may send that to a host is for the ruleset to say.
package echo

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"bulkhead/services/diag/api"
)

// How long an answer is waited for, and the pace of requests.
const (
	patience = 2 * time.Second
	pace     = time.Second
	spacing  = 20 * time.Millisecond // of those to different hops
)

// How a way is explored: so many hops at once, and so many requests for each.
const (
	stretch = 5
	tries   = 3
)

// maxTTL is that of requests that are to arrive.
const maxTTL = 64

// wire is a socket for the requests of one run, which are told apart by number.
type wire interface {
	send(number uint16, ttl int) error
	answers() <-chan answer // closed when nothing more will come
}

// answer is what came back for a request.
type answer struct {
	number  uint16
	from    netip.Addr
	at      time.Time
	arrived bool   // the request did
	final   bool   // and goes no further, if not
	trouble string // in words; "": it is an echo
}

// Ping asks the target count times whether it answers, and tells of each time. It returns
// ctx's error, or that of a socket that cannot be had.
func Ping(ctx context.Context, target netip.Addr, count int, tell func(api.Echo)) error {
	w, err := open(target)
	if err != nil {
		return err
	}
	defer w.close()
	return ping(ctx, w, target, count, tell)
}

func ping(ctx context.Context, w wire, target netip.Addr, count int, tell func(api.Echo)) error {
	for n := 1; n <= count; n++ {
		next := time.After(pace)
		r := newRound(w, target)
		r.ask(uint16(n), n, maxTTL)
		if err := r.wait(ctx, func() bool { return r.open == 0 }); err != nil {
			return err
		}
		tell(*r.echoes[uint16(n)])
		if n == count {
			break
		}
		if err := until(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// Traceroute tells of each hop to the target, up to so many.
func Traceroute(ctx context.Context, target netip.Addr, hops int, tell func(api.Hop)) error {
	w, err := open(target)
	if err != nil {
		return err
	}
	defer w.close()
	return traceroute(ctx, w, target, hops, tell)
}

func traceroute(ctx context.Context, w wire, target netip.Addr, hops int, tell func(api.Hop)) error {
	for first := 1; first <= hops; first += stretch {
		last := min(first+stretch-1, hops)
		r := newRound(w, target)
		for try := range tries { // each hop's with a pause: routers answer few at once
			for hop := first; hop <= last; hop++ {
				r.ask(number(hop, try), try+1, hop)
				if err := until(ctx, time.After(spacing)); err != nil {
					return err
				}
			}
		}
		if err := r.wait(ctx, func() bool { return r.known(first, last) }); err != nil {
			return err
		}
		for hop := first; hop <= last; hop++ {
			h := r.hop(hop)
			if tell(h); h.Reached {
				return nil
			}
		}
	}
	return nil
}

// number tells apart the requests of a traceroute.
func number(hop, try int) uint16 { return uint16(hop*tries + try) }

// round is requests that are waited for together.
type round struct {
	wire
	target netip.Addr
	echoes map[uint16]*api.Echo
	sent   map[uint16]time.Time // those without an answer
	ends   map[uint16]bool      // those that went as far as it goes
	open   int                  // how many are waited for
}

func newRound(w wire, target netip.Addr) *round {
	return &round{wire: w, target: target, echoes: map[uint16]*api.Echo{}, sent: map[uint16]time.Time{}, ends: map[uint16]bool{}}
}

// ask sends a request, which is the n-th of its kind.
func (r *round) ask(number uint16, n, ttl int) {
	e := &api.Echo{Number: n, Target: r.target, Trouble: "no answer"}
	r.echoes[number] = e
	at := time.Now()
	if err := r.send(number, ttl); err != nil {
		e.Trouble = err.Error()
		return
	}
	r.sent[number] = at
	r.open++
}

// wait takes answers until done, or for so long as answers may take.
func (r *round) wait(ctx context.Context, done func() bool) error {
	over := time.NewTimer(patience)
	defer over.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case a, ok := <-r.answers():
			if !ok {
				return errors.New("wait for answers: the socket is closed")
			}
			r.take(a)
		}
	}
	return nil
}

// take notes an answer, if it is the first to a request of this round.
func (r *round) take(a answer) {
	at, ok := r.sent[a.number]
	if !ok {
		return
	}
	delete(r.sent, a.number)
	r.open--
	e := r.echoes[a.number]
	e.From, e.Trouble = a.from, a.trouble
	e.Milliseconds = float64(a.at.Sub(at).Microseconds()) / 1000
	if a.arrived || a.final {
		r.ends[a.number] = true
	}
}

// known reports whether all is known of the hops: of those before the end, if it is among
// them.
func (r *round) known(first, last int) bool {
	for hop := first; hop <= last; hop++ {
		for try := range tries {
			if _, ok := r.sent[number(hop, try)]; ok {
				return false
			}
		}
		if r.hop(hop).Reached {
			return true
		}
	}
	return true
}

func (r *round) hop(n int) api.Hop {
	h := api.Hop{Number: n}
	for try := range tries {
		h.Echoes = append(h.Echoes, *r.echoes[number(n, try)])
		h.Reached = h.Reached || r.ends[number(n, try)]
	}
	return h
}

func until(ctx context.Context, c <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c:
		return nil
	}
}
