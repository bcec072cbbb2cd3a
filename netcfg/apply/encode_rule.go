//go:build linux

package apply

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
)

const familyInet = unix.NFPROTO_INET

// Registers. The first of the 16-byte registers is the first of the 4-byte ones.
const (
	reg1  = unix.NFT_REG_1
	reg2  = unix.NFT_REG_2
	reg32 = unix.NFT_REG32_00 // + word
)

const protoICMP, protoTCP = 1, 6

// verdictKinds are the kernel's numbers of verdicts.
var verdictKinds = map[nft.Code]expr.VerdictKind{
	nft.Accept: expr.VerdictAccept, nft.Drop: expr.VerdictDrop, nft.Return: expr.VerdictReturn,
	nft.Jump: expr.VerdictJump, nft.Goto: expr.VerdictGoto,
}

// ruleEncoder translates the statements of one rule into expressions, the same that
// nft would make. A field that only some packets have needs matches before it that
// say that the packet has it; what has been matched once is known from there on.
type ruleEncoder struct {
	sets               map[string]*nft.Set
	exprs              []expr.Any
	ipv4, ether        bool
	transport          uint8
	transportIsMatched bool
}

func (e *encoder) rule(chain string, index int, r nft.Rule) error {
	re := ruleEncoder{sets: e.sets}
	for _, s := range r.Stmts {
		if err := re.stmt(s); err != nil {
			return fmt.Errorf("rule %d of chain %s: %w", index+1, chain, err)
		}
	}
	var a attrs
	a.string(unix.NFTA_RULE_TABLE, e.table)
	a.string(unix.NFTA_RULE_CHAIN, chain)
	var err error
	a.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, x := range re.exprs {
			b, e := expr.Marshal(familyInet, x)
			if e != nil {
				err = e
			}
			a.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
	})
	if err != nil {
		return fmt.Errorf("rule %d of chain %s: %w", index+1, chain, err)
	}
	if r.Comment != "" {
		a.bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Comment))
	}
	e.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, a, "rule %d of chain %s (%s)", index+1, chain, r)
	return nil
}

func (e *ruleEncoder) add(x ...expr.Any) { e.exprs = append(e.exprs, x...) }

func (e *ruleEncoder) stmt(s nft.Stmt) error {
	switch s := s.(type) {
	case nft.Match:
		return e.match(s)
	case nft.InSet:
		return e.lookup(s.Fields, &expr.Lookup{SetName: s.Set, Invert: s.Not})
	case nft.Dispatch:
		return e.lookup(s.Fields, &expr.Lookup{SetName: s.Map, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})
	case nft.MarkFromMap:
		err := e.lookup(s.Fields, &expr.Lookup{SetName: s.Map, IsDestRegSet: true, DestRegister: reg1})
		e.add(&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1})
		return err
	case nft.SetMark:
		e.add(&expr.Immediate{Register: reg1, Data: binary.NativeEndian.AppendUint32(nil, s.Value)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1})
	case nft.SaveMark:
		e.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1},
			&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: reg1})
	case nft.Count:
		e.add(&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: s.Name})
	case nft.Tally:
		return e.tally(s)
	case nft.Limit:
		e.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(s.Rate), Unit: expr.LimitTimeSecond, Burst: s.Burst})
	case nft.Log:
		e.log(s)
	case nft.DNAT:
		err := e.lookup(s.Fields, &expr.Lookup{SetName: s.Map, IsDestRegSet: true, DestRegister: reg1})
		e.add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1})
		return err
	case nft.Redirect:
		addr := s.Addr.As4()
		e.add(&expr.Immediate{Register: reg1, Data: addr[:]},
			&expr.Immediate{Register: reg2, Data: binary.BigEndian.AppendUint16(nil, s.Port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg2})
	case nft.Masquerade:
		e.add(&expr.Masq{})
	case nft.Offload:
		e.add(&expr.FlowOffload{Name: s.Flowtable})
	case nft.Verdict:
		e.add(&expr.Verdict{Kind: verdictKinds[s.Code], Chain: s.Chain})
	default:
		return fmt.Errorf("statement %T is not known", s)
	}
	return nil
}

func (e *ruleEncoder) log(l nft.Log) {
	x := &expr.Log{Group: l.Group, Key: 1 << unix.NFTA_LOG_GROUP}
	if l.Prefix != "" {
		x.Key |= 1 << unix.NFTA_LOG_PREFIX
		x.Data = []byte(l.Prefix)
	}
	if l.Snaplen > 0 {
		x.Key |= 1 << unix.NFTA_LOG_SNAPLEN
		x.Snaplen = l.Snaplen
	}
	if l.QueueThreshold > 0 {
		x.Key |= 1 << unix.NFTA_LOG_QTHRESHOLD
		x.QThreshold = l.QueueThreshold
	}
	e.add(x)
}

// lookup loads the fields, concatenated, and looks them up.
func (e *ruleEncoder) lookup(fields []nft.Field, l *expr.Lookup) error {
	l.SourceRegister = reg1
	err := e.key(fields, l.SetName)
	e.add(l)
	return err
}

// tally counts the packet in the element that its fields, concatenated, are.
func (e *ruleEncoder) tally(s nft.Tally) error {
	err := e.key(s.Fields, s.Set)
	e.add(&expr.Dynset{SrcRegKey: reg1, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{&expr.Counter{}}})
	return err
}

// key loads the fields as a key of the set, from the first register on.
func (e *ruleEncoder) key(fields []nft.Field, name string) error {
	for _, f := range fields {
		e.require(f)
	}
	set := e.sets[name]
	if set == nil {
		return fmt.Errorf("there is no set %s", name)
	}
	reg := uint32(reg32)
	for _, f := range fields {
		if err := e.load(f, reg); err != nil {
			return err
		}
		n := uint32(f.TypeOf().Size())
		if turned(set, f.TypeOf()) {
			e.add(&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: n, Size: n})
		}
		reg += (n + 3) / 4
	}
	return nil
}

// require matches what a packet must be to have the field.
func (e *ruleEncoder) require(f nft.Field) {
	eq := func(key expr.MetaKey, data []byte) {
		e.add(&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data})
	}
	ipv4 := func() {
		if !e.ipv4 {
			eq(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4})
			e.ipv4 = true
		}
	}
	transport := func(p uint8) {
		if !e.transportIsMatched || e.transport != p {
			eq(expr.MetaKeyL4PROTO, []byte{p})
			e.transport, e.transportIsMatched = p, true
		}
	}
	switch f {
	case nft.IPSaddr, nft.IPDaddr:
		ipv4()
	case nft.EtherSaddr:
		if !e.ether {
			eq(expr.MetaKeyIIFTYPE, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER))
			e.ether = true
		}
	case nft.ICMPType:
		if !e.transportIsMatched || e.transport != protoICMP {
			ipv4()
		}
		transport(protoICMP)
	case nft.TCPFlags:
		transport(protoTCP)
	}
}

// load puts a field into a register.
func (e *ruleEncoder) load(f nft.Field, reg uint32) error {
	payload := func(base expr.PayloadBase, offset, n uint32) {
		e.add(&expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: n})
	}
	switch f {
	case nft.IPSaddr:
		payload(expr.PayloadBaseNetworkHeader, 12, 4)
	case nft.IPDaddr:
		payload(expr.PayloadBaseNetworkHeader, 16, 4)
	case nft.EtherSaddr:
		payload(expr.PayloadBaseLLHeader, 6, 6)
	case nft.ThSport:
		payload(expr.PayloadBaseTransportHeader, 0, 2)
	case nft.ThDport:
		payload(expr.PayloadBaseTransportHeader, 2, 2)
	case nft.ICMPType:
		payload(expr.PayloadBaseTransportHeader, 0, 1)
	case nft.TCPFlags:
		payload(expr.PayloadBaseTransportHeader, 13, 1)
	case nft.CTState:
		e.add(&expr.Ct{Key: expr.CtKeySTATE, Register: reg})
	case nft.CTStatus:
		e.add(&expr.Ct{Key: expr.CtKeySTATUS, Register: reg})
	case nft.FibSaddrIIF:
		e.add(&expr.Fib{Register: reg, ResultOIF: true, FlagSADDR: true, FlagIIF: true})
	case nft.FibDaddrType:
		e.add(&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true})
	default:
		key, ok := metaKeys[f]
		if !ok {
			return fmt.Errorf("field %s is not known", f)
		}
		e.add(&expr.Meta{Key: key, Register: reg})
	}
	return nil
}

var metaKeys = map[nft.Field]expr.MetaKey{
	nft.NFProto: expr.MetaKeyNFPROTO, nft.L4Proto: expr.MetaKeyL4PROTO, nft.IIFName: expr.MetaKeyIIFNAME,
	nft.OIFName: expr.MetaKeyOIFNAME, nft.MetaMark: expr.MetaKeyMARK, nft.SkUID: expr.MetaKeySKUID,
}

func (e *ruleEncoder) match(m nft.Match) error {
	e.require(m.Field)
	if err := e.load(m.Field, reg1); err != nil {
		return err
	}
	e.compare(m)
	if m.Op == nft.Eq && m.Mask == "" { // from here on this is known
		switch m.Field {
		case nft.NFProto:
			e.ipv4 = m.Value.Uint() == unix.NFPROTO_IPV4
		case nft.L4Proto:
			e.transport, e.transportIsMatched = uint8(m.Value.Uint()), true
		}
	}
	return nil
}

func (e *ruleEncoder) compare(m nft.Match) {
	t := m.Field.TypeOf()
	value := register(t, m.Value)
	zero := make([]byte, len(value))
	op := expr.CmpOpEq
	if m.Op == nft.Ne {
		op = expr.CmpOpNeq
	}
	switch {
	case m.Op == nft.AnyBit:
		e.mask(value)
		e.cmp(expr.CmpOpNeq, zero)
	case m.Op == nft.NoBit:
		e.mask(value)
		e.cmp(expr.CmpOpEq, zero)
	case m.Op == nft.Within || m.Op == nft.Outside:
		e.within(t, m)
	case m.Mask != "" && t == nft.IPv4Addr && wholeBytes(m.Mask) > 0:
		// A prefix of whole bytes needs no masking: load only those bytes.
		n := wholeBytes(m.Mask)
		e.exprs[len(e.exprs)-1].(*expr.Payload).Len = uint32(n)
		e.cmp(op, value[:n])
	case m.Mask != "":
		e.mask(register(t, m.Mask))
		e.cmp(op, value)
	default:
		e.cmp(op, value)
	}
}

// wholeBytes is the length in bytes of a prefix mask; 0 if it is none of whole bytes.
func wholeBytes(mask nft.Value) int {
	n := bits.LeadingZeros32(^mask.Uint())
	if n%8 != 0 || mask != nft.Mask4(n) {
		return 0
	}
	return n / 8
}

func (e *ruleEncoder) cmp(op expr.CmpOp, data []byte) {
	e.add(&expr.Cmp{Op: op, Register: reg1, Data: data})
}

func (e *ruleEncoder) mask(mask []byte) {
	if slices.Max(mask) == 0xff && slices.Min(mask) == 0xff {
		return // all bits
	}
	e.add(&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))})
}

// within compares with a range. The kernel compares bytes, first byte first, so
// numbers of host order are turned into network order before.
func (e *ruleEncoder) within(t nft.Type, m nft.Match) {
	if n := uint32(t.Size()); dataTypes[t].host {
		e.add(&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: n, Size: n})
	}
	lo, hi := []byte(m.Value), []byte(m.Last)
	if m.Op == nft.Outside {
		e.add(&expr.Range{Op: expr.CmpOpNeq, Register: reg1, FromData: lo, ToData: hi})
		return
	}
	e.cmp(expr.CmpOpGte, lo)
	e.cmp(expr.CmpOpLte, hi)
}
