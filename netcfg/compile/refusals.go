package compile

import (
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
)

// What becomes of refused packets, by party, so that a flood in one zone hides nobody
// else's refusals.
const (
	logGroup   = 1
	logSnaplen = 128 // bytes: headers, not what people say
	logQueue   = 32  // packets per netlink message: a third of the cost of single ones
	logRate    = 100 // packets per second
	logBurst   = 200

	// Elements. One takes 128 bytes of the kernel's memory, 16 more for each CPU's
	// counter and about as many for its place in the table: with four CPUs all three
	// sets of a party take 1.6 MB when full, and ten parties' 16 MB.
	refusedSize      = 6144
	refusedICMPSize  = 512
	refusedOtherSize = 1024

	// flowd looks at least once a minute, so that it has seen each element's last
	// packet before the element goes.
	refusedTimeout = 3 * time.Minute
	refusedSweep   = 10 * time.Second
)

const setPorted = "ported" // protocols with ports

// refusedSet is what flowd knows the sets by: services/flow/capture.
func refusedSet(party string) string { return "refused." + party }

func refuseChain(party string) string { return "refuse." + party }

// refusals adds, per party, the chain that logs, counts and drops.
//
// Packets are logged at a bounded rate but counted one by one, by who wanted what of
// whom and by the mark: the rule or the reason. When there is no room for another port
// the packet is counted without one, and when there is none for that either, only in
// the pair's counter.
func (c *compiler) refusals(t *table) {
	t.set(portedSet())
	for _, party := range append(c.parties(), model.Box) {
		t.chain(nft.Chain{Name: refuseChain(party), Rules: []nft.Rule{
			rule(nft.Limit{Rate: logRate, Burst: logBurst},
				nft.Log{Prefix: party, Group: logGroup, Snaplen: logSnaplen, QueueThreshold: logQueue}),
			rule(nft.InSet{Fields: []nft.Field{nft.L4Proto}, Set: setPorted},
				t.tally(refusedSet(party), refusedSize, nft.L4Proto, nft.ThDport), nft.Verdict{Code: nft.Drop}),
			rule(t.tally(refusedSet(party)+".icmp", refusedICMPSize, nft.ICMPType), nft.Verdict{Code: nft.Drop}),
			rule(t.tally(refusedSet(party)+".other", refusedOtherSize, nft.L4Proto), nft.Verdict{Code: nft.Drop}),
			rule(nft.Verdict{Code: nft.Drop}),
		}})
	}
}

func portedSet() nft.Set {
	s := nft.Set{Name: setPorted, Key: []nft.Type{nft.InetProto}}
	for _, proto := range model.PortProtocols {
		s.Elements = append(s.Elements, nft.Element{Key: []nft.Range{nft.One(nft.U8(proto))}})
	}
	return s
}

// tally adds a set that counts packets by their addresses, the given fields and the
// mark, and returns the statement that counts one.
func (t *table) tally(name string, size uint32, fields ...nft.Field) nft.Tally {
	fields = append(append([]nft.Field{nft.IPSaddr, nft.IPDaddr}, fields...), nft.MetaMark)
	s := nft.Set{Name: name, Dynamic: &nft.Dynamic{Size: size, Timeout: refusedTimeout, Sweep: refusedSweep}}
	for _, f := range fields {
		s.Key = append(s.Key, f.TypeOf())
	}
	t.Sets = append(t.Sets, s)
	return nft.Tally{Fields: fields, Set: name}
}
