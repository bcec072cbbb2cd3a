package dns

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what is believed about times to live, and of what is kept.
const (
	maxTTL        = 24 * time.Hour
	maxAbsentTTL  = time.Hour       // negative answers; RFC 2308 section 5
	failureTTL    = 5 * time.Second // no answer to be had; RFC 9520 section 3.2
	maxEntryBytes = 16 << 10
)

// verdict is what a message that came back is worth.
type verdict uint8

const (
	foreign   verdict = iota // not a reply to the query: somebody is guessing
	respelled                // a reply, but the letters' case of the name was changed
	truncated                // a reply that wants TCP
	simpler                  // a reply of a server that does not know EDNS
	failed                   // a reply that says nothing: another resolver may know more
	answered
)

// newQuery returns the query that asks an upstream resolver what q asks, with a
// random ID and a name whose letters are of random case, both of which an answer must
// repeat: whoever wants to forge one and does not see the query has to guess them
// (RFC 5452; draft-vixie-dnsext-dns0x20). The client's own EDNS options stay here, its
// address (RFC 7871) above all; its DO and CD bits are passed on, AD is not.
func newQuery(q *question, edns bool) []byte {
	b := make([]byte, headerBytes, headerBytes+nameBytes+4+optBytes)
	var noise [2 + nameBytes/8 + 1]byte
	rand.Read(noise[:]) // never fails
	copy(b, noise[:2])
	binary.BigEndian.PutUint16(b[2:], flagRecurse|q.flags&flagNoCheck)
	b[5] = 1
	for i, c := range q.name() {
		// A length is at most 63 and so never a letter.
		if 'a' <= c && c <= 'z' && noise[2+i/8]>>(i%8)&1 != 0 {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	b = binary.BigEndian.AppendUint16(b, q.qtype)
	b = binary.BigEndian.AppendUint16(b, q.qclass)
	if !edns {
		return b
	}
	b[11] = 1
	var ttl uint32
	if q.do {
		ttl = doBit
	}
	return appendRecord(b, []byte{0}, dns.TypeOPT, maxUDPBytes, ttl, nil)
}

// readReply judges a message that came from where query went. It returns the reply
// as it is to be kept, at now, if the verdict is answered.
func readReply(query, msg []byte, now time.Time) (verdict, *entry) {
	end := skipName(query, headerBytes) + 4 // of the question
	if len(msg) < headerBytes || [2]byte(msg) != [2]byte(query) {
		return foreign, nil
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	if flags&flagResponse == 0 || flags&opcodeMask != 0 {
		return foreign, nil
	}
	rcode := int(flags & rcodeMask)
	bad := rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError
	asked := query[headerBytes:end]
	switch questions := binary.BigEndian.Uint16(msg[4:]); {
	case questions == 0 && bad: // some do so, and nothing but trouble is learnt from it
	case questions != 1 || len(msg) < end || !equalFold(msg[headerBytes:end], asked):
		return foreign, nil
	case !bytes.Equal(msg[headerBytes:end], asked):
		return respelled, nil
	}
	hasOPT := len(query) > end
	switch {
	case hasOPT && (rcode == dns.RcodeFormatError || rcode == dns.RcodeNotImplemented):
		return simpler, nil
	case bad:
		return failed, nil
	case flags&flagTruncated != 0:
		return truncated, nil
	}
	m := new(dns.Msg)
	if m.Unpack(msg) != nil || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return failed, nil
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(msg[4+2*i:])) }
	if len(m.Answer) != count(1) || len(m.Ns) != count(2) || len(m.Extra) != count(3) {
		return failed, nil // cut off somewhere on its way
	}
	e := newEntry(m, hasOPT && query[len(query)-4]&(doBit>>8) != 0, now)
	if e == nil {
		return failed, nil
	}
	return answered, e
}

// equalFold compares the questions of two messages but for the case of letters.
func equalFold(a, b []byte) bool {
	return slices.EqualFunc(a, b, func(x, y byte) bool { return lower(x) == lower(y) })
}

// newEntry keeps of m what answers its question: records of the name and of the
// names it is an alias of, and what denies or proves. All else a resolver may have
// added, or somebody on the way, is left out. It returns nil if the rest is too large.
func newEntry(m *dns.Msg, signed bool, now time.Time) *entry {
	q := &m.Question[0]
	q.Name = strings.ToLower(q.Name)
	out := dns.Msg{Question: m.Question, Compress: true}
	out.Response = true
	out.Rcode = m.Rcode
	owners := aliases(q.Name, m.Answer)
	out.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
		h := rr.Header()
		h.Name = strings.ToLower(h.Name) // so that it is compressed to the question
		return h.Class != dns.ClassINET || !owners[h.Name] || !signed && proof(rr) && h.Rrtype != q.Qtype
	})
	positive := slices.ContainsFunc(out.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Qtype })
	denied := false
	name := lastOwner(q.Name, out.Answer)
	for _, rr := range m.Ns {
		h := rr.Header()
		_, soa := rr.(*dns.SOA)
		soa = soa && !positive && dns.IsSubDomain(h.Name, name)
		if h.Class == dns.ClassINET && (soa || signed && proof(rr)) {
			denied = denied || soa
			out.Ns = append(out.Ns, rr)
		}
	}
	life := maxTTL
	for _, rr := range slices.Concat(out.Answer, out.Ns) {
		h := rr.Header()
		if h.Ttl >= 1<<31 { // RFC 2181 section 8
			h.Ttl = 0
		}
		h.Ttl = min(h.Ttl, uint32(maxTTL/time.Second))
		if soa, ok := rr.(*dns.SOA); ok && denied {
			h.Ttl = min(h.Ttl, soa.Minttl, uint32(maxAbsentTTL/time.Second))
		}
		life = min(life, time.Duration(h.Ttl)*time.Second)
	}
	if !positive && !denied {
		life = 0 // RFC 2308 section 5: a denial without SOA is not to be kept
	}
	wire, err := out.Pack()
	if err != nil || len(wire) > maxTCPBytes {
		return nil
	}
	if len(wire) > maxEntryBytes {
		life = 0
	}
	return &entry{wire: wire, ttls: findTTLs(wire), stored: now, life: life}
}

// proof reports the record types that only validators ask for.
func proof(rr dns.RR) bool {
	switch rr.Header().Rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeDS:
		return true
	}
	return false
}

// aliases returns, in lower case, name and every name that it leads to by CNAME and
// DNAME records among rrs.
func aliases(name string, rrs []dns.RR) map[string]bool {
	owners := map[string]bool{name: true}
	// A chain in its usual order takes one round. Every other round must find
	// something new, and chains longer than this are loops or worse.
	for range 16 {
		before := len(owners)
		for _, rr := range rrs {
			owner := strings.ToLower(rr.Header().Name)
			switch rr := rr.(type) {
			case *dns.CNAME:
				if owners[owner] {
					owners[strings.ToLower(rr.Target)] = true
				}
			case *dns.DNAME:
				for o := range owners {
					if o != owner && dns.IsSubDomain(owner, o) {
						owners[owner] = true
						break
					}
				}
			}
		}
		if len(owners) == before {
			break
		}
	}
	return owners
}

// lastOwner follows the aliases of name to the one that is no alias: what a denial
// is about.
func lastOwner(name string, rrs []dns.RR) string {
	for range rrs {
		i := slices.IndexFunc(rrs, func(rr dns.RR) bool {
			_, ok := rr.(*dns.CNAME)
			return ok && rr.Header().Name == name
		})
		if i < 0 {
			break
		}
		name = strings.ToLower(rrs[i].(*dns.CNAME).Target)
	}
	return name
}

// findTTLs returns where in a message that we have packed the times to live are.
func findTTLs(wire []byte) []uint16 {
	var at []uint16
	off := skipName(wire, headerBytes) + 4
	for off < len(wire) {
		rr := skipName(wire, off)
		at = append(at, uint16(rr+4))
		off = rr + 10 + int(binary.BigEndian.Uint16(wire[rr+8:]))
	}
	return at
}

// newFailure is a reply to q that says that there is no answer to be had.
func newFailure(q *question, now time.Time) *entry {
	wire := slices.Clone(q.wire)
	clear(wire[:headerBytes])
	wire[2], wire[3], wire[5] = flagResponse>>8, dns.RcodeServerFailure, 1
	return &entry{wire: wire, stored: now, life: failureTTL}
}
