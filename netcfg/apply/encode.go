//go:build linux

package apply

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
)

// This file turns a ruleset into nfnetlink messages. The messages are our own
// and not those of github.com/google/nftables, for four reasons: that library puts
// all elements of a set into one attribute, whose length has 16 bits (the cause of
// ENOENT with 50,000 elements), asks for an acknowledgement of each command (ENOBUFS),
// cannot make a transaction depend on the generation of the ruleset it was computed
// from, and does not say which command the kernel refused. The expressions in rules
// are the library's, see encode_rule.go.
//
// Attributes and messages: include/uapi/linux/netfilter/nf_tables.h. User data is
// nft's own affair: libnftnl include/libnftnl/udata.h.

// command is one message of a transaction.
type command struct {
	typ   uint16 // NFT_MSG_*
	flags uint16 // NLM_F_*, without NLM_F_REQUEST
	attrs attrs
	what  string // for errors: "rule 3 of chain forward"
}

// attrs are netlink attributes, one after the other.
type attrs []byte

func (a *attrs) bytes(typ uint16, data []byte) {
	*a = binary.NativeEndian.AppendUint16(*a, uint16(unix.SizeofNlAttr+len(data)))
	*a = binary.NativeEndian.AppendUint16(*a, typ)
	*a = append(*a, data...)
	a.pad()
}

func (a *attrs) pad() {
	for len(*a)%unix.NLA_ALIGNTO != 0 {
		*a = append(*a, 0)
	}
}

// uint32 adds a number. All numbers of nfnetlink are in network order.
func (a *attrs) uint32(typ uint16, v uint32) { a.bytes(typ, binary.BigEndian.AppendUint32(nil, v)) }

func (a *attrs) string(typ uint16, s string) { a.bytes(typ, append([]byte(s), 0)) }

// nest adds an attribute that holds what f adds. Its length must fit 16 bits.
func (a *attrs) nest(typ uint16, f func()) {
	start := len(*a)
	*a = append(*a, 0, 0, 0, 0)
	f()
	n := len(*a) - start
	if n > math.MaxUint16 {
		panic(fmt.Sprintf("apply: netlink attribute %d of %d bytes", typ, n))
	}
	binary.NativeEndian.PutUint16((*a)[start:], uint16(n))
	binary.NativeEndian.PutUint16((*a)[start+2:], typ|unix.NLA_F_NESTED)
}

// value adds a struct nft_data: bytes as they stand in a register.
func (a *attrs) value(typ uint16, data []byte) {
	a.nest(typ, func() { a.bytes(unix.NFTA_DATA_VALUE, data) })
}

// encoder makes the messages that add a table's content.
type encoder struct {
	table string
	setID uint32
	sets  map[string]*nft.Set
	out   []command
}

// content adds everything in the table but the table itself. Base chains that are
// present already are only filled, and sets that stay are left alone.
func (e *encoder) content(t *nft.Table, present, stays map[string]bool) error {
	for _, name := range t.Counters {
		e.counter(name)
	}
	for _, s := range t.OrderedSets() {
		e.sets[s.Name] = s
		if !stays[s.Name] {
			e.set(s)
		}
	}
	for _, f := range t.Flowtables {
		e.flowtable(f)
	}
	// All chains come before what jumps to them: rules and elements.
	for _, c := range t.OrderedChains() {
		if !present[c.Name] {
			e.chain(c)
		}
	}
	for i := range t.Sets {
		e.elements(&t.Sets[i])
	}
	for _, c := range t.OrderedChains() {
		for i, r := range c.Rules {
			if err := e.rule(c.Name, i, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *encoder) add(typ, flags uint16, a attrs, what string, args ...any) {
	e.out = append(e.out, command{typ, flags, a, fmt.Sprintf(what, args...)})
}

func encodeTable(name string) command {
	var a attrs
	a.string(unix.NFTA_TABLE_NAME, name)
	a.uint32(unix.NFTA_TABLE_FLAGS, 0) // wakes up a table that somebody put to sleep
	return command{unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, a, "table " + name}
}

// counter adds a counter, or leaves the one that there is alone, with its value.
func (e *encoder) counter(name string) {
	var a attrs
	a.string(unix.NFTA_OBJ_TABLE, e.table)
	a.string(unix.NFTA_OBJ_NAME, name)
	a.uint32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
	a.nest(unix.NFTA_OBJ_DATA, func() {
		a.bytes(unix.NFTA_COUNTER_BYTES, make([]byte, 8))
		a.bytes(unix.NFTA_COUNTER_PACKETS, make([]byte, 8))
	})
	e.add(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE, a, "counter %s", name)
}

// flowtable adds a flowtable, empty.
func (e *encoder) flowtable(f nft.Flowtable) {
	var a attrs
	a.string(nftaFlowtableTable, e.table)
	a.string(nftaFlowtableName, f.Name)
	a.nest(nftaFlowtableHook, func() {
		a.uint32(nftaFlowtableHookNum, nfNetdevIngress)
		a.uint32(nftaFlowtableHookPriority, 0)
		a.nest(nftaFlowtableHookDevs, func() {
			for _, d := range f.Devices {
				a.string(nftaDeviceName, d)
			}
		})
	})
	a.uint32(nftaFlowtableFlags, nftFlowtableCounter)
	e.add(unix.NFT_MSG_NEWFLOWTABLE, unix.NLM_F_CREATE, a, "flowtable %s over %s", f.Name, strings.Join(f.Devices, ", "))
}

func (e *encoder) chain(c *nft.Chain) {
	var a attrs
	a.string(unix.NFTA_CHAIN_TABLE, e.table)
	a.string(unix.NFTA_CHAIN_NAME, c.Name)
	if h := c.Hook; h != nil {
		a.nest(unix.NFTA_CHAIN_HOOK, func() {
			a.uint32(unix.NFTA_HOOK_HOOKNUM, hookNumbers[h.Hook])
			a.uint32(unix.NFTA_HOOK_PRIORITY, uint32(int32(h.Priority)))
		})
		a.uint32(unix.NFTA_CHAIN_POLICY, policy(h))
		a.string(unix.NFTA_CHAIN_TYPE, h.Type)
	}
	e.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, a, "chain %s", c.Name)
}

// hookNumbers are enum nf_inet_hooks.
var hookNumbers = map[string]uint32{
	"prerouting":  unix.NF_INET_PRE_ROUTING,
	"input":       unix.NF_INET_LOCAL_IN,
	"forward":     unix.NF_INET_FORWARD,
	"output":      unix.NF_INET_LOCAL_OUT,
	"postrouting": unix.NF_INET_POST_ROUTING,
}

func policy(h *nft.Hook) uint32 {
	if h.Drop {
		return nfDrop
	}
	return nfAccept
}

// Verdicts of include/uapi/linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
)
