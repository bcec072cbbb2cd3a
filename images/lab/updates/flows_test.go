//go:build linux

package updates_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"bulkhead/services/flow/record"
	"bulkhead/webui/remote"
)

// witness opens connections to the box and knows which records of them it was shown.
type witness struct {
	mu    sync.Mutex
	shown map[string]time.Time // when, by what tells records apart
	found map[string]int       // how often they are on the disk
}

// mark tells records apart: a port is not used again so soon.
func mark(r *record.Record) string {
	return fmt.Sprintf("%s:%d → %s:%d at %s", r.Src.Addr, r.Src.Port, r.Dst.Addr, r.Dst.Port, r.Start.UTC().Format(time.StampMilli))
}

// call opens connections, and breaks them off: of what is closed in order the kernel knows
// for another two minutes.
func (w *witness) call(ctx context.Context, b *box) {
	for ctx.Err() == nil {
		if c, err := b.dial(ctx, "tcp4", net.JoinHostPort(address, "443")); err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// follow notes the records that are shown as they are made, until ctx ends.
func (w *witness) follow(ctx context.Context, c *remote.Client) {
	for ctx.Err() == nil {
		body, err := c.Stream(ctx, "GET", "/v1/flows/live?verdict=allowed&port=443", nil)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			var r record.Record
			if json.Unmarshal(lines.Bytes(), &r) == nil && r.Src.Addr.IsValid() {
				w.mu.Lock()
				if w.shown == nil {
					w.shown = map[string]time.Time{}
				}
				w.shown[mark(&r)] = time.Now()
				w.mu.Unlock()
			}
		}
		body.Close()
	}
}

func (w *witness) seen() map[string]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]time.Time, len(w.shown))
	for k, at := range w.shown {
		all[k] = at
	}
	return all
}

// look reads what is on the disk.
func (w *witness) look(ctx context.Context, c *remote.Client) error {
	var list []record.Record
	if err := c.Call(ctx, "GET", "/v1/flows?verdict=allowed&port=443&limit=10000", nil, &list); err != nil {
		return err
	}
	w.found = map[string]int{}
	for i := range list {
		w.found[mark(&list[i])]++
	}
	return nil
}

// check holds what is on the disk after a cut against what was shown before it.
func (w *witness) check(t *testing.T, cut time.Time) {
	t.Helper()
	// Batches are written every five seconds; what is shown has just been put into one, and
	// it takes a while until it is here.
	const may = 5*time.Second + 500*time.Millisecond
	kept, young, lost := 0, 0, 0
	for k, at := range w.seen() {
		switch n := w.found[k]; {
		case n > 1:
			t.Errorf("%s is there %d times", k, n)
		case n == 1:
			kept++
		case cut.Sub(at) < may:
			young++
		default:
			lost++
			t.Errorf("%s was shown %s before the power was cut, and is lost", k, cut.Sub(at).Round(time.Millisecond))
		}
	}
	w.mu.Lock()
	for k := range w.shown { // those that may be lost are
		if w.found[k] == 0 {
			delete(w.shown, k)
		}
	}
	w.mu.Unlock()
	t.Logf("%d records are there, %d of the last seconds are lost", kept, young)
	if kept == 0 || lost > 0 {
		t.Errorf("%d records kept, %d lost", kept, lost)
	}
}
