package journal

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/lease"
)

// A file is a magic string, then records. A record is, in bytes, big endian:
//
//	2  mark, by which the next record is found behind a damaged one
//	2  length of the payload
//	4  CRC-32C of the length and the payload
//	   payload
//
// The payload in a journal:
//
//	1 state, 4 address, 8 granted, 8 until (nanoseconds since 1970, granted 0 for
//	never), 6 MAC, 1+n client identifier, 1+n host name
//
// and in a history:
//
//	4 address, 8 first given, 8 renewed, 8 end (as above), 6 MAC, 1+n zone,
//	1+n host name
const (
	magic      = "bhlease1"
	pastMagic  = "bhpast01"
	mark       = 0xb1c4
	headerLen  = 8
	fixedLen   = 1 + 4 + 8 + 8 + 6
	pastLen    = 4 + 8 + 8 + 8 + 6
	maxPayload = pastLen + 1 + 255 + 1 + 255 // of both
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord appends the record of l to b. A client identifier or host name
// longer than 255 bytes, which DHCP has no room for, is cut.
func AppendRecord(b []byte, l lease.Lease) []byte {
	start := len(b)
	b = append(b, make([]byte, headerLen)...)
	b = append(b, byte(l.State))
	addr := l.Addr.As4()
	b = append(b, addr[:]...)
	b = appendTime(b, l.Granted)
	b = appendTime(b, l.Until)
	b = append(b, l.Client.MAC[:]...)
	b = appendString(b, l.Client.ID)
	b = appendString(b, l.Hostname)
	seal(b[start:])
	return b
}

// appendPast appends the record of s to b.
func appendPast(b []byte, s history.Spell) []byte {
	start := len(b)
	b = append(b, make([]byte, headerLen)...)
	addr := s.Addr.As4()
	b = append(b, addr[:]...)
	b = appendTime(b, s.First)
	b = appendTime(b, s.Renewed)
	b = appendTime(b, s.End)
	b = append(b, s.MAC[:]...)
	b = appendString(b, s.Zone)
	b = appendString(b, s.Hostname)
	seal(b[start:])
	return b
}

// seal writes the header of a record whose payload is there.
func seal(rec []byte) {
	binary.BigEndian.PutUint16(rec, mark)
	binary.BigEndian.PutUint16(rec[2:], uint16(len(rec)-headerLen))
	binary.BigEndian.PutUint32(rec[4:], checksum(rec))
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(b, byte(len(s))), s...)
}

func checksum(rec []byte) uint32 {
	sum := crc32.Update(0, castagnoli, rec[2:4])
	return crc32.Update(sum, castagnoli, rec[headerLen:])
}

// record returns the payload of the record at the beginning of b, and the record's
// length. It reports false if there is no whole and undamaged one.
func record(b []byte) (payload []byte, n int, ok bool) {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != mark {
		return nil, 0, false
	}
	n = headerLen + int(binary.BigEndian.Uint16(b[2:]))
	if n > headerLen+maxPayload || n > len(b) || checksum(b[:n]) != binary.BigEndian.Uint32(b[4:]) {
		return nil, 0, false
	}
	return b[headerLen:n], n, true
}

func readLease(p []byte) (lease.Lease, bool) {
	if len(p) < fixedLen || lease.State(p[0]) > lease.Declined {
		return lease.Lease{}, false
	}
	l := lease.Lease{
		State:   lease.State(p[0]),
		Addr:    netip.AddrFrom4([4]byte(p[1:5])),
		Granted: readTime(p[5:]),
		Until:   readTime(p[13:]),
		Client:  lease.Client{MAC: model.MAC(p[21:27])},
	}
	var ok1, ok2 bool
	l.Client.ID, p, ok1 = readString(p[fixedLen:])
	l.Hostname, p, ok2 = readString(p)
	return l, ok1 && ok2 && len(p) == 0
}

func readPast(p []byte) (history.Spell, bool) {
	if len(p) < pastLen {
		return history.Spell{}, false
	}
	s := history.Spell{
		Addr:    netip.AddrFrom4([4]byte(p)),
		First:   readTime(p[4:]),
		Renewed: readTime(p[12:]),
		End:     readTime(p[20:]),
		MAC:     model.MAC(p[28:34]),
	}
	var ok1, ok2 bool
	s.Zone, p, ok1 = readString(p[pastLen:])
	s.Hostname, p, ok2 = readString(p)
	return s, ok1 && ok2 && len(p) == 0
}

func readTime(p []byte) time.Time {
	v := int64(binary.BigEndian.Uint64(p))
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v)
}

func readString(p []byte) (s string, rest []byte, ok bool) {
	if len(p) == 0 || len(p) < 1+int(p[0]) {
		return "", nil, false
	}
	n := 1 + int(p[0])
	return string(p[1:n]), p[n:], true
}
