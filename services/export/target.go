//go:build linux

package export

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export/lines"
	"bulkhead/services/flow/record"
)

// Bounds of what waits for a peer, in memory and nowhere else.
const (
	maxQueue = 8192
	maxBatch = 500
	linger   = time.Second // for how long a batch waits to fill up
)

// The pace of attempts: doubled after each that failed.
const (
	retryFirst = time.Second
	retryLast  = time.Minute
)

// target is a peer with what waits for it. Whoever is slow or away harms nobody else.
type target struct {
	conf  svcconf.ExportTarget
	log   *slog.Logger
	send  sender
	items chan lines.Item
	state state
}

func newTarget(log *slog.Logger, box string, zones []string, c svcconf.ExportTarget) (*target, error) {
	s, err := newSender(box, zones, c)
	if err != nil {
		return nil, err
	}
	return &target{conf: c, log: log.With("export", c.Name), send: s, items: make(chan lines.Item, maxQueue)}, nil
}

// wants reports whether an item is to be sent.
func (t *target) wants(it lines.Item) bool {
	switch {
	case it.Event != nil:
		return t.conf.Events
	case it.Flow.Verdict == record.Refused:
		return t.conf.Refusals
	}
	return t.conf.Flows
}

// put queues an item and never waits.
func (t *target) put(it lines.Item) {
	select {
	case t.items <- it:
	default:
		t.state.lose(1)
	}
}

// run sends until ctx ends.
func (t *target) run(ctx context.Context) {
	defer t.send.close()
	for {
		batch := t.collect(ctx)
		if batch == nil || !t.deliver(ctx, batch) {
			return
		}
	}
}

// collect waits for something to send, and then a little for more. It returns nil when
// ctx ends.
func (t *target) collect(ctx context.Context) []lines.Item {
	var batch []lines.Item
	var full <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case <-ctx.Done():
			return nil
		case <-full:
			return batch
		case it := <-t.items:
			if batch = append(batch, it); full == nil {
				full = time.After(linger)
			}
		}
	}
	return batch
}

// deliver sends a batch, again and again until it has gone. It reports whether there is
// time for more.
func (t *target) deliver(ctx context.Context, batch []lines.Item) bool {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		err := t.send.send(ctx, batch)
		if ctx.Err() != nil {
			return false
		}
		if t.state.note(err, len(batch)) && err != nil {
			t.log.Error("send", "to", t.conf.To.Address, "err", err) // once: the status shows it as long as it lasts
		}
		switch {
		case err == nil:
			return true
		case errors.Is(err, errRefused):
			t.state.lose(len(batch))
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// status is how it goes.
func (t *target) status() svcconf.TargetStatus {
	s := t.state.get()
	s.Name, s.Queued = t.conf.Name, len(t.items)
	return s
}

// state is what is known of sending to a peer. It may be used by several goroutines.
type state struct {
	mu sync.Mutex
	s  svcconf.TargetStatus
}

func (s *state) get() svcconf.TargetStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s
}

func (s *state) lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Lost += uint64(n)
}

// note notes what became of n items, and reports whether it is news.
func (s *state) note(err error, n int) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err == nil {
		news = s.s.Error != ""
		s.s.Sent += uint64(n)
		s.s.At, s.s.Error, s.s.Failing = now, "", time.Time{}
		return news
	}
	if s.s.Error == "" {
		s.s.Failing = now
	}
	news = s.s.Error != err.Error()
	s.s.Error = err.Error()
	return news
}
