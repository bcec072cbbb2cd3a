package model

import (
	"fmt"
	"slices"
)

// IP protocol numbers that have names here. https://www.iana.org/assignments/protocol-numbers
const (
	ProtoICMP   = 1
	ProtoIGMP   = 2
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoGRE    = 47
	ProtoESP    = 50
	ProtoAH     = 51
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// EchoRequest is the ICMP type of a ping, RFC 792.
const EchoRequest = 8

// Service is a set of connections by IP protocol and port: all of them (Any), one
// IP protocol whole, a range of ports of one, or one ICMP type.
//
// The zero value is the IP protocol 0 whole, which nothing uses.
type Service struct {
	Any    bool
	Proto  uint8
	Ports  bool   // Lo to Hi are ports; without it the whole protocol is meant
	Type   bool   // Lo is an ICMP type
	Lo, Hi uint16 // inclusive
}

// AnyService is every connection.
var AnyService = Service{Any: true}

// OnePort returns the service of one port.
func OnePort(proto uint8, port uint16) Service { return PortRange(proto, port, port) }

// PortRange returns the service of an inclusive range of ports.
func PortRange(proto uint8, lo, hi uint16) Service {
	return Service{Proto: proto, Ports: true, Lo: lo, Hi: hi}
}

// ICMP returns the service of one ICMP type.
func ICMP(typ uint8) Service {
	return Service{Proto: ProtoICMP, Type: true, Lo: uint16(typ), Hi: uint16(typ)}
}

// ServiceOf returns the service that a packet asks for, of an IP protocol and a port, which is
// the type for ICMP and means nothing for protocols that have neither.
func ServiceOf(proto uint8, port uint16) Service {
	switch {
	case proto == ProtoICMP:
		return ICMP(uint8(port))
	case HasPorts(proto):
		return OnePort(proto, port)
	}
	return Service{Proto: proto}
}

// PortProtocols are the IP protocols that have port numbers where TCP has them.
var PortProtocols = [...]uint8{ProtoTCP, ProtoUDP, ProtoSCTP, 33 /* DCCP */, 136 /* UDP-Lite */}

// HasPorts reports whether an IP protocol has port numbers where TCP has them.
func HasPorts(proto uint8) bool { return slices.Contains(PortProtocols[:], proto) }

// Contains reports whether a connection of IP protocol proto belongs to the
// service. Port is its destination port, its ICMP type, or 0.
func (s Service) Contains(proto uint8, port uint16) bool {
	switch {
	case s.Any:
		return true
	case s.Proto != proto:
		return false
	case s.Ports || s.Type:
		return s.Lo <= port && port <= s.Hi
	}
	return true
}

// String writes the service as the configuration does: tcp/443, udp/5000-5010,
// icmp/8, proto/47, any.
func (s Service) String() string {
	switch {
	case s.Any:
		return "any"
	case s.Type:
		return fmt.Sprintf("icmp/%d", s.Lo)
	case s.Ports && s.Lo == s.Hi:
		return fmt.Sprintf("%s/%d", ProtoName(s.Proto), s.Lo)
	case s.Ports:
		return fmt.Sprintf("%s/%d-%d", ProtoName(s.Proto), s.Lo, s.Hi)
	}
	return ProtoName(s.Proto)
}

var protoNames = map[uint8]string{
	ProtoICMP: "icmp", ProtoTCP: "tcp", ProtoUDP: "udp", ProtoGRE: "gre", ProtoESP: "esp",
	ProtoAH: "ah", ProtoSCTP: "sctp", ProtoIGMP: "igmp",
}

// ProtoName names an IP protocol as the configuration does: "tcp", "proto/99".
func ProtoName(proto uint8) string {
	if n, ok := protoNames[proto]; ok {
		return n
	}
	return fmt.Sprintf("proto/%d", proto)
}

// ProtoByName is the inverse of [ProtoName] for protocols that have a name.
func ProtoByName(name string) (uint8, bool) {
	for p, n := range protoNames {
		if n == name {
			return p, true
		}
	}
	return 0, false
}
