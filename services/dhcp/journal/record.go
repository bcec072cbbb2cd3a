package journal

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/lease"
)

// A file is the magic string, then records. A record is, in bytes, big endian:
//
//	2  mark, by which the next record is found behind a damaged one
//	2  length of the payload
//	4  CRC-32C of the length and the payload
//	   payload: 1 state, 4 address, 8 granted, 8 until (nanoseconds since 1970,
//	   granted 0 for never), 6 MAC, 1+n client identifier, 1+n host name
const (
	magic      = "bhlease1"
	mark       = 0xb1c4
	headerLen  = 8
	fixedLen   = 1 + 4 + 8 + 8 + 6
	maxPayload = fixedLen + 1 + 255 + 1 + 255
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord appends the record of l to b. A client identifier or host name
// longer than 255 bytes, which DHCP has no room for, is cut.
func AppendRecord(b []byte, l lease.Lease) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, mark)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, byte(l.State))
	addr := l.Addr.As4()
	b = append(b, addr[:]...)
	b = appendTime(b, l.Granted)
	b = appendTime(b, l.Until)
	b = append(b, l.Client.MAC[:]...)
	b = appendString(b, l.Client.ID)
	b = appendString(b, l.Hostname)

	rec := b[start:]
	binary.BigEndian.PutUint16(rec[2:], uint16(len(rec)-headerLen))
	binary.BigEndian.PutUint32(rec[4:], checksum(rec))
	return b
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

// record decodes the record at the beginning of b and returns its length. It
// reports false if there is no whole and undamaged one.
func record(b []byte) (l lease.Lease, n int, ok bool) {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != mark {
		return lease.Lease{}, 0, false
	}
	n = headerLen + int(binary.BigEndian.Uint16(b[2:]))
	if n > headerLen+maxPayload || n > len(b) || checksum(b[:n]) != binary.BigEndian.Uint32(b[4:]) {
		return lease.Lease{}, 0, false
	}
	l, ok = payload(b[headerLen:n])
	return l, n, ok
}

func payload(p []byte) (lease.Lease, bool) {
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
