//go:build linux

package apply

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
)

// Attributes and flags that package unix does not have.
const (
	nftaSetDescConcat    = 2 // enum nft_set_desc_attributes
	nftaSetFieldLen      = 1 // enum nft_set_field_attributes
	nftaSetElemKeyEnd    = 10
	nftSetConcat         = 0x80
	nftDataVerdict       = 0xffffff00
	nftaVerdictOfData    = 2 // NFTA_DATA_VERDICT
	udataElemFlags       = userdata.NFTNL_UDATA_SET_ELEM_FLAGS
	udataElemFlagOpen    = 1 // the interval has no end: it reaches to the highest value
	udataTypeofExpr      = userdata.Type(0)
	udataTypeofData      = userdata.Type(1)
	udataTypeofIsConcat  = 13 // EXPR_CONCAT of nft
	udataOrderNone       = 0  // enum byteorder of nft
	udataOrderHost       = 1
	udataOrderBig        = 2
	maxElementBatch      = 48 << 10 // bytes; the attribute that holds a batch has a length of 16 bits
	bitsPerConcatTypeNum = 6
)

// dataTypes are the numbers by which nft knows the types, and the byte order in
// which the kernel holds them.
var dataTypes = map[nft.Type]struct {
	number uint32
	host   bool
}{
	nft.NFProtoType:  {2, true},
	nft.IPv4Addr:     {7, false},
	nft.EtherAddr:    {9, false},
	nft.InetProto:    {12, false},
	nft.InetService:  {13, false},
	nft.ICMPTypeType: {14, false},
	nft.TCPFlag:      {15, true},
	nft.Mark:         {19, true},
	nft.Index:        {20, true},
	nft.UID:          {24, true},
	nft.CTStateBits:  {26, true},
	nft.CTStatusBits: {28, true},
	nft.FibType:      {38, true},
	nft.IfName:       {41, true},
}

// register is the value as the kernel holds it in a register: numbers of host
// order turned round.
func register(t nft.Type, v nft.Value) []byte {
	b := []byte(v)
	if dataTypes[t].host && t != nft.IfName && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		slices.Reverse(b)
	}
	return b
}

// turned reports whether numbers of host order are in network order after all: in
// concatenations with ranges, which the kernel compares byte by byte, nft turns all
// of them, and the rule that looks them up turns what it has loaded.
func turned(s *nft.Set, t nft.Type) bool {
	return s.Interval && len(s.Key) > 1 && dataTypes[t].host && t != nft.IfName && t.Size() > 1
}

// appendPadded appends a value as part of a concatenation: in whole words of 4 bytes.
func appendPadded(b, v []byte) []byte {
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// typeNumber and size describe one type or a concatenation of types.
func typeNumber(types []nft.Type) (n uint32) {
	for _, t := range types {
		n = n<<bitsPerConcatTypeNum | dataTypes[t].number
	}
	return n
}

func size(types []nft.Type) (n uint32) {
	if len(types) == 1 {
		return uint32(types[0].Size())
	}
	for _, t := range types {
		n += uint32(t.Size()+3) / 4 * 4
	}
	return n
}

// dynamicFlags are those of a set that packets add elements to.
const dynamicFlags = unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT

func isVerdictMap(s *nft.Set) bool { return len(s.Data) == 1 && s.Data[0] == nft.VerdictType }

func (e *encoder) set(s *nft.Set) {
	e.setID++
	var flags uint32
	if s.Data != nil {
		flags |= unix.NFT_SET_MAP
	}
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(s.Key) > 1 {
			flags |= nftSetConcat
		}
	}
	if s.Dynamic != nil {
		flags |= dynamicFlags
	}
	var a attrs
	a.string(unix.NFTA_SET_TABLE, e.table)
	a.string(unix.NFTA_SET_NAME, s.Name)
	a.uint32(unix.NFTA_SET_FLAGS, flags)
	a.uint32(unix.NFTA_SET_KEY_TYPE, typeNumber(s.Key))
	a.uint32(unix.NFTA_SET_KEY_LEN, size(s.Key))
	switch {
	case isVerdictMap(s):
		a.uint32(unix.NFTA_SET_DATA_TYPE, nftDataVerdict)
		a.uint32(unix.NFTA_SET_DATA_LEN, 0)
	case s.Data != nil:
		a.uint32(unix.NFTA_SET_DATA_TYPE, typeNumber(s.Data))
		a.uint32(unix.NFTA_SET_DATA_LEN, size(s.Data))
	}
	if s.Interval && len(s.Key) > 1 {
		a.nest(unix.NFTA_SET_DESC, func() { a.fieldLengths(s.Key) })
	}
	if d := s.Dynamic; d != nil {
		a.nest(unix.NFTA_SET_DESC, func() { a.uint32(unix.NFTA_SET_DESC_SIZE, d.Size) })
		a.bytes(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(d.Timeout.Milliseconds())))
		a.uint32(unix.NFTA_SET_GC_INTERVAL, uint32(d.Sweep.Milliseconds()))
	}
	a.uint32(unix.NFTA_SET_ID, e.setID)
	a.bytes(unix.NFTA_SET_USERDATA, setUserdata(s))
	e.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, a, "set %s", s.Name)
}

// fieldLengths tells the kernel where the fields of a key with ranges begin.
func (a *attrs) fieldLengths(key []nft.Type) {
	a.nest(nftaSetDescConcat, func() {
		for _, t := range key {
			a.nest(unix.NFTA_LIST_ELEM, func() { a.uint32(nftaSetFieldLen, uint32(t.Size())) })
		}
	})
}

// setUserdata is what nft wants to read back to print the set: without the byte
// order of its key, interface names come out empty.
func setUserdata(s *nft.Set) []byte {
	u := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, udataOrder(s.Key))
	if s.Data != nil {
		u = userdata.AppendUint32(u, userdata.NFTNL_UDATA_SET_DATABYTEORDER, udataOrder(s.Data))
		if len(s.Key) > 1 {
			concat := userdata.AppendUint32(nil, udataTypeofExpr, udataTypeofIsConcat)
			u = userdata.Append(u, userdata.NFTNL_UDATA_SET_KEY_TYPEOF, userdata.Append(concat, udataTypeofData, nil))
		}
		u = userdata.AppendUint32(u, userdata.NFTNL_UDATA_SET_DATA_INTERVAL, 0)
	}
	return u
}

func udataOrder(types []nft.Type) uint32 {
	switch {
	case len(types) > 1 || types[0] == nft.VerdictType:
		return udataOrderNone
	case dataTypes[types[0]].host:
		return udataOrderHost
	}
	return udataOrderBig
}

// elementCount is the number of elements that the kernel will list of a table.
func elementCount(t *nft.Table) (n int) {
	for i := range t.Sets {
		if s := &t.Sets[i]; s.Interval && len(s.Key) == 1 {
			n += len(intervalElements(s))
		} else {
			n += len(s.Elements)
		}
	}
	return n
}

// elements adds the elements of a set in as many messages as they need.
func (e *encoder) elements(s *nft.Set) {
	list := make([]attrs, 0, len(s.Elements))
	if s.Interval && len(s.Key) == 1 {
		list = intervalElements(s)
	} else {
		for _, el := range s.Elements {
			list = append(list, element(s, el))
		}
	}
	for n := 0; n < len(list); {
		var a attrs
		a.string(unix.NFTA_SET_ELEM_LIST_TABLE, e.table)
		a.string(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		first := n
		a.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for used := 0; n < len(list) && used < maxElementBatch; n++ {
				used += unix.SizeofNlAttr + len(list[n])
				a.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, list[n])
			}
		})
		e.add(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a,
			"elements %d to %d of set %s", first+1, n, s.Name)
	}
}

// element is an element of a set without ranges, or with ranges in several fields.
func element(s *nft.Set, el nft.Element) attrs {
	var lo, hi []byte
	if len(s.Key) == 1 {
		lo = register(s.Key[0], el.Key[0].Lo)
	} else {
		for i, r := range el.Key {
			if t := s.Key[i]; turned(s, t) {
				lo, hi = appendPadded(lo, []byte(r.Lo)), appendPadded(hi, []byte(r.Hi))
			} else {
				lo, hi = appendPadded(lo, register(t, r.Lo)), appendPadded(hi, register(t, r.Hi))
			}
		}
	}
	var a attrs
	a.value(unix.NFTA_SET_ELEM_KEY, lo)
	if s.Interval {
		a.value(nftaSetElemKeyEnd, hi)
	}
	a.elementData(s, el)
	a.elementUserdata(el.Comment, false)
	return a
}

func (a *attrs) elementData(s *nft.Set, el nft.Element) {
	switch {
	case isVerdictMap(s):
		a.nest(unix.NFTA_SET_ELEM_DATA, func() { a.verdict(el.Verdict) })
	case s.Data != nil:
		a.value(unix.NFTA_SET_ELEM_DATA, register(s.Data[0], el.Data[0]))
	}
}

func (a *attrs) verdict(v nft.Verdict) {
	a.nest(nftaVerdictOfData, func() {
		a.uint32(unix.NFTA_VERDICT_CODE, uint32(verdictKinds[v.Code]))
		if v.Chain != "" {
			a.string(unix.NFTA_VERDICT_CHAIN, v.Chain)
		}
	})
}

func (a *attrs) elementUserdata(comment string, open bool) {
	var u []byte
	if comment != "" {
		u = userdata.AppendString(u, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, comment)
	}
	if open {
		u = userdata.AppendUint32(u, udataElemFlags, udataElemFlagOpen)
	}
	if u != nil {
		a.bytes(unix.NFTA_SET_ELEM_USERDATA, u)
	}
}

// intervalElements are the elements of a set with ranges of a single field. The
// kernel holds each as its first value and, marked, the value after its last. nft
// adds a marked zero below the lowest, and expects it.
func intervalElements(s *nft.Set) []attrs {
	sorted := slices.SortedFunc(slices.Values(s.Elements), func(a, b nft.Element) int {
		return bytes.Compare([]byte(a.Key[0].Lo), []byte(b.Key[0].Lo))
	})
	var list []attrs
	end := func(v []byte) {
		var a attrs
		a.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		a.value(unix.NFTA_SET_ELEM_KEY, v)
		list = append(list, a)
	}
	for i, el := range sorted {
		r := el.Key[0]
		if zero := make([]byte, len(r.Lo)); i == 0 && !bytes.Equal([]byte(r.Lo), zero) {
			end(zero)
		}
		after, open := successor([]byte(r.Hi))
		var a attrs
		a.value(unix.NFTA_SET_ELEM_KEY, []byte(r.Lo))
		a.elementData(s, el)
		a.elementUserdata(el.Comment, open)
		list = append(list, a)
		if !open {
			end(after)
		}
	}
	return list
}

// successor returns the next value, or says that there is none.
func successor(v []byte) (next []byte, none bool) {
	next = slices.Clone(v)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return next, false
		}
	}
	return nil, true
}
