package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// Sizes in bytes. RFC 1035 section 2.3.4; 1232 is what passes everywhere without
// being fragmented (1280 less the headers of IPv6 and UDP).
const (
	headerBytes = 12
	nameBytes   = 255
	labelBytes  = 63
	optBytes    = 11 // an OPT record without options
	minUDPBytes = 512
	maxUDPBytes = 1232
	maxTCPBytes = 65535
)

// The header's second word, RFC 1035 section 4.1.1 and RFC 4035 section 3.
const (
	flagResponse  = 1 << 15
	opcodeMask    = 0xf << 11
	flagAuthority = 1 << 10
	flagTruncated = 1 << 9
	flagRecurse   = 1 << 8 // desired
	flagRecursive = 1 << 7 // available
	flagNoCheck   = 1 << 4 // CD
	rcodeMask     = 0xf
	doBit         = 1 << 15 // in the TTL of an OPT record
)

// pointer is a compressed name: that of the question, from its byte at on.
func pointer(at int) []byte { return []byte{0xc0, byte(headerBytes + at)} }

// dropQuery is parse's way of saying that a message deserves no reply.
const dropQuery = -1

// question is a parsed query: one question and what its sender can take.
type question struct {
	wire    []byte // header and question section as sent
	flags   uint16
	qtype   uint16
	qclass  uint16
	edns    bool
	do      bool
	version uint8
	payload int // bytes the client says it can take by UDP; 0 without EDNS
	nameLen int
	found   *entry // what the cache answers with
	// key is the name in lower case, then type and flags: what the cache is asked for.
	key [nameBytes + 3]byte
}

// name is the name asked about, as on the wire, in lower case.
func (q *question) name() []byte { return q.key[:q.nameLen] }

// cacheKey tells apart questions whose answers may differ. DO and CD are part of it:
// the answers have other records, or were let through unvalidated.
func (q *question) cacheKey() []byte { return q.key[:q.nameLen+3] }

// detach makes q independent of the buffer it was read from.
func (q *question) detach() { q.wire = append([]byte(nil), q.wire...) }

// parse reads a query without trusting any of it. The result is the response code
// with which it must be refused, [dns.RcodeSuccess] if it is fine so far, or
// dropQuery. It never follows compression pointers: a question has nothing before
// it to point to.
func (q *question) parse(msg []byte) int {
	*q = question{wire: msg}
	if len(msg) < headerBytes {
		return dropQuery
	}
	q.wire = msg[:headerBytes]
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagResponse != 0 {
		return dropQuery // answering answers makes two servers talk for ever
	}
	if q.flags&opcodeMask != 0 {
		return dns.RcodeNotImplemented
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(msg[4+2*i:])) }
	if count(0) != 1 || count(1) != 0 || count(2) != 0 {
		return dns.RcodeFormatError
	}
	n := copyName(q.key[:nameBytes], msg[headerBytes:])
	end := headerBytes + n + 4
	if n == 0 || end > len(msg) {
		return dns.RcodeFormatError
	}
	q.nameLen = n
	q.qtype = binary.BigEndian.Uint16(msg[end-4:])
	q.qclass = binary.BigEndian.Uint16(msg[end-2:])
	q.wire = msg[:end]
	if !q.parseAdditional(msg, end, count(3)) {
		return dns.RcodeFormatError
	}
	binary.BigEndian.PutUint16(q.key[n:], q.qtype)
	q.key[n+2] = 0
	if q.do {
		q.key[n+2] |= 1
	}
	if q.flags&flagNoCheck != 0 {
		q.key[n+2] |= 2
	}
	if q.version != 0 {
		return dns.RcodeBadVers
	}
	return dns.RcodeSuccess
}

// parseAdditional looks for the OPT record among n records at off. RFC 6891 section
// 6.1.1: at most one, and its name is the root.
func (q *question) parseAdditional(msg []byte, off, n int) bool {
	for range n {
		rr := skipName(msg, off)
		if rr < 0 || rr+10 > len(msg) {
			return false
		}
		end := rr + 10 + int(binary.BigEndian.Uint16(msg[rr+8:]))
		if end > len(msg) {
			return false
		}
		if binary.BigEndian.Uint16(msg[rr:]) == dns.TypeOPT {
			if q.edns || msg[off] != 0 || !validOptions(msg[rr+10:end]) {
				return false
			}
			q.edns = true
			q.payload = int(binary.BigEndian.Uint16(msg[rr+2:]))
			q.version = msg[rr+5]
			q.do = binary.BigEndian.Uint16(msg[rr+6:])&doBit != 0
		}
		off = end
	}
	return true
}

func validOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// limit is how long a reply to q may be, in bytes.
func (q *question) limit(tcp bool) int {
	if tcp {
		return maxTCPBytes
	}
	return min(max(q.payload, minUDPBytes), maxUDPBytes)
}

// begin writes the header and the question of a reply to q over buf. Sections are
// empty.
func (q *question) begin(buf []byte, rcode int, flags uint16) []byte {
	h := append(buf[:0], q.wire...)
	flags |= flagResponse | flagRecursive | q.flags&(opcodeMask|flagRecurse|flagNoCheck)
	binary.BigEndian.PutUint16(h[2:], flags|uint16(rcode)&rcodeMask)
	clear(h[4:headerBytes])
	if len(h) > headerBytes {
		h[5] = 1
	}
	return h
}

// addAnswer adds a record of the name asked about to the answers of a reply that has
// no other sections yet.
func addAnswer(buf []byte, typ uint16, ttl uint32, data []byte) []byte {
	buf[7]++
	return appendRecord(buf, pointer(0), typ, dns.ClassINET, ttl, data)
}

// finish makes a reply that begin has begun ready to be sent: it fits into limit,
// and says what we can take if the client said so (RFC 6891). What is too long loses
// all records and gets the TC bit, which makes the client ask again by TCP.
func (q *question) finish(buf []byte, rcode, limit int) []byte {
	opt := 0
	if q.edns {
		opt = optBytes
	}
	if len(buf)+opt > limit {
		buf = buf[:len(q.wire)]
		buf[2] |= flagTruncated >> 8
		clear(buf[6:headerBytes])
	}
	if !q.edns {
		return buf
	}
	buf[11]++ // the replies we build have no other additional records
	ttl := uint32(rcode>>4) << 24
	if q.do {
		ttl |= doBit
	}
	return appendRecord(buf, []byte{0}, dns.TypeOPT, maxUDPBytes, ttl, nil)
}

// fail writes a whole reply without records over buf.
func (q *question) fail(buf []byte, rcode int) []byte {
	return q.finish(q.begin(buf, rcode, 0), rcode, maxTCPBytes)
}

// appendRecord appends one resource record. The owner is a name as on the wire.
func appendRecord(buf, owner []byte, typ, class uint16, ttl uint32, data []byte) []byte {
	buf = append(buf, owner...)
	buf = binary.BigEndian.AppendUint16(buf, typ)
	buf = binary.BigEndian.AppendUint16(buf, class)
	buf = binary.BigEndian.AppendUint32(buf, ttl)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(data)))
	return append(buf, data...)
}

// copyName copies the uncompressed name at the start of src to dst in lower case
// and returns its length, or 0 if it is not a name that fits.
func copyName(dst, src []byte) int {
	src = src[:min(len(src), len(dst))]
	for i := 0; i < len(src); {
		n := int(src[i])
		if n > labelBytes || i+1+n > len(src) {
			return 0
		}
		dst[i] = src[i]
		for j := i + 1; j <= i+n; j++ {
			dst[j] = lower(src[j])
		}
		i += 1 + n
		if n == 0 {
			return i
		}
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// skipName returns the offset behind the name at off, or -1. A pointer ends a name
// and is not followed.
func skipName(msg []byte, off int) int {
	for off < len(msg) {
		switch n := int(msg[off]); {
		case n == 0:
			return off + 1
		case n >= 0xc0:
			return off + 2
		case n > labelBytes:
			return -1
		default:
			off += 1 + n
		}
	}
	return -1
}

// wireName writes a name such as home.arpa as on the wire, in lower case. It returns
// nil if an element is empty or too long, or the whole is. The empty name is the root.
func wireName(s string) []byte {
	b := make([]byte, 0, len(s)+2)
	for s != "" {
		label := s
		rest := ""
		for i := range len(s) {
			if s[i] == '.' {
				if label, rest = s[:i], s[i+1:]; rest == "" {
					return nil
				}
				break
			}
		}
		if label == "" || len(label) > labelBytes {
			return nil
		}
		b = append(b, byte(len(label)))
		for i := range len(label) {
			b = append(b, lower(label[i]))
		}
		s = rest
	}
	if b = append(b, 0); len(b) > nameBytes {
		return nil
	}
	return b
}
