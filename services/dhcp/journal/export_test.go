package journal

import (
	"maps"
	"net/netip"

	"bulkhead/services/dhcp/lease"
)

// Scan is what Load makes of a file's bytes.
func Scan(data []byte) (map[netip.Addr]lease.Lease, Damage) {
	m, d := scan(data)
	return maps.Clone(m), d
}

// Magic is what a file begins with.
const Magic = magic
