//go:build linux

package webui

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"bulkhead/services/auth/access"
	"bulkhead/services/metrics"
)

// counters count what happened since the start.
type counters struct {
	letIn   atomic.Uint64 // requests
	unknown atomic.Uint64 // requests without a token that is known and in force
	scope   atomic.Uint64 // requests with a token that is for something else
}

// collector puts the pages of all services together.
type collector struct {
	run string

	mu sync.Mutex // one at a time: a second scrape would be of the same moment
}

// collect returns the page of each service, nil of one that does not answer.
func (c *collector) collect(ctx context.Context) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	pages := make([][]byte, len(metrics.Services))
	var wg sync.WaitGroup
	for i, s := range metrics.Services {
		wg.Go(func() { pages[i], _ = s.Collect(ctx, c.run) }) // why not, that service says
	}
	wg.Wait()
	return pages
}

// What opens the metrics, and what they are.
const (
	metricsScope   = access.Read
	metricsSummary = "What all services count, for Prometheus"
)

// metrics answers with what all services count. A token is needed, as for all else:
// who talks how much is nobody's business, though he be in an admin zone.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	pages := s.pages.collect(r.Context())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(append(s.ownPage(pages), bytes.Join(pages, nil)...)) // a client that left needs no answer
}

// ownPage is which services answered, what this box is, and what webuid counts.
func (s *server) ownPage(pages [][]byte) []byte {
	// The one name that has no service's prefix: Prometheus' own "up" is of the box.
	b := []byte("# HELP bulkhead_up Whether the service answered.\n# TYPE bulkhead_up gauge\n")
	for i, svc := range metrics.Services {
		b = fmt.Appendf(b, "bulkhead_up{service=%q} %v\n", svc.Name, metrics.Truth(pages[i] != nil))
	}
	p := metrics.NewPage("web")
	p.Gauge("box_info", "The box: 1 with what it is called and runs.", metrics.Of(1, "name", s.conf.Load().Name, "version", s.image.Version))
	p.Counter("requests_total", "Requests that take a token, by what became of them.",
		metrics.Of(s.count.letIn.Load(), "outcome", "let in"),
		metrics.Of(s.count.unknown.Load(), "outcome", "no token"),
		metrics.Of(s.count.scope.Load(), "outcome", "another scope"))
	metrics.Process(p)
	return append(b, p.Bytes()...)
}
