// Package filter reads what packets somebody wants to see, in a language of a few words,
// and writes it as a program that the kernel runs on each frame.
//
//	host 192.168.20.5 and not (tcp and port 443)
//
// The words mean what they mean to tcpdump, but for three things: "and" and "or" are not
// mixed without parentheses, since tcpdump reads them in another order than most people;
// host, net, port, tcp, udp and icmp speak of IPv4 only; and a port is one of TCP or UDP.
//
// It is pure: it opens no socket and sees no packet.
package filter

import (
	"fmt"
	"net/netip"
	"strings"

	"bulkhead/netcfg/model"
)

// Bounds of a filter, which a stranger may have written.
const (
	MaxText  = 1000 // bytes
	maxTests = 64
	maxDepth = 32 // parentheses and negations within each other
)

// Expr is a filter. A nil Expr takes every packet.
type Expr interface {
	fmt.Stringer // as [Parse] reads it

	// emit writes the expression, which jumps to one of the two.
	emit(a *assembly, yes, no label)
}

type (
	anyOf []Expr // of more than one
	allOf []Expr
	not   struct{ e Expr }

	protocol struct{ kind }
	host     struct{ netip.Prefix } // of one address: an endpoint of IPv4, or asked for or told of by ARP
	network  struct{ netip.Prefix }
	port     uint16 // at either end, of TCP or UDP; later fragments have none
	mac      model.MAC
)

// kind is a protocol that has a word.
type kind struct {
	word  string
	ether uint16
	ip    uint8 // protocol of IPv4; 0: all
}

var kinds = []kind{
	{"arp", etherARP, 0}, {"ip", etherIPv4, 0}, {"ip6", etherIPv6, 0},
	{"icmp", etherIPv4, 1}, {"tcp", etherIPv4, 6}, {"udp", etherIPv4, 17},
}

func (e anyOf) String() string    { return list(e, " or ") }
func (e allOf) String() string    { return list(e, " and ") }
func (e not) String() string      { return "not " + e.e.String() }
func (e protocol) String() string { return e.word }
func (e host) String() string     { return "host " + e.Addr().String() }
func (e network) String() string  { return "net " + e.Prefix.String() }
func (e port) String() string     { return fmt.Sprintf("port %d", uint16(e)) }
func (e mac) String() string      { return "mac " + model.MAC(e).String() }

func list(es []Expr, between string) string {
	words := make([]string, len(es))
	for i, e := range es {
		words[i] = e.String()
	}
	return "(" + strings.Join(words, between) + ")"
}

// Host takes the packets of one IPv4 address.
func Host(a netip.Addr) Expr { return host{netip.PrefixFrom(a, a.BitLen())} }

// Port takes the packets of one port.
func Port(n uint16) Expr { return port(n) }

// All takes what all of them take, of which none may be nil.
func All(es ...Expr) Expr { return allOf(es) }

// Not takes what e does not take.
func Not(e Expr) Expr { return not{e} }
