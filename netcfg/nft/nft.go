// Package nft describes a ruleset as typed values and prints it in the syntax of
// nft(8). Three readers share the values: the printer, the netlink encoder in
// apply, and the packet walker in reach. The package never talks to the kernel.
package nft

import (
	"net/netip"
	"time"
)

// Table is a table of family inet, complete. Names within it are unique per kind.
type Table struct {
	Name     string
	Counters []string // named counters; their values outlive a reload
	Sets     []Set    // in an order in which none refers to a later chain by mistake: sets first, chains after
	// Flowtables come with counters: what takes the short way counts for its connection.
	Flowtables []Flowtable
	Chains     []Chain
}

// Flowtable is a short way for packets of known connections, from where a device
// receives them to where they leave, past all chains. [Offload] puts connections into
// it. Its devices must exist when it is loaded; one that is removed afterwards leaves
// it by itself. See Documentation/networking/nf_flowtable.rst of the kernel.
type Flowtable struct {
	Name    string
	Devices []string // sorted; packets of VLANs on a device are its own
}

// Set is a set, or with Data a map, of concatenated fields.
type Set struct {
	Name     string
	Key      []Type
	Data     []Type // nil: a set. Verdict: a verdict map. Another type: a map. Not more than one
	Interval bool   // some element has a range; nft's "flags interval"
	Elements []Element
	// Dynamic is set for a set whose elements are the packets' affair: see [Tally]. It
	// has neither Data nor ranges nor Elements of its own.
	Dynamic *Dynamic
}

// Dynamic is what bounds a set that packets add elements to. The elements stay over a
// reload that does not change the set. It is one hash table with a random key, so that
// nobody can choose packets that make it slow: net/netfilter/nft_set_hash.c.
type Dynamic struct {
	Size    uint32        // most elements that it holds, more than 0
	Timeout time.Duration // after which an element that no packet met is gone: whole seconds
	Sweep   time.Duration // between looks for such elements: whole seconds; nft's "gc-interval"
}

// Element is one element of a set or map.
type Element struct {
	Key     []Range // one per type of the set's key
	Data    []Value // of a map
	Verdict Verdict // of a verdict map
	Comment string  // shown by nft list; at most 128 bytes, no quotes
}

// Range is an inclusive range of values; a single value has Lo == Hi.
type Range struct{ Lo, Hi Value }

// Chain is a chain. Base chains have a Hook.
type Chain struct {
	Name  string
	Hook  *Hook // nil: reached by jump, goto or verdict map only
	Rules []Rule
}

// Hook is where a base chain hangs. See https://wiki.nftables.org, "Netfilter hooks".
type Hook struct {
	Type     string // filter, nat
	Hook     string // prerouting, input, forward, output, postrouting
	Priority int    // raw -300, mangle -150, dstnat -100, filter 0, srcnat 100
	Drop     bool   // policy drop; otherwise accept
}

// Rule is a sequence of statements. A statement that does not match ends the rule.
type Rule struct {
	Stmts   []Stmt
	Comment string // at most 128 bytes, no quotes
}

// Stmt is a match or an action. The types below are all there are.
type Stmt interface{ stmt() }

// Field is something of a packet that can be compared or looked up.
type Field uint8

// The fields, with their name in nft(8) and their [Type].
const (
	IPSaddr      Field = iota + 1 // ip saddr: IPv4Addr. Does not match other families
	IPDaddr                       // ip daddr: IPv4Addr
	EtherSaddr                    // ether saddr: EtherAddr
	NFProto                       // meta nfproto: NFProtoType, 2 (ipv4) or 10 (ipv6)
	L4Proto                       // meta l4proto: InetProto
	ThSport                       // th sport: InetService
	ThDport                       // th dport: InetService
	ICMPType                      // icmp type: ICMPTypeType. Does not match other protocols
	TCPFlags                      // tcp flags: TCPFlag. Does not match other protocols
	IIFName                       // iifname: IfName
	OIFName                       // oifname: IfName
	MetaMark                      // meta mark: Mark
	SkUID                         // meta skuid: UID. Does not match packets without a socket
	CTState                       // ct state: CTStateBits
	CTStatus                      // ct status: CTStatusBits
	FibSaddrIIF                   // fib saddr . iif oif: Index, 0 if the route back does not leave by iif
	FibDaddrType                  // fib daddr type: FibType
)

// Type is the type of a value. Its size is the length of a [Value] of it.
type Type uint8

// The types, with their name in nft(8) and size in bytes.
const (
	IPv4Addr     Type = iota + 1 // ipv4_addr, 4
	EtherAddr                    // ether_addr, 6
	NFProtoType                  // nf_proto, 1
	InetProto                    // inet_proto, 1
	InetService                  // inet_service, 2
	ICMPTypeType                 // icmp_type, 1
	TCPFlag                      // tcp_flag, 1
	IfName                       // ifname, 16
	Mark                         // mark, 4
	UID                          // uid, 4
	CTStateBits                  // ct_state, 4
	CTStatusBits                 // ct_status, 4
	Index                        // iface_index, 4
	FibType                      // fib_addrtype, 4
	VerdictType                  // verdict: data of verdict maps only
)

// Op is how a [Match] compares.
type Op uint8

// The comparisons.
const (
	Eq      Op = iota // equal
	Ne                // not equal
	AnyBit            // field & value != 0: "ct state established,related"
	NoBit             // field & value == 0
	Within            // Value <= field <= Last
	Outside           // the opposite
)

// Match compares one field. With Mask, the field is masked first: that is how a
// prefix is matched (IPSaddr, mask of the prefix), and TCP flags.
type Match struct {
	Field Field
	Op    Op
	Mask  Value // "": all bits; only with Eq and Ne
	Value Value
	Last  Value // with Within and Outside
}

// InSet matches if the fields, concatenated, are an element of the set, or with
// Not if they are none. A field that cannot be read does not match either way.
type InSet struct {
	Fields []Field
	Not    bool
	Set    string
}

// Dispatch takes the verdict that the verdict map has for the fields. Without an
// element the rule ends and the next is tried.
type Dispatch struct {
	Fields []Field
	Map    string
}

// MarkFromMap sets the packet mark to what the map has for the fields. Without an
// element the rule ends and the mark stays.
type MarkFromMap struct {
	Fields []Field
	Map    string
}

// SetMark sets the packet mark.
type SetMark struct{ Value uint32 }

// SaveMark sets the connection's mark to the packet's: "ct mark set meta mark".
type SaveMark struct{}

// Count counts the packet in a named counter.
type Count struct{ Name string }

// Tally counts the packet in the element of a dynamic set that has the fields, and adds
// it if need be: "update @set { fields counter }". If the set is full, or a field cannot
// be read, the rule ends.
type Tally struct {
	Fields []Field
	Set    string
}

// Limit matches at most Rate packets per second, after a burst of Burst.
type Limit struct{ Rate, Burst uint32 }

// Log sends the start of the packet to an nfnetlink_log group.
type Log struct {
	Prefix         string
	Group          uint16
	Snaplen        uint32 // bytes
	QueueThreshold uint16 // packets gathered per netlink message
}

// DNAT translates the destination to what the map has for the fields: an IPv4
// address, the port stays. Only in nat chains.
type DNAT struct {
	Fields []Field
	Map    string
}

// Redirect translates the destination to an IPv4 address and a port. What it is of has
// ports. Only in nat chains.
type Redirect struct {
	Addr netip.Addr
	Port uint16
}

// Masquerade translates the source to the address of the outgoing interface. Only
// in nat chains at postrouting.
type Masquerade struct{}

// Offload puts the packet's connection into a flowtable. If that cannot be, as for
// most packets that are neither TCP nor UDP, the rule ends. Only at forward.
type Offload struct{ Flowtable string }

// Verdict ends the rule and says how to go on.
type Verdict struct {
	Code  Code
	Chain string // of Jump and Goto
}

// Code is the kind of a verdict.
type Code uint8

// The verdicts. The zero value is none.
const (
	Accept Code = iota + 1
	Drop
	Jump
	Goto
	Return
)

func (Match) stmt()       {}
func (InSet) stmt()       {}
func (Dispatch) stmt()    {}
func (MarkFromMap) stmt() {}
func (SetMark) stmt()     {}
func (SaveMark) stmt()    {}
func (Count) stmt()       {}
func (Tally) stmt()       {}
func (Limit) stmt()       {}
func (Log) stmt()         {}
func (DNAT) stmt()        {}
func (Redirect) stmt()    {}
func (Masquerade) stmt()  {}
func (Offload) stmt()     {}
func (Verdict) stmt()     {}

// OrderedSets returns the sets in the order in which they are printed and loaded:
// dynamic ones first, for the same reason as with [Table.OrderedChains].
func (t *Table) OrderedSets() []*Set {
	var dynamic, other []*Set
	for i := range t.Sets {
		if s := &t.Sets[i]; s.Dynamic != nil {
			dynamic = append(dynamic, s)
		} else {
			other = append(other, s)
		}
	}
	return append(dynamic, other...)
}

// OrderedChains returns the chains in the order in which they are printed and
// loaded: base chains before others. A reload leaves base chains where they are, so
// that in any other order the kernel's list would not stay like the printed one.
func (t *Table) OrderedChains() []*Chain {
	var base, other []*Chain
	for i := range t.Chains {
		if c := &t.Chains[i]; c.Hook != nil {
			base = append(base, c)
		} else {
			other = append(other, c)
		}
	}
	return append(base, other...)
}
