package ipfix

import (
	"encoding/binary"
	"net/netip"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// Elements, from https://www.iana.org/assignments/ipfix.
const (
	octetDeltaCount          = 1
	packetDeltaCount         = 2
	protocolIdentifier       = 4
	sourceTransportPort      = 7
	sourceIPv4Address        = 8
	ingressInterface         = 10
	destinationTransportPort = 11
	destinationIPv4Address   = 12
	egressInterface          = 14
	sourceIPv6Address        = 27
	destinationIPv6Address   = 28
	icmpTypeCodeIPv4         = 32
	sourceMacAddress         = 56
	destinationMacAddress    = 80
	interfaceName            = 82
	flowEndReason            = 136
	icmpTypeCodeIPv6         = 139
	flowStartMilliseconds    = 152
	flowEndMilliseconds      = 153
	postNATSourceIPv4        = 225
	postNATDestinationIPv4   = 226
	postNAPTSourcePort       = 227
	postNAPTDestinationPort  = 228
	natEvent                 = 230
	firewallEvent            = 233
	postNATSourceIPv6        = 281
	postNATDestinationIPv6   = 282
)

const (
	// reverse is the enterprise whose elements are those of IANA for the way back:
	// RFC 5103 section 6.1.
	reverse = 29305
	// enterprise is the bit that says that one follows: RFC 7011 section 3.2.
	enterprise = 0x8000
	variable   = 0xffff // length
)

// values are what a record is in the words of IPFIX.
type values struct {
	*record.Record
	shape               shape
	in, out             uint32 // zones
	src, dst            netip.AddrPort
	postSrc, postDst    netip.AddrPort
	end, firewall, nats uint8
}

func valuesOf(e *Encoder, r *record.Record) values {
	v := values{
		Record: r, in: e.zone(r.Src.Zone), out: e.zone(r.Dst.Zone),
		src: netip.AddrPortFrom(r.Src.Addr.Unmap(), r.Src.Port), dst: netip.AddrPortFrom(r.Dst.Addr.Unmap(), r.Dst.Port),
	}
	v.end, v.firewall, v.nats = endReason(r), firewallOf(r), natOf(r)
	v.postSrc, v.postDst = v.src, v.dst
	if r.NATSrc.IsValid() {
		v.postSrc = r.NATSrc
	}
	if r.NATDst.IsValid() {
		v.dst = r.NATDst // what was called, before it was translated
	}
	v.shape = shapeOf(&v)
	return v
}

// endReason is why the flow is reported: RFC 5102 section 5.11.3.
func endReason(r *record.Record) uint8 {
	const idle, active, ended, forced = 1, 2, 3, 4
	switch {
	case r.Ended == record.Finished || r.Ended == record.Reset:
		return ended
	case r.Ended == record.Continues || r.Verdict == record.Refused: // an hour or a minute is over
		return active
	case r.Ended == record.Lost:
		return forced
	}
	return idle
}

func firewallOf(r *record.Record) uint8 {
	const deleted, denied, update = 2, 3, 5
	switch {
	case r.Verdict == record.Refused:
		return denied
	case r.Ended == record.Continues:
		return update
	}
	return deleted
}

// natOf is the event of the translation: RFC 8158 section 4.3. There is none for a
// translation that was there and stays.
func natOf(r *record.Record) uint8 {
	const none, created, deleted = 0, 4, 5 // of a NAT44 session
	switch {
	case r.Ended != record.Continues:
		return deleted
	case r.Began.Equal(r.Start):
		return created
	}
	return none
}

// shape is which fields a record has: its template. It is a sum of the bits below.
type shape uint8

const (
	v4 shape = 1 << iota
	v6       // neither: the zone records no addresses, or not these
	icmp
	nat
	shapes // how many
)

// templateNames is the template of zones' names, above those of the shapes.
const templateNames = firstData + uint16(shapes)

func (s shape) template() uint16 { return firstData + uint16(s) }

func shapeOf(v *values) shape {
	var s shape
	switch src, dst := v.src.Addr(), v.dst.Addr(); {
	case src.Is4() && dst.Is4() && v.postSrc.Addr().Is4() && v.postDst.Addr().Is4():
		s = v4
	case src.Is6() && dst.Is6() && v.postSrc.Addr().Is6() && v.postDst.Addr().Is6():
		s = v6
	}
	if v.Proto == model.ProtoICMP || v.Proto == model.ProtoICMPv6 {
		s |= icmp
	}
	if s&(v4|v6) != 0 && (v.NATSrc.IsValid() || v.NATDst.IsValid()) {
		s |= nat
	}
	return s
}

// field is an element of a template and how its value is written.
type field struct {
	id, size uint16
	pen      uint32
	put      func([]byte, *values) []byte
}

// specify appends the field as templates have it: RFC 7011 section 3.2.
func (f field) specify(b []byte) []byte {
	id := f.id
	if f.pen != 0 {
		id |= enterprise
	}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, f.size)
	if f.pen != 0 {
		b = binary.BigEndian.AppendUint32(b, f.pen)
	}
	return b
}

func number8(id uint16, get func(*values) uint8) field {
	return field{id, 1, 0, func(b []byte, v *values) []byte { return append(b, get(v)) }}
}

func number16(id uint16, get func(*values) uint16) field {
	return field{id, 2, 0, func(b []byte, v *values) []byte { return binary.BigEndian.AppendUint16(b, get(v)) }}
}

func number32(id uint16, get func(*values) uint32) field {
	return field{id, 4, 0, func(b []byte, v *values) []byte { return binary.BigEndian.AppendUint32(b, get(v)) }}
}

func number64(id uint16, pen uint32, get func(*values) uint64) field {
	return field{id, 8, pen, func(b []byte, v *values) []byte { return binary.BigEndian.AppendUint64(b, get(v)) }}
}

func address(id, size uint16, get func(*values) netip.AddrPort) field {
	return field{id, size, 0, func(b []byte, v *values) []byte { return append(b, get(v).Addr().AsSlice()...) }}
}

func mac(id uint16, get func(*values) model.MAC) field {
	return field{id, 6, 0, func(b []byte, v *values) []byte {
		m := get(v)
		return append(b, m[:]...)
	}}
}

var (
	getSrc     = func(v *values) netip.AddrPort { return v.src }
	getDst     = func(v *values) netip.AddrPort { return v.dst }
	getPostSrc = func(v *values) netip.AddrPort { return v.postSrc }
	getPostDst = func(v *values) netip.AddrPort { return v.postDst }
	getType    = func(v *values) uint16 { return v.Dst.Port << 8 } // the code is not recorded
)

// common are the fields of all records.
var common = []field{
	number64(flowStartMilliseconds, 0, func(v *values) uint64 { return uint64(v.Start.UnixMilli()) }),
	number64(flowEndMilliseconds, 0, func(v *values) uint64 { return uint64(v.End.UnixMilli()) }),
	number64(octetDeltaCount, 0, func(v *values) uint64 { return v.Out.Bytes }),
	number64(packetDeltaCount, 0, func(v *values) uint64 { return v.Out.Packets }),
	number64(octetDeltaCount, reverse, func(v *values) uint64 { return v.In.Bytes }),
	number64(packetDeltaCount, reverse, func(v *values) uint64 { return v.In.Packets }),
	number32(ingressInterface, func(v *values) uint32 { return v.in }),
	number32(egressInterface, func(v *values) uint32 { return v.out }),
	number8(protocolIdentifier, func(v *values) uint8 { return v.Proto }),
	number8(flowEndReason, func(v *values) uint8 { return v.end }),
	number8(firewallEvent, func(v *values) uint8 { return v.firewall }),
	mac(sourceMacAddress, func(v *values) model.MAC { return v.Src.MAC }),
	mac(destinationMacAddress, func(v *values) model.MAC { return v.Dst.MAC }),
}

// layouts are the fields of each shape: template and data are made from the same list,
// so they cannot disagree.
var layouts = func() (all [shapes][]field) {
	for s := range shapes {
		f := append([]field(nil), common...)
		switch {
		case s&icmp == 0:
			f = append(f, number16(sourceTransportPort, func(v *values) uint16 { return v.src.Port() }),
				number16(destinationTransportPort, func(v *values) uint16 { return v.dst.Port() }))
		case s&v6 != 0:
			f = append(f, number16(icmpTypeCodeIPv6, getType))
		default:
			f = append(f, number16(icmpTypeCodeIPv4, getType))
		}
		if s&v4 != 0 {
			f = append(f, address(sourceIPv4Address, 4, getSrc), address(destinationIPv4Address, 4, getDst))
		} else if s&v6 != 0 {
			f = append(f, address(sourceIPv6Address, 16, getSrc), address(destinationIPv6Address, 16, getDst))
		}
		if s&nat != 0 {
			f = append(f, translated(s)...)
		}
		all[s] = f
	}
	return all
}()

// translated are the fields of NAT.
func translated(s shape) []field {
	f := []field{number8(natEvent, func(v *values) uint8 { return v.nats })}
	if s&icmp == 0 {
		f = append(f, number16(postNAPTSourcePort, func(v *values) uint16 { return v.postSrc.Port() }),
			number16(postNAPTDestinationPort, func(v *values) uint16 { return v.postDst.Port() }))
	}
	if s&v4 != 0 {
		return append(f, address(postNATSourceIPv4, 4, getPostSrc), address(postNATDestinationIPv4, 4, getPostDst))
	}
	return append(f, address(postNATSourceIPv6, 16, getPostSrc), address(postNATDestinationIPv6, 16, getPostDst))
}

// used reports whether records can have the shape.
func (s shape) used() bool { return s&(v4|v6) != v4|v6 && (s&nat == 0 || s&(v4|v6) != 0) }
