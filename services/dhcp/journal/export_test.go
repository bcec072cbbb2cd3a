package journal

import (
	"net/netip"

	"bulkhead/services/dhcp/lease"
)

// Scan is what Load makes of a file's bytes.
func Scan(data []byte) (map[netip.Addr]lease.Lease, Damage) {
	last := make(map[netip.Addr]lease.Lease)
	damage := scan(data, magic, readLease, func(l lease.Lease) { last[l.Addr] = l })
	return last, damage
}

// Magic is what a file begins with.
const Magic = magic
