package svcconf

import (
	"encoding/binary"
	"net/netip"
)

// MaxNames bounds a datagram to the [NamesSocket], in bytes.
const MaxNames = 8 << 10

// maxDomain is the longest name, in bytes, RFC 1035 section 2.3.4.
const maxDomain = 253

// Named is that a client was told an address for a name.
type Named struct {
	Client, Addr netip.Addr // IPv4
	Name         string     // lower case, without the final dot: letters, digits and -_.
}

// NamesHeader begins a datagram: how many names there was no room for since the last one.
func NamesHeader(b []byte, lost uint32) []byte { return binary.BigEndian.AppendUint32(b[:0], lost) }

// AppendNamed adds what a client was told, and reports false if the datagram is full then
// without it. Names that are none are left out.
func AppendNamed(b []byte, n Named) ([]byte, bool) {
	if !n.Client.Is4() || !n.Addr.Is4() || !domain(n.Name) {
		return b, true
	}
	if len(b)+9+len(n.Name) > MaxNames {
		return b, false
	}
	client, addr := n.Client.As4(), n.Addr.As4()
	b = append(append(b, client[:]...), addr[:]...)
	b = append(b, byte(len(n.Name)))
	return append(b, n.Name...), true
}

// ReadNames reads a datagram. It reports false for one that makes no sense, of which it
// may have read a part.
func ReadNames(b []byte, f func(Named)) (lost uint32, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	lost, b = binary.BigEndian.Uint32(b), b[4:]
	for len(b) > 0 {
		if len(b) < 9 || len(b) < 9+int(b[8]) {
			return lost, false
		}
		end := 9 + int(b[8])
		n := Named{netip.AddrFrom4([4]byte(b)), netip.AddrFrom4([4]byte(b[4:])), string(b[9:end])}
		if !domain(n.Name) {
			return lost, false
		}
		f(n)
		b = b[end:]
	}
	return lost, true
}

// domain reports whether a name has no other characters than those of hosts and services:
// it is going to be read by people and by programs that are not ours.
func domain(s string) bool {
	if s == "" || len(s) > maxDomain {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
