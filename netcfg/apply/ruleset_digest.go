//go:build linux

package apply

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes that package unix does not have.
const (
	nftaTableHandle    = 4
	nftaChainFlags     = 10
	nftaChainUserdata  = 12
	nftaSetHandle      = 16
	nftaSetExpr        = 17
	nftaSetExpressions = 18
	nftaSetType        = 19 // which of its implementations the kernel chose; those after it are no less its own
	nftaSetElemPad     = 8
	nftaObjHandle      = 6
	nftaObjUserdata    = 8

	nftaFlowtableTable        = 1
	nftaFlowtableName         = 2
	nftaFlowtableHook         = 3
	nftaFlowtableUse          = 4
	nftaFlowtableHandle       = 5
	nftaFlowtableFlags        = 7
	nftaFlowtableHookNum      = 1
	nftaFlowtableHookPriority = 2
	nftaFlowtableHookDevs     = 3
	nftaDeviceName            = 1
)

// volatile are the attributes, per kind of message, that change without anybody
// changing the ruleset, or are different each time the same ruleset is loaded.
var volatile = map[uint16][]uint16{
	unix.NFT_MSG_GETTABLE:     {unix.NFTA_TABLE_USE, nftaTableHandle},
	unix.NFT_MSG_GETCHAIN:     {unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_USE, unix.NFTA_CHAIN_COUNTERS},
	unix.NFT_MSG_GETRULE:      {unix.NFTA_RULE_HANDLE, unix.NFTA_RULE_POSITION},
	unix.NFT_MSG_GETSET:       {unix.NFTA_SET_ID, nftaSetHandle},
	unix.NFT_MSG_GETOBJ:       {unix.NFTA_OBJ_DATA, unix.NFTA_OBJ_USE, nftaObjHandle},
	unix.NFT_MSG_GETFLOWTABLE: {nftaFlowtableUse, nftaFlowtableHandle},
}

// record is one object of a table in canonical form.
type record struct {
	kind  uint16
	name  string // chain of a rule, set of an element; else empty
	index int    // of a rule within its chain
	data  []byte
}

func compareRecords(a, b record) int {
	if a.kind != b.kind {
		return int(a.kind) - int(b.kind)
	}
	if a.name != b.name {
		return bytes.Compare([]byte(a.name), []byte(b.name))
	}
	if a.index != b.index {
		return a.index - b.index
	}
	return bytes.Compare(a.data, b.data)
}

// digestOf is the SHA-256 of all that is in a table, in hexadecimal digits; "" for no
// table. It returns the number of different elements, too.
func digestOf(records []record) (digest string, elements int) {
	if len(records) == 0 {
		return "", 0
	}
	h := sha256.New()
	var head []byte
	for _, r := range records {
		if r.kind == unix.NFT_MSG_GETSETELEM {
			elements++
		}
		head = binary.BigEndian.AppendUint16(head[:0], r.kind)
		head = binary.BigEndian.AppendUint32(head, uint32(len(r.name)))
		head = append(head, r.name...)
		head = binary.BigEndian.AppendUint32(head, uint32(len(r.data)))
		h.Write(head)
		h.Write(r.data)
	}
	return hex.EncodeToString(h.Sum(nil)), elements
}

// records returns all that is in a table, sorted; none if there is no such table. Of
// order only that of the rules in a chain counts: the kernel lists elements as its
// hash tables have them, and now and then twice.
func (n *nfnetlink) records(table string) ([]record, error) {
	msg, exists, err := n.getTable(table)
	if err != nil || !exists {
		return nil, err
	}
	records := []record{{kind: unix.NFT_MSG_GETTABLE, data: canonical(unix.NFT_MSG_GETTABLE, payload(msg))}}
	var sets []string
	for _, kind := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETOBJ, unix.NFT_MSG_GETFLOWTABLE} {
		msgs, err := n.list(kind, table, nil)
		if err != nil {
			return nil, fmt.Errorf("read table %s: %w", table, err)
		}
		for i, m := range msgs {
			o := decodeObject(payload(m))
			if o.string(unix.NFTA_TABLE_NAME) != table {
				continue
			}
			r := record{kind: kind, data: canonical(kind, payload(m))}
			switch kind {
			case unix.NFT_MSG_GETRULE:
				r.name, r.index = o.string(unix.NFTA_RULE_CHAIN), i
			case unix.NFT_MSG_GETSET:
				if o.uint32(unix.NFTA_SET_FLAGS)&dynamicFlags == dynamicFlags {
					break // its elements are the packets' affair
				}
				sets = append(sets, o.string(unix.NFTA_SET_NAME))
			}
			records = append(records, r)
		}
	}
	for _, set := range sets {
		if records, err = n.appendElements(records, table, set); err != nil {
			return nil, fmt.Errorf("read set %s: %w", set, err)
		}
	}
	slices.SortFunc(records, compareRecords)
	return slices.CompactFunc(records, func(a, b record) bool { return compareRecords(a, b) == 0 }), nil
}

func (n *nfnetlink) appendElements(records []record, table, set string) ([]record, error) {
	msgs, err := n.list(unix.NFT_MSG_GETSETELEM, table, func(a *attrs) { a.string(unix.NFTA_SET_ELEM_LIST_SET, set) })
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		for typ, list := range attributes(payload(m)) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				records = append(records, record{kind: unix.NFT_MSG_GETSETELEM, name: set, data: canonicalElement(element)})
			}
		}
	}
	return records, nil
}

// canonical returns the attributes of a message without the volatile ones.
func canonical(kind uint16, data []byte) []byte {
	var a attrs
	for typ, value := range attributes(data) {
		if slices.Contains(volatile[kind], typ) || kind == unix.NFT_MSG_GETSET && typ >= nftaSetType {
			continue
		}
		a.bytes(typ, value)
	}
	return a
}

func canonicalElement(data []byte) []byte {
	keep := true
	for typ := range attributes(data) {
		keep = keep && typ != unix.NFTA_SET_ELEM_EXPIRATION && typ != nftaSetElemPad
	}
	if keep {
		return data // nearly always; without a copy
	}
	var a attrs
	for typ, value := range attributes(data) {
		if typ != unix.NFTA_SET_ELEM_EXPIRATION && typ != nftaSetElemPad {
			a.bytes(typ, value)
		}
	}
	return a
}

// payload is what follows the nfgenmsg header of a message.
func payload(m netlink.Message) []byte {
	if len(m.Data) < sizeofNfGenMsg {
		return nil
	}
	return m.Data[sizeofNfGenMsg:]
}

// attributes yields type and value of each netlink attribute. It stops at anything
// that is none.
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

// object is the attributes of a message by type.
type object map[uint16][]byte

func decodeObject(data []byte) object {
	o := make(object)
	for typ, value := range attributes(data) {
		o[typ] = value
	}
	return o
}

func (o object) string(typ uint16) string { return string(bytes.TrimRight(o[typ], "\x00")) }

func (o object) uint32(typ uint16) uint32 {
	if b := o[typ]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
