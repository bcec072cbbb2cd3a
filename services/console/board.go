package console

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	update "bulkhead/services/update/api"
)

// How often daemons are asked, and how long they may take.
const (
	every    = 3 * time.Second
	seldom   = 30 * time.Second // updated, which reads the disk; unless it did not answer
	patience = 5 * time.Second
)

// board is the world as all sessions see it.
type board struct {
	mu      sync.Mutex
	world   world
	changed chan struct{} // closed when the world is another
	nudged  chan struct{} // closed when it should be looked at
}

func newBoard(version string) *board {
	return &board{world: world{version: version}, changed: make(chan struct{}), nudged: make(chan struct{})}
}

// look returns the world, and a channel that is closed when it is another.
func (b *board) look() (world, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world, b.changed
}

func (b *board) change(f func(*world)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.world)
	close(b.changed)
	b.changed = make(chan struct{})
}

// nudge has the daemons asked now.
func (b *board) nudge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.nudged)
	b.nudged = make(chan struct{})
}

func (b *board) nudges() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nudged
}

// watch keeps the board up to date until ctx ends. No daemon waits for another.
func (b *board) watch(ctx context.Context, d daemons) {
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() {
		follow(ctx, b, every, d.network.Status, func(w *world) *said[*api.Status] { return &w.status })
	})
	g.Go(func() { follow(ctx, b, every, d.network.Zones, func(w *world) *said[[]api.Zone] { return &w.zones }) })
	g.Go(func() {
		follow(ctx, b, seldom, d.updates.Status, func(w *world) *said[update.Status] { return &w.systems })
	})
	g.Go(func() { follow(ctx, b, every, d.web.Claim, func(w *world) *said[access.State] { return &w.claim }) })
	g.Go(func() {
		follow(ctx, b, every, d.supervisor.Services, func(w *world) *said[[]service] { return &w.services })
	})
}

// follow asks one question again and again, and keeps the answer at its place.
func follow[T any](ctx context.Context, b *board, pause time.Duration, ask func(context.Context) (T, error), place func(*world) *said[T]) {
	for {
		nudged := b.nudges()
		asking, cancel := context.WithTimeout(ctx, patience)
		v, err := ask(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		b.change(func(w *world) { *place(w) = said[T]{value: v, err: err, asked: true} })
		wait := pause
		if err != nil {
			wait = every
		}
		select {
		case <-ctx.Done():
			return
		case <-nudged:
		case <-time.After(wait):
		}
	}
}

// silence says what keeps a daemon from answering as it should.
func silence(daemon string, err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return daemon + " does not answer"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return daemon + " is not running"
	case errors.Is(err, fs.ErrPermission):
		return daemon + " does not let the console in"
	}
	return daemon + ": " + err.Error()
}
