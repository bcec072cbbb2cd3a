package echo

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"bulkhead/services/checksum"
)

// Types and codes of ICMP messages: RFC 792, RFC 1812 section 5.2.7.
const (
	typeEchoReply   = 0
	typeUnreachable = 3
	typeEcho        = 8
	typeExceeded    = 11

	codeFiltered = 13
)

// Lengths of headers, in bytes.
const (
	ipHeader   = 20
	icmpHeader = 8
)

const protoICMP = 1

// unreachable says in words why a target cannot be reached, by code.
var unreachable = map[byte]string{
	0: "network unreachable", 1: "host unreachable", 2: "it does not speak ICMP", 9: "network forbidden", 10: "host forbidden", codeFiltered: "refused by a filter",
}

// key tells the requests of one run from all others.
type key struct {
	id    uint16
	token [8]byte // which only who got the request knows
}

// request is an echo request.
func (k key) request(number uint16) []byte {
	b := []byte{typeEcho, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, k.id)
	b = binary.BigEndian.AppendUint16(b, number)
	b = append(b, k.token[:]...)
	binary.BigEndian.PutUint16(b[2:], ^checksum.Fold(checksum.Add(0, b)))
	return b
}

// read understands a message that the target, or somebody on the way to it, has sent
// because of a request. It reports false for all others. What is in one is said by whoever
// sent it: it is taken for no more than that.
func (k key) read(from, target netip.Addr, msg []byte) (answer, bool) {
	if len(msg) < icmpHeader {
		return answer{}, false
	}
	a := answer{from: from}
	switch kind, code := msg[0], msg[1]; kind {
	case typeEchoReply:
		a.number = binary.BigEndian.Uint16(msg[6:])
		a.arrived = true
		return a, from == target && code == 0 && binary.BigEndian.Uint16(msg[4:]) == k.id && bytes.Equal(msg[icmpHeader:], k.token[:])
	case typeUnreachable:
		a.final = true
		if a.trouble = unreachable[code]; a.trouble == "" {
			a.trouble = "unreachable"
		}
	case typeExceeded:
		a.trouble = "time to live exceeded"
	default:
		return answer{}, false
	}
	number, ok := k.quoted(target, msg[icmpHeader:])
	a.number = number
	return a, ok
}

// quoted returns the number of the request that an error quotes: its IP header, and eight
// bytes of it.
func (k key) quoted(target netip.Addr, b []byte) (number uint16, ok bool) {
	if len(b) < ipHeader || b[0]>>4 != 4 || b[9] != protoICMP || netip.AddrFrom4([4]byte(b[16:])) != target {
		return 0, false
	}
	length := int(b[0]&15) * 4
	if length < ipHeader || len(b) < length+icmpHeader {
		return 0, false
	}
	b = b[length:]
	return binary.BigEndian.Uint16(b[6:]), b[0] == typeEcho && binary.BigEndian.Uint16(b[4:]) == k.id
}
