package dns

import "bulkhead/services/metrics"

// metrics writes what the server counts.
func (s *server) metrics(p *metrics.Page) {
	c := s.stats()
	p.Counter("queries_total", "Queries of clients by what became of them.",
		metrics.Of(c.Dropped, "outcome", "dropped"),
		metrics.Of(c.Malformed, "outcome", "malformed"),
		metrics.Of(c.Unimplemented, "outcome", "unimplemented"),
		metrics.Of(c.Refused, "outcome", "refused"),
		metrics.Of(c.Local, "outcome", "local"),
		metrics.Of(c.Cached, "outcome", "cached"),
		metrics.Of(c.Forwarded, "outcome", "forwarded"))
	p.Counter("queries_failed_total", "Queries answered SERVFAIL.",
		metrics.Of(c.Overflow, "reason", "overflow"), metrics.Of(c.Failures, "reason", "unanswered"))
	p.Counter("upstream_queries_total", "Queries to the resolvers by UDP.", metrics.Of(c.UpstreamQueries))
	p.Counter("upstream_tcp_total", "Queries to the resolvers asked again by TCP.", metrics.Of(c.UpstreamTCP))
	p.Counter("upstream_errors_total", "What went wrong with the resolvers.",
		metrics.Of(c.UpstreamErrors, "reason", "unreachable"),
		metrics.Of(c.UpstreamFailed, "reason", "failed"),
		metrics.Of(c.UpstreamForeign, "reason", "foreign"))
	p.Counter("tcp_rejected_total", "Connections closed because there were too many.", metrics.Of(c.TCPRejected))
	p.Counter("send_errors_total", "Replies that the kernel would not send.", metrics.Of(c.SendErrors))
	p.Gauge("cache_entries", "Answers in the cache.", metrics.Of(c.CacheEntries))
	p.Gauge("cache_bytes", "Size of the cache.", metrics.Of(c.CacheBytes))
	p.Counter("cache_evicted_total", "Answers that made room for others.", metrics.Of(c.CacheEvicted))
	p.Counter("names_told_total", "Answers that flowd was told of.", metrics.Of(c.NamesTold))
	p.Counter("names_lost_total", "Answers that flowd had no room for.", metrics.Of(c.NamesLost))
}
