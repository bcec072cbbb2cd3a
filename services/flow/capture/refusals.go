//go:build linux

// Package capture reads what the kernel saw of connections and refusals. It never changes
// what becomes of a packet.
package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/services/flow/record"
)

// Refusal is how many packets the kernel refused of one kind.
type Refusal struct {
	Party string // whose packets: a zone, model.Internet or model.Box
	Src   netip.Addr
	Dst   netip.Addr
	Proto uint8
	Port  uint16 // destination port, or ICMP type; 0 also where the kernel had no room to tell ports apart
	Mark  uint32 // the rule or the reason: policy.Rule.Mark, policy.Reason.Mark
	record.Count
}

// Ruleset reads what the firewall has counted. It changes nothing but the counts of
// refusals, which it takes. It is not safe for concurrent use.
type Ruleset struct {
	nl *netlink.Conn
}

// The table and its sets are netcfg/compile's.
const (
	tableName   = "bulkhead"
	refusedName = "refused."
)

// Numbers that package unix does not have.
// include/uapi/linux/netfilter/nf_tables.h.
const (
	nftMsgGetSetElemReset = 33 // since Linux 6.5
	sizeofNfGenMsg        = 4  // struct nfgenmsg
)

// OpenRuleset returns the ruleset of the network namespace that the file descriptor netns
// refers to, or for 0 that of the process. It needs CAP_NET_ADMIN, then and later.
func OpenRuleset(netns int) (*Ruleset, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink: %w", err)
	}
	return &Ruleset{nl: nl}, nil
}

// Close lets go of the kernel.
func (r *Ruleset) Close() error { return r.nl.Close() }

// Refusals takes the counts: it returns how many packets were refused since it was
// called last, by anyone. Called at least every minute it misses none, but what a party's
// sets had no room for; that is what the counters have more. See [Ruleset.Counters].
//
// Sets come and go with the configuration, and what the kernel forgets with one since the
// last call is lost. With an error, Refusals returns what it has taken up to then.
func (r *Ruleset) Refusals() ([]Refusal, error) {
	sets, err := r.execute(unix.NFT_MSG_GETSET, netlink.Dump, tableAttr())
	if err != nil {
		return nil, fmt.Errorf("list sets of table %s: %w", tableName, err)
	}
	var all []Refusal
	for _, m := range sets {
		set, ok := decodeSet(payload(m))
		if !ok {
			continue
		}
		if all, err = r.take(all, set); err != nil {
			return all, fmt.Errorf("read set %s: %w", set.name, err)
		}
	}
	return all, nil
}

// take takes what a set counted, element by element.
//
// A dump that resets what it lists would be one call, but by its source the kernel
// resets an element before it knows that it has room for the rest of it, and then lists
// it again, with nothing, in its next message: nf_tables_fill_setelem in
// net/netfilter/nf_tables_api.c. It also takes 20 times as long as this.
func (r *Ruleset) take(all []Refusal, set refusedSet) ([]Refusal, error) {
	attrs := appendString(tableAttr(), unix.NFTA_SET_ELEM_LIST_SET, set.name)
	listed, err := r.execute(unix.NFT_MSG_GETSETELEM, netlink.Dump, attrs)
	if err != nil {
		return all, err
	}
	for _, m := range listed {
		for e := range elements(payload(m)) {
			if e.count.Packets == 0 {
				continue
			}
			reply, err := r.execute(nftMsgGetSetElemReset, 0, appendKey(attrs, e.key))
			if err != nil {
				return all, err
			}
			for _, m := range reply {
				for e := range elements(payload(m)) {
					if refusal, ok := set.decode(e); ok {
						all = append(all, refusal)
					}
				}
			}
		}
	}
	return all, nil
}

// Counters returns the named counters of the table and their values since they were
// first loaded. A pair's counter is called zone_zone, and that of packets which a party
// sent with a source that it may not have zone.reason.
//
// Each packet is counted there first and then in a set. Whoever reads the counters before
// the refusals finds at most what there is that sets had no room for.
func (r *Ruleset) Counters() (map[string]record.Count, error) {
	attrs := appendAttr(tableAttr(), unix.NFTA_OBJ_TYPE, binary.BigEndian.AppendUint32(nil, unix.NFT_OBJECT_COUNTER))
	msgs, err := r.execute(unix.NFT_MSG_GETOBJ, netlink.Dump, attrs)
	if err != nil {
		return nil, fmt.Errorf("read counters of table %s: %w", tableName, err)
	}
	counters := make(map[string]record.Count)
	for _, m := range msgs {
		if name, count, ok := decodeCounter(payload(m)); ok {
			counters[name] = count
		}
	}
	return counters, nil
}

// execute asks the kernel about tables of family inet. What is not there is no error.
func (r *Ruleset) execute(typ uint16, flags netlink.HeaderFlags, attrs []byte) ([]netlink.Message, error) {
	msgs, err := r.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return msgs, err
}

// refusedSet is a set that refusals are counted in.
type refusedSet struct {
	name, party string
	ported      bool // its key has a port
	icmp        bool // its key has an ICMP type, and no protocol
}

// decodeSet reads a message about a set; false for those of others.
func decodeSet(data []byte) (s refusedSet, ok bool) {
	var table string
	for typ, value := range attributes(data) {
		switch typ {
		case unix.NFTA_SET_TABLE:
			table = cString(value)
		case unix.NFTA_SET_NAME:
			s.name = cString(value)
		}
	}
	party, ok := strings.CutPrefix(s.name, refusedName)
	if !ok || table != tableName {
		return refusedSet{}, false
	}
	var kind string
	s.party, kind, _ = strings.Cut(party, ".") // no party has a dot in its name
	switch kind {
	case "":
		s.ported = true
	case "icmp":
		s.icmp = true
	case "other":
	default:
		return refusedSet{}, false
	}
	return s, true
}

// element is one of a set, as the kernel holds it.
type element struct {
	key   []byte
	count record.Count
}

// decode reads an element's key: fields one after the other, in whole words, the mark
// in the order of the machine.
func (s refusedSet) decode(e element) (Refusal, bool) {
	const word = 4
	words := 4
	if s.ported {
		words = 5
	}
	if len(e.key) != words*word || e.count.Packets == 0 {
		return Refusal{}, false
	}
	r := Refusal{
		Party: s.party,
		Src:   netip.AddrFrom4([4]byte(e.key)),
		Dst:   netip.AddrFrom4([4]byte(e.key[word:])),
		Proto: e.key[2*word],
		Mark:  binary.NativeEndian.Uint32(e.key[(words-1)*word:]),
		Count: e.count,
	}
	switch {
	case s.ported:
		r.Port = binary.BigEndian.Uint16(e.key[3*word:])
	case s.icmp:
		r.Proto, r.Port = unix.IPPROTO_ICMP, uint16(e.key[2*word])
	}
	return r, true
}

// elements yields those in a message.
func elements(data []byte) iter.Seq[element] {
	return func(yield func(element) bool) {
		for typ, list := range attributes(data) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, one := range attributes(list) {
				if !yield(decodeElement(one)) {
					return
				}
			}
		}
	}
}

func decodeElement(data []byte) (e element) {
	for typ, value := range attributes(data) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			for typ, key := range attributes(value) {
				if typ == unix.NFTA_DATA_VALUE {
					e.key = key
				}
			}
		case unix.NFTA_SET_ELEM_EXPR:
			var name string
			var content []byte
			for typ, part := range attributes(value) {
				switch typ {
				case unix.NFTA_EXPR_NAME:
					name = cString(part)
				case unix.NFTA_EXPR_DATA:
					content = part
				}
			}
			if name == "counter" {
				e.count = decodeCount(content)
			}
		}
	}
	return e
}

func decodeCount(data []byte) (c record.Count) {
	for typ, value := range attributes(data) {
		switch {
		case typ == unix.NFTA_COUNTER_BYTES && len(value) == 8:
			c.Bytes = binary.BigEndian.Uint64(value)
		case typ == unix.NFTA_COUNTER_PACKETS && len(value) == 8:
			c.Packets = binary.BigEndian.Uint64(value)
		}
	}
	return c
}

// decodeCounter reads a message about a named counter; false for other objects.
func decodeCounter(data []byte) (name string, c record.Count, ok bool) {
	var table string
	var kind uint32
	for typ, value := range attributes(data) {
		switch typ {
		case unix.NFTA_OBJ_TABLE:
			table = cString(value)
		case unix.NFTA_OBJ_NAME:
			name = cString(value)
		case unix.NFTA_OBJ_TYPE:
			if len(value) == 4 {
				kind = binary.BigEndian.Uint32(value)
			}
		case unix.NFTA_OBJ_DATA:
			c = decodeCount(value)
		}
	}
	return name, c, name != "" && table == tableName && kind == unix.NFT_OBJECT_COUNTER
}

// tableAttr names the table: attribute 1 in all messages.
func tableAttr() []byte { return appendString(nil, unix.NFTA_TABLE_NAME, tableName) }

// appendKey asks for the element of a key.
func appendKey(attrs, key []byte) []byte {
	value := appendAttr(nil, unix.NFTA_DATA_VALUE, key)
	one := appendAttr(nil, unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED, value)
	list := appendAttr(nil, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, one)
	return appendAttr(attrs[:len(attrs):len(attrs)], unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, list)
}

func appendString(b []byte, typ uint16, s string) []byte {
	return appendAttr(b, typ, append([]byte(s), 0))
}

// appendAttr appends a netlink attribute.
func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// payload is what follows the nfgenmsg header of a message.
func payload(m netlink.Message) []byte { return m.Data[min(len(m.Data), sizeofNfGenMsg):] }

// attributes yields type and value of each netlink attribute. It stops at anything that
// is none.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:length]) {
				return
			}
			b = b[min(len(b), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		}
	}
}

func cString(b []byte) string { return strings.TrimRight(string(b), "\x00") }
