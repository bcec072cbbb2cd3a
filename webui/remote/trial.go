package remote

import (
	"context"
	"errors"
	"fmt"
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
	doubtTime   = 15 * time.Second // at most, while it is there and nothing has changed
)

// Errors of [Profile.Try] and [Profile.Confirm].
var (
	// ErrLost says that a change may be on trial, or not.
	ErrLost     = errors.New("the box's answer did not arrive, and the box cannot be found from here any more")
	ErrNotTaken = errors.New("the connection broke, and the box did not take the change: try again")
	// ErrUndone says that the change is not in force any more.
	ErrUndone = errors.New("the change is not in force any more")
	// ErrLate says that the box was not found before the time to confirm was over.
	ErrLate = errors.New("the box could not be reached in time, so the change undoes itself")
)

// Change is something that puts another configuration into force on trial.
type Change func(context.Context, *Client) (*api.Trial, error)

// Tried is a change that is on trial.
type Tried struct {
	Pending api.Pending
	Plan    *api.Plan // nil: the answer got lost
	Found   bool      // the box is at p.URL and can be reached from here
}

// Try makes a change, which will have the ID, on a box that may have other addresses
// afterwards: next are all that it has then, as URLs; none if that is not known. p
// holds all places where the box may be when Try returns, whatever the error: the
// change may be undone by itself. Patience is how long the box is looked for while it
// is at none of them: somebody may have to plug a cable elsewhere.
func (p *Profile) Try(ctx context.Context, id string, next []string, patience time.Duration, change Change) (*Tried, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		trial *api.Trial
		err   error
	}
	answered := make(chan result, 1)
	client := New(p)
	go func() {
		trial, err := change(ctx, client)
		answered <- result{trial, err}
	}()
	before := p.URL
	places := places(next, p)
	seen, doubt := time.Now(), time.Time{}
	look := time.NewTimer(followAfter)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-answered:
			if r.err == nil {
				found := p.settle(ctx, places)
				return &Tried{Pending: r.trial.Pending, Plan: r.trial.Plan, Found: found}, nil
			}
			if !broken(r.err) {
				return nil, r.err
			}
			doubt = time.Now()
		case <-look.C:
			at, s := p.search(ctx, places, id)
			switch {
			case at != "":
				seen = time.Now()
			case time.Since(seen) > patience:
				p.URL, p.Also = places[0], places[1:]
				return nil, ErrLost
			}
			switch {
			case s != nil && s.Pending != nil && s.Pending.Phase == api.Waiting:
				p.URL, p.Also = at, others(places, at)
				return &Tried{Pending: *s.Pending, Found: at != before || len(next) == 0 || slices.Contains(next, at)}, nil
			case s != nil && s.Last != nil && s.Pending == nil:
				return nil, undone(s.Last)
			case at != "" && !doubt.IsZero() && time.Since(doubt) > doubtTime:
				return nil, ErrNotTaken
			}
			look.Reset(followEvery)
		}
	}
}

// places are the URLs at which a box may be, the next ones first.
func places(next []string, p *Profile) []string {
	var all []string
	for _, url := range slices.Concat(next, []string{p.URL}, p.Also) {
		if !slices.Contains(all, url) {
			all = append(all, url)
		}
	}
	return all
}

func others(list []string, but string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == but })
}

// search asks at each of the places what became of the change with the ID, and returns
// where the box is; "" if it is at none. What it returns of the change is nil if the
// box does not know of it.
func (p *Profile) search(ctx context.Context, places []string, id string) (at string, s *api.Trials) {
	for _, url := range places {
		t, err := p.pending(ctx, url)
		if err != nil {
			continue
		}
		at = url
		if t.Pending != nil && t.Pending.ID == id {
			return url, &api.Trials{Pending: t.Pending}
		}
		if t.Last != nil && t.Last.ID == id {
			return url, &api.Trials{Last: t.Last}
		}
	}
	return at, nil
}

// pending asks at a URL which change is pending, over a connection of its own.
func (p *Profile) pending(ctx context.Context, url string) (*api.Trials, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return p.at(url).Pending(ctx)
}

// at returns a client of the box at a URL. Its first call makes a new connection.
func (p *Profile) at(url string) *Client {
	there := *p
	there.URL, there.Also = url, nil
	return New(&there)
}

// settle looks for the box at the places in a moment, in which a link may come up, and
// makes the one where it is found p's. All others are kept in mind.
func (p *Profile) settle(ctx context.Context, places []string) (found bool) {
	for range 5 {
		for _, url := range places {
			if _, err := p.pending(ctx, url); err == nil {
				p.URL, p.Also = url, others(places, url)
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(followEvery):
		}
	}
	p.URL, p.Also = places[0], places[1:]
	return false
}

// Confirm keeps the change with the token, over a new connection to wherever the box is
// by then. It tries until the deadline, which is that of the change. Afterwards the box
// is at p.URL.
//
// The error wraps [ErrUndone] or [ErrLate] if the change is not kept.
func (p *Profile) Confirm(ctx context.Context, id, token string, deadline time.Time) error {
	for {
		err := p.confirmAnywhere(ctx, id, token)
		switch {
		case err == nil:
			p.Also = nil
			return nil
		case !retry(err):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%w: %w", ErrLate, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// confirmAnywhere tries once, at each place.
func (p *Profile) confirmAnywhere(ctx context.Context, id, token string) error {
	var last error
	all := places(nil, p)
	for _, url := range all {
		err := p.confirmAt(ctx, url, id, token)
		if err == nil || !retry(err) {
			p.URL, p.Also = url, others(all, url)
			return err
		}
		last = err
	}
	return last
}

func (p *Profile) confirmAt(ctx context.Context, url, id, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTime)
	defer cancel()
	_, err := p.at(url).Client.Confirm(ctx, api.Confirm{Token: token})
	if !errors.Is(err, api.ErrNothing) {
		return err
	}
	// Perhaps it was kept, and the answer to that got lost.
	t, asked := p.pending(ctx, url)
	switch {
	case asked != nil:
		return asked
	case t.Last == nil || t.Last.ID != id:
		return err
	case t.Last.End == api.EndConfirmed:
		return nil
	}
	return undone(t.Last)
}

func undone(o *api.Outcome) error { return fmt.Errorf("%w: %s", ErrUndone, o) }

// retry reports whether what failed may work in a moment.
func retry(err error) bool {
	return broken(err) || errors.Is(err, ErrUnreachable) || errors.Is(err, api.ErrTooEarly) ||
		errors.Is(err, api.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded)
}

// broken reports whether an error says nothing about what was asked.
func broken(err error) bool { return errors.Is(err, errBroken) || errors.Is(err, io.ErrUnexpectedEOF) }
