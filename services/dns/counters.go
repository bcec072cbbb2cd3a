package dns

import "sync/atomic"

// counters count what happened since the start.
type counters struct {
	outcomes [outcomes]atomic.Uint64

	overflow        atomic.Uint64
	failures        atomic.Uint64
	upstreamQueries atomic.Uint64
	upstreamTCP     atomic.Uint64
	upstreamForeign atomic.Uint64
	upstreamErrors  atomic.Uint64
	upstreamFailed  atomic.Uint64
	tcpRejected     atomic.Uint64
	sendErrors      atomic.Uint64
}

// Stats is what was counted at one moment.
type Stats struct {
	Dropped       uint64 // queries that got no reply: not DNS, or themselves replies
	Malformed     uint64 // answered FORMERR or BADVERS
	Unimplemented uint64 // answered NOTIMP
	Refused       uint64 // from outside the zone, zone transfers, other classes
	Local         uint64 // answered out of the local names
	Cached        uint64 // answered out of the cache
	Forwarded     uint64 // sent upstream, or waiting for the answer to an equal one

	Overflow uint64 // answered SERVFAIL because too much was going on
	Failures uint64 // forwarded questions that no resolver answered

	UpstreamQueries uint64 // sent by UDP
	UpstreamTCP     uint64 // of these, asked again by TCP
	UpstreamForeign uint64 // messages received that were no reply to what was asked
	UpstreamErrors  uint64 // time-outs, unreachable resolvers
	UpstreamFailed  uint64 // replies without an answer, such as SERVFAIL

	TCPRejected uint64 // connections closed because there were too many
	SendErrors  uint64 // replies that the kernel would not send

	CacheEntries int
	CacheBytes   int
	CacheEvicted uint64

	NamesTold uint64 // answers that flowd was told of
	NamesLost uint64 // answers that it had no room for, while it was there
}

func (c *counters) snapshot() Stats {
	return Stats{
		Dropped:       c.outcomes[dropped].Load(),
		Malformed:     c.outcomes[malformed].Load(),
		Unimplemented: c.outcomes[unknown].Load(),
		Refused:       c.outcomes[refused].Load(),
		Local:         c.outcomes[local].Load(),
		Cached:        c.outcomes[cached].Load(),
		Forwarded:     c.outcomes[forward].Load(),

		Overflow: c.overflow.Load(),
		Failures: c.failures.Load(),

		UpstreamQueries: c.upstreamQueries.Load(),
		UpstreamTCP:     c.upstreamTCP.Load(),
		UpstreamForeign: c.upstreamForeign.Load(),
		UpstreamErrors:  c.upstreamErrors.Load(),
		UpstreamFailed:  c.upstreamFailed.Load(),

		TCPRejected: c.tcpRejected.Load(),
		SendErrors:  c.sendErrors.Load(),
	}
}
