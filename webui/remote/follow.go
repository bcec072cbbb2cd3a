package remote

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"bulkhead/netcfg/api"
)

// How a change is followed that moves the box to another address. The answer to it
// often does not arrive: the address that it is sent from is gone by then.
const (
	followAfter = 2 * time.Second  // without an answer, the box is looked for
	followEvery = time.Second      // from then on
	followTime  = 20 * time.Second // at most, while it is nowhere
	doubtTime   = 15 * time.Second // at most, while it is there and nothing has changed
)

// Errors of [Profile.Follow].
var (
	ErrLost     = errors.New("the box's answer did not arrive, and the box cannot be found from here any more")
	ErrNotTaken = errors.New("the connection broke, and the box did not take the change: try again")
)

// Change is something that puts another configuration into force.
type Change func(context.Context, *Client) (*api.Plan, error)

// Done is a change that is in force.
type Done struct {
	Plan  *api.Plan // nil: the answer got lost, although the change was carried out
	Moved bool      // the box is not where it was
	Found bool      // the box is at p.URL and can be reached from here
}

// Follow makes a change on a box that may have other addresses afterwards: next are all
// that it has then, as URLs; none if that is not known. p holds where the box is, or
// may be, when Follow returns, whatever the error.
//
// The error is [ErrLost] if the change may be in force, or not.
func (p *Profile) Follow(ctx context.Context, next []string, change Change) (*Done, error) {
	before, err := p.number(ctx, p.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		plan *api.Plan
		err  error
	}
	answered := make(chan result, 1)
	client := New(p)
	go func() {
		plan, err := change(ctx, client)
		answered <- result{plan, err}
	}()
	places := append([]string{p.URL}, slices.DeleteFunc(slices.Clone(next), func(s string) bool { return s == p.URL })...)
	seen, doubt := time.Now(), time.Time{}
	look := time.NewTimer(followAfter)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-answered:
			if r.err == nil {
				return p.settle(ctx, next, &Done{Plan: r.plan}), nil
			}
			if !broken(r.err) {
				return nil, r.err
			}
			doubt = time.Now()
		case <-look.C:
			at, n := p.search(ctx, places)
			switch {
			case at != "" && n > before:
				moved := at != p.URL
				p.URL, p.Also = at, nil
				return p.settle(ctx, next, &Done{Moved: moved}), nil
			case at != "":
				seen = time.Now()
			}
			if at != "" && !doubt.IsZero() && time.Since(doubt) > doubtTime {
				return nil, ErrNotTaken
			}
			if time.Since(seen) > followTime {
				p.URL, p.Also = places[len(places)-1], places[:len(places)-1]
				return nil, ErrLost
			}
			look.Reset(followEvery)
		}
	}
}

// search asks at each of the places which configuration is in force, and returns the
// newest and where that is; "" if the box is at none.
func (p *Profile) search(ctx context.Context, places []string) (at string, newest int) {
	for _, url := range places {
		if n, err := p.number(ctx, url); err == nil && (at == "" || n > newest) {
			at, newest = url, n
		}
	}
	return at, newest
}

// number returns the number of the configuration in force on the box at the URL.
func (p *Profile) number(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	s, err := New(&Profile{URL: url, Fingerprint: p.Fingerprint, Token: p.Token}).Status(ctx)
	if err != nil || s.Confirmed == nil {
		return 0, err
	}
	return s.Confirmed.Number, nil
}

// settle makes next the places where the box is, and notes whether it can be reached
// at one of them, which is the only one then.
func (p *Profile) settle(ctx context.Context, next []string, done *Done) *Done {
	if len(next) == 0 || slices.Contains(next, p.URL) {
		done.Found = true
		return done
	}
	done.Moved = true
	p.URL, p.Also = next[0], next[1:]
	for range 5 { // a link takes a moment to come up
		if p.find(ctx) == nil {
			done.Found = true
			return done
		}
		select {
		case <-ctx.Done():
			return done
		case <-time.After(followEvery):
		}
	}
	return done
}

// broken reports whether an error says nothing about what was asked.
func broken(err error) bool { return errors.Is(err, errBroken) || errors.Is(err, io.ErrUnexpectedEOF) }
