package dhcp

import (
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Counters count what happened since the start. They may be read at any time.
type Counters struct {
	Received [numKinds]atomic.Uint64 // valid messages by type
	Sent     [numKinds]atomic.Uint64 // replies given to the kernel, by type

	// Packets that were not answered, by reason.
	Malformed   atomic.Uint64 // no DHCP request, or not over Ethernet
	Foreign     atomic.Uint64 // relayed, or informing, from outside the zone's subnet
	Unsupported atomic.Uint64 // plain BOOTP, lease queries and the like
	Elsewhere   atomic.Uint64 // taken from another server
	Exhausted   atomic.Uint64 // no address left to offer
	Busy        atomic.Uint64 // too many answers are waiting for the disk
	Unsaved     atomic.Uint64 // the disk does not take the lease, so the client gets none
	SendErrors  atomic.Uint64 // the kernel did not take the reply

	Expired     atomic.Uint64 // leases that ended without being released
	Quarantined atomic.Uint64 // addresses declined by those they were given to
	Ignored     atomic.Uint64 // releases and declines of addresses that the client has not got

	JournalWrites   atomic.Uint64 // each one makes many leases durable
	JournalRecords  atomic.Uint64
	JournalReplaced atomic.Uint64
	JournalErrors   atomic.Uint64
	Published       atomic.Uint64 // versions of leases.json
	PublishErrors   atomic.Uint64
	HeardErrors     atomic.Uint64 // what was heard of clients could not be written
	ClockSteps      atomic.Uint64
}

// numKinds is one more than the last message type of RFC 2131.
const numKinds = int(dhcpv4.MessageTypeInform) + 1
