package dhcp

import (
	"strings"
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
	ClockSteps      atomic.Uint64
}

// numKinds is one more than the last message type of RFC 2131.
const numKinds = int(dhcpv4.MessageTypeInform) + 1

// Snapshot returns all counters by name; those by message type end in the type's
// name, as in "received_discover".
func (c *Counters) Snapshot() map[string]uint64 {
	m := map[string]uint64{
		"malformed":        c.Malformed.Load(),
		"foreign":          c.Foreign.Load(),
		"unsupported":      c.Unsupported.Load(),
		"elsewhere":        c.Elsewhere.Load(),
		"exhausted":        c.Exhausted.Load(),
		"busy":             c.Busy.Load(),
		"unsaved":          c.Unsaved.Load(),
		"send_errors":      c.SendErrors.Load(),
		"expired":          c.Expired.Load(),
		"quarantined":      c.Quarantined.Load(),
		"ignored":          c.Ignored.Load(),
		"journal_writes":   c.JournalWrites.Load(),
		"journal_records":  c.JournalRecords.Load(),
		"journal_replaced": c.JournalReplaced.Load(),
		"journal_errors":   c.JournalErrors.Load(),
		"published":        c.Published.Load(),
		"publish_errors":   c.PublishErrors.Load(),
		"clock_steps":      c.ClockSteps.Load(),
	}
	for kind := 1; kind < numKinds; kind++ {
		name := strings.ToLower(dhcpv4.MessageType(kind).String())
		m["received_"+name] = c.Received[kind].Load()
		m["sent_"+name] = c.Sent[kind].Load()
	}
	return m
}
