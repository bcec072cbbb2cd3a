package dns

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
)

// view is what the clients of one zone see. It is immutable.
type view struct {
	zone    svcconf.DNSZone
	table   *table
	blocked map[string]*apex // domains in which nothing exists for this zone, by their names
}

// newView returns what the zone sees of the table.
func newView(z svcconf.DNSZone, t *table) *view {
	v := &view{zone: z, table: t, blocked: make(map[string]*apex, len(z.Block))}
	for _, domain := range z.Block {
		if name := wireName(domain); name != nil {
			v.blocked[string(name)] = newApex(name, emptyTTL)
		}
	}
	return v
}

// outcome is what became of a query.
type outcome uint8

const (
	dropped   outcome = iota // no reply
	malformed                // FORMERR or BADVERS
	unknown                  // an opcode we do not have
	refused
	local   // answered out of the table
	cached  // answered out of the cache
	forward // no reply yet: somebody else must be asked
	outcomes
)

// answer decides what becomes of the query msg, and writes the reply, if there is
// one yet, over buf. It fills q; for [forward], q is what to ask upstream.
func (v *view) answer(buf, msg []byte, client netip.Addr, tcp bool, c *cache, now time.Time, q *question) ([]byte, outcome) {
	switch rcode := q.parse(msg); rcode {
	case dns.RcodeSuccess:
	case dropQuery:
		return nil, dropped
	case dns.RcodeNotImplemented:
		return q.fail(buf, rcode), unknown
	default:
		return q.fail(buf, rcode), malformed
	}
	limit := q.limit(tcp)
	if !v.zone.Subnet.Contains(client) || q.refusable() {
		return q.fail(buf, dns.RcodeRefused), refused
	}
	if a, at := v.decide(q); a != nil {
		return v.answerLocal(buf, q, a, at, limit, now), local
	}
	if q.qtype == dns.TypeANY {
		// RFC 8482 section 4.2. ANY is for amplifiers, and for people who look around.
		buf = q.begin(buf, dns.RcodeSuccess, 0)
		buf = addAnswer(buf, dns.TypeHINFO, emptyTTL, []byte("\x07RFC8482\x00"))
		return q.finish(buf, dns.RcodeSuccess, limit), local
	}
	if q.flags&flagRecurse == 0 {
		// What is in the cache is nobody's business but the askers'.
		return q.fail(buf, dns.RcodeRefused), refused
	}
	if e := c.get(q.cacheKey(), now); e != nil {
		q.found = e
		return e.reply(buf, q, limit, now), cached
	}
	return nil, forward
}

// refusable reports questions that nobody here has a use for: other classes than the
// internet's (version.bind), zone transfers, and types that are no types of data.
func (q *question) refusable() bool {
	return q.qclass != dns.ClassINET || q.qtype == 0 || q.qtype == dns.TypeOPT ||
		q.qtype >= 128 && q.qtype < 256 && q.qtype != dns.TypeANY
}

// decide says where the answer to a question comes from: the local domain whose
// apex it returns, together with the offset of the apex in the question's name, or
// (nil) the world outside. Rules of the zone about names belong here, before the
// table is asked.
func (v *view) decide(q *question) (a *apex, at int) {
	name := q.name()
	for at = 0; at < len(name); at += 1 + int(name[at]) {
		if a = v.table.apexes[string(name[at:])]; a != nil {
			break
		}
	}
	if a == nil {
		return v.block(name)
	}
	if a.dsAbove && q.qtype == dns.TypeDS && at == 0 {
		return nil, 0
	}
	if a.only != nil && !a.covers(name) {
		return nil, 0
	}
	return a, at
}

// block returns the blocked domain that a name is in, and where in the name it begins.
// Local names are never blocked: who blocks a domain means the world's.
func (v *view) block(name []byte) (a *apex, at int) {
	if len(v.blocked) == 0 {
		return nil, 0
	}
	for at = 0; at < len(name); at += 1 + int(name[at]) {
		if a = v.blocked[string(name[at:])]; a != nil {
			return a, at
		}
	}
	return nil, 0
}

// covers reports whether a reverse domain of which only parts are local has name in
// one of those. What is not the name of an address stays here.
func (a *apex) covers(name []byte) bool {
	addr, ok := reverseAddr(name)
	if !ok {
		return true
	}
	for _, p := range a.only {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// answerLocal writes the reply to a question about a local name. Names that do not
// exist, and types that a name does not have, are denied with the SOA that makes the
// denial cacheable (RFC 2308 section 2).
func (v *view) answerLocal(buf []byte, q *question, a *apex, at, limit int, now time.Time) []byte {
	r, exists := v.table.records[string(q.name())]
	ttl := uint32(localTTL)
	if exists && !r.expires.IsZero() {
		left := r.expires.Sub(now)
		exists = left > 0
		ttl = min(ttl, uint32(max(left/time.Second, 0)))
	}
	rcode := dns.RcodeSuccess
	if !exists {
		rcode, r = dns.RcodeNameError, new(record)
	}
	buf = q.begin(buf, rcode, flagAuthority)
	buf = v.addData(buf, q, r, ttl)
	if buf[7] == 0 { // no answers
		buf[9]++
		buf = appendRecord(buf, pointer(at), dns.TypeSOA, dns.ClassINET, a.absent, a.soa)
	}
	return q.finish(buf, rcode, limit)
}

// addData appends the records of r that q asks for as answers.
func (v *view) addData(buf []byte, q *question, r *record, ttl uint32) []byte {
	switch {
	case q.qtype == dns.TypeA && r.self:
		return addAnswer(buf, dns.TypeA, ttl, v.zone.Address.AsSlice())
	case q.qtype == dns.TypeA && r.v4.IsValid():
		return addAnswer(buf, dns.TypeA, ttl, r.v4.AsSlice())
	case q.qtype == dns.TypeAAAA && r.v6.IsValid():
		return addAnswer(buf, dns.TypeAAAA, ttl, r.v6.AsSlice())
	case q.qtype == dns.TypePTR && r.ptr != nil:
		return addAnswer(buf, dns.TypePTR, ttl, r.ptr)
	case q.qtype == dns.TypeSOA && r.top != nil:
		return addAnswer(buf, dns.TypeSOA, r.top.absent, r.top.soa)
	case q.qtype == dns.TypeNS && r.top != nil:
		return addAnswer(buf, dns.TypeNS, r.top.absent, r.top.ns)
	case q.qtype == dns.TypeANY && (r.self || r.v4.IsValid() || r.ptr != nil || r.top != nil):
		return addAnswer(buf, dns.TypeHINFO, ttl, []byte("\x07RFC8482\x00"))
	}
	return buf
}
