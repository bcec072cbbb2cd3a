package dhcp

import (
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/services/metrics"
)

// metrics writes what the server counts, and the leases in force.
func (s *Server) metrics(p *metrics.Page) {
	leases := make(map[string]int)
	s.mu.Lock()
	for _, z := range s.core.zones {
		leases[z.name] = 0
	}
	for _, b := range s.core.bound(time.Now()) {
		leases[b.zone.name]++
	}
	s.mu.Unlock()
	p.Gauge("leases", "Leases in force.", metrics.ByKey("zone", leases)...)
	s.count.metrics(p)
}

func (c *Counters) metrics(p *metrics.Page) {
	var received, sent []metrics.Sample
	for kind := 1; kind < numKinds; kind++ {
		name := strings.ToLower(dhcpv4.MessageType(kind).String())
		received = append(received, metrics.Of(c.Received[kind].Load(), "type", name))
		sent = append(sent, metrics.Of(c.Sent[kind].Load(), "type", name))
	}
	p.Counter("messages_received_total", "Valid messages of clients.", received...)
	p.Counter("messages_sent_total", "Replies given to the kernel.", sent...)
	p.Counter("messages_unanswered_total", "Messages that were not answered.",
		metrics.Of(c.Malformed.Load(), "reason", "malformed"),
		metrics.Of(c.Foreign.Load(), "reason", "foreign"),
		metrics.Of(c.Unsupported.Load(), "reason", "unsupported"),
		metrics.Of(c.Elsewhere.Load(), "reason", "elsewhere"),
		metrics.Of(c.Exhausted.Load(), "reason", "exhausted"),
		metrics.Of(c.Busy.Load(), "reason", "busy"),
		metrics.Of(c.Unsaved.Load(), "reason", "unsaved"),
		metrics.Of(c.SendErrors.Load(), "reason", "unsent"))
	p.Counter("leases_expired_total", "Leases that ended without being released.", metrics.Of(c.Expired.Load()))
	p.Counter("addresses_quarantined_total", "Addresses declined by those they were given to.", metrics.Of(c.Quarantined.Load()))
	p.Counter("messages_ignored_total", "Releases and declines of addresses that the client has not got.", metrics.Of(c.Ignored.Load()))
	p.Counter("journal_writes_total", "Writes to the journal: each makes many leases durable.", metrics.Of(c.JournalWrites.Load()))
	p.Counter("journal_records_total", "Leases written to the journal.", metrics.Of(c.JournalRecords.Load()))
	p.Counter("journal_replaced_total", "Journals written anew.", metrics.Of(c.JournalReplaced.Load()))
	p.Counter("journal_errors_total", "Writes that the disk did not take.", metrics.Of(c.JournalErrors.Load()))
	p.Counter("leases_published_total", "Versions of the list of leases for other services.", metrics.Of(c.Published.Load()))
	p.Counter("leases_publish_errors_total", "Versions of the list of leases that could not be written.", metrics.Of(c.PublishErrors.Load()))
	p.Counter("heard_errors_total", "Versions of what was heard of clients that could not be written.", metrics.Of(c.HeardErrors.Load()))
	p.Counter("clock_steps_total", "Times the clock was set.", metrics.Of(c.ClockSteps.Load()))
}
