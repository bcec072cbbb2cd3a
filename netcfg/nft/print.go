package nft

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// String prints the table as "nft list table inet NAME" of nft 1.0.6 prints it once
// it is in a kernel, with all counters at zero. The text can be loaded with "nft -f".
//
// To be the same as nft's, the text follows nft where that is surprising: it drops
// "meta l4proto tcp" before "th dport" and says "tcp dport" instead, and it sorts
// the elements of sets (see sorted). The meaning is the same. Base chains and
// dynamic sets come first, see [Table.OrderedChains].
func (t *Table) String() string {
	p := &printer{}
	p.printf("table inet %s {\n", t.Name)
	for i, name := range t.Counters {
		p.separate(i > 0)
		p.printf("\tcounter %s {\n\t\tpackets 0 bytes 0\n\t}\n", name)
	}
	for i, s := range t.OrderedSets() {
		p.separate(i > 0 || len(t.Counters) > 0)
		p.set(s)
	}
	for i := range t.Flowtables {
		p.separate(i > 0 || len(t.Counters)+len(t.Sets) > 0)
		p.flowtable(&t.Flowtables[i])
	}
	for i, c := range t.OrderedChains() {
		p.separate(i > 0 || len(t.Counters)+len(t.Sets)+len(t.Flowtables) > 0)
		p.chain(c)
	}
	p.printf("}\n")
	return p.String()
}

// Digest is the SHA-256 of the printed text in hexadecimal digits. Tables with the
// same digest do the same.
func (t *Table) Digest() string {
	sum := sha256.Sum256([]byte(t.String()))
	return hex.EncodeToString(sum[:])
}

// String prints the rule as it stands in a chain, without indentation.
func (r Rule) String() string {
	rp := rulePrinter{}
	for _, s := range r.Stmts {
		rp.stmt(s)
	}
	words := slices.DeleteFunc(rp.words, func(w string) bool { return w == "" })
	if r.Comment != "" {
		words = append(words, `comment "`+r.Comment+`"`)
	}
	return strings.Join(words, " ")
}

type printer struct{ bytes.Buffer }

func (p *printer) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

func (p *printer) separate(yes bool) {
	if yes {
		p.WriteByte('\n')
	}
}

func (p *printer) chain(c *Chain) {
	p.printf("\tchain %s {\n", c.Name)
	if h := c.Hook; h != nil {
		policy := "accept"
		if h.Drop {
			policy = "drop"
		}
		p.printf("\t\ttype %s hook %s priority %s; policy %s;\n", h.Type, h.Hook, h.priority(), policy)
	}
	for _, r := range c.Rules {
		p.printf("\t\t%s\n", r)
	}
	p.printf("\t}\n")
}

func (p *printer) flowtable(f *Flowtable) {
	p.printf("\tflowtable %s {\n\t\thook ingress priority filter\n\t\tdevices = { %s }\n\t\tcounter\n\t}\n",
		f.Name, strings.Join(f.Devices, ", "))
}

// priority prints a priority as nft does: relative to the name of a standard
// priority, if there is one within 10 of it that fits the hook.
func (h *Hook) priority() string {
	for _, std := range []struct {
		name, hook string
		value      int
	}{
		{"raw", "", -300}, {"mangle", "", -150}, {"dstnat", "prerouting", -100},
		{"filter", "", 0}, {"security", "", 50}, {"srcnat", "postrouting", 100},
	} {
		if std.hook != "" && std.hook != h.Hook {
			continue
		}
		switch d := h.Priority - std.value; {
		case d == 0:
			return std.name
		case 0 < d && d <= 10:
			return fmt.Sprintf("%s + %d", std.name, d)
		case -10 <= d && d < 0:
			return fmt.Sprintf("%s - %d", std.name, -d)
		}
	}
	return fmt.Sprint(h.Priority)
}

func (p *printer) set(s *Set) {
	kind, typ := "set", typeNames(s.Key)
	if s.Data != nil {
		kind, typ = "map", typ+" : "+typeNames(s.Data)
	}
	p.printf("\t%s %s {\n\t\ttype %s\n", kind, s.Name, typ)
	if s.Interval {
		p.printf("\t\tflags interval\n")
	}
	if d := s.Dynamic; d != nil {
		p.printf("\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %s\n\t\tgc-interval %s\n", d.Size, duration(d.Timeout), duration(d.Sweep))
	}
	if len(s.Elements) > 0 {
		p.printf("\t\telements = { ")
		perLine := s.perLine()
		for i, e := range s.sorted() {
			switch {
			case i == 0:
			case i%perLine == 0:
				p.printf(",\n\t\t\t     ")
			default:
				p.printf(", ")
			}
			p.element(s, e)
		}
		p.printf(" }\n")
	}
	p.printf("\t}\n")
}

// duration prints whole seconds as nft does, in days, hours, minutes and seconds.
func duration(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.size
		}
	}
	return b.String()
}

// perLine is the number of elements that nft prints in one line.
func (s *Set) perLine() int {
	if len(s.Key) > 1 {
		return 1
	}
	switch s.Key[0] {
	case InetService, InetProto, NFProtoType, TCPFlag, Mark, UID, Index:
		return 5
	case IPv4Addr, CTStateBits, CTStatusBits:
		return 2
	}
	return 1
}

// sorted returns the elements in the order in which nft lists them. Concatenations
// with ranges come in the order in which they were added. All others nft 1.0.6
// sorts, taking a concatenation, as the kernel holds it, for one little-endian number:
// its last byte counts most. So do host-order types; the value of others is plain.
func (s *Set) sorted() []Element {
	if s.Interval && len(s.Key) > 1 {
		return s.Elements
	}
	type keyed struct {
		key string
		e   Element
	}
	list := make([]keyed, len(s.Elements))
	for i, e := range s.Elements {
		if len(s.Key) == 1 && s.Key[0] != IfName {
			list[i] = keyed{string(e.Key[0].Lo), e}
			continue
		}
		var key []byte
		for j, k := range e.Key {
			key = append(key, k.Lo.hostOrder(s.Key[j])...)
		}
		slices.Reverse(key)
		list[i] = keyed{string(key), e}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	sorted := make([]Element, len(list))
	for i, k := range list {
		sorted[i] = k.e
	}
	return sorted
}

// hostOrder is the value as a little-endian kernel holds it.
func (v Value) hostOrder(t Type) []byte {
	b := []byte(v)
	switch t {
	case Mark, UID, CTStateBits, CTStatusBits, Index, FibType:
		slices.Reverse(b)
	}
	return b
}

func (p *printer) element(s *Set, e Element) {
	for i, r := range e.Key {
		if i > 0 {
			p.printf(" . ")
		}
		p.printf("%s", formatRange(s.Key[i], r))
	}
	if e.Comment != "" {
		p.printf(` comment "%s"`, e.Comment)
	}
	switch {
	case s.Data == nil:
	case s.Data[0] == VerdictType:
		p.printf(" : %s", e.Verdict)
	default:
		p.printf(" : %s", format(s.Data[0], e.Data[0]))
	}
}

// String is the verdict in nft's words.
func (v Verdict) String() string {
	switch v.Code {
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case Jump:
		return "jump " + v.Chain
	case Goto:
		return "goto " + v.Chain
	case Return:
		return "return"
	}
	return fmt.Sprintf("verdict(%d)", v.Code)
}

// rulePrinter prints statements one by one and remembers what they say about the
// protocol, because nft names fields by it and leaves out matches that a later field
// implies.
type rulePrinter struct {
	words []string
	l4    string // the transport protocol, once a statement has fixed it
	l4At  int    // 1 + index in words of "meta l4proto X" that a later field makes superfluous
	nfAt  int    // the same of "meta nfproto ipv4"
}

func (p *rulePrinter) add(format string, args ...any) {
	p.words = append(p.words, fmt.Sprintf(format, args...))
}

// portProtocols have ports where th sport and th dport look for them.
var portProtocols = []string{"tcp", "udp", "udplite", "sctp", "dccp"}

// field is the name of a field at this place in the rule.
func (p *rulePrinter) field(f Field) string {
	switch f {
	case IPSaddr, IPDaddr:
		p.forget(&p.nfAt)
	case ThSport, ThDport:
		if slices.Contains(portProtocols, p.l4) {
			p.forget(&p.l4At)
			return strings.Replace(fieldNames[f], "th", p.l4, 1)
		}
	case ICMPType:
		p.forget(&p.nfAt)
		p.forget(&p.l4At)
		p.l4 = "icmp"
	case TCPFlags:
		p.forget(&p.l4At)
		p.l4 = "tcp"
	}
	return fieldNames[f]
}

func (p *rulePrinter) forget(at *int) {
	if *at > 0 {
		p.words[*at-1] = ""
	}
	*at = 0
}

func (p *rulePrinter) fields(fields []Field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = p.field(f)
	}
	return strings.Join(names, " . ")
}

func (p *rulePrinter) stmt(s Stmt) {
	switch s := s.(type) {
	case Match:
		p.match(s)
	case InSet:
		not := ""
		if s.Not {
			not = "!= "
		}
		p.add("%s %s@%s", p.fields(s.Fields), not, s.Set)
	case Dispatch:
		p.add("%s vmap @%s", p.fields(s.Fields), s.Map)
	case MarkFromMap:
		p.add("meta mark set %s map @%s", p.fields(s.Fields), s.Map)
	case SetMark:
		p.add("meta mark set 0x%08x", s.Value)
	case SaveMark:
		p.add("ct mark set meta mark")
	case Count:
		p.add(`counter name "%s"`, s.Name)
	case Tally:
		p.add("update @%s { %s counter }", s.Set, p.fields(s.Fields))
	case Limit:
		p.add("limit rate %d/second", s.Rate)
		if s.Burst != 5 { // nft's default, which it does not print
			p.add("burst %d packets", s.Burst)
		}
	case Log:
		p.log(s)
	case DNAT:
		p.add("dnat ip to %s map @%s", p.fields(s.Fields), s.Map)
	case Redirect:
		p.add("dnat ip to %s:%d", s.Addr, s.Port)
	case Masquerade:
		p.add("masquerade")
	case Offload:
		p.add("flow add @%s", s.Flowtable)
	case Verdict:
		p.add("%s", s)
	default:
		p.add("statement(%T)", s)
	}
}

func (p *rulePrinter) log(l Log) {
	p.add("log")
	if l.Prefix != "" {
		p.add(`prefix "%s"`, l.Prefix)
	}
	p.add("group %d", l.Group)
	if l.Snaplen > 0 {
		p.add("snaplen %d", l.Snaplen)
	}
	if l.QueueThreshold > 0 {
		p.add("queue-threshold %d", l.QueueThreshold)
	}
}

func (p *rulePrinter) match(m Match) {
	name, t := p.field(m.Field), m.Field.TypeOf()
	p.add("%s %s", name, comparison(t, m))
	if m.Op != Eq || m.Mask != "" {
		return
	}
	switch m.Field {
	case L4Proto:
		p.l4, p.l4At = format(t, m.Value), len(p.words)
		if !slices.Contains(portProtocols, p.l4) && p.l4 != "icmp" {
			p.l4At = 0
		}
	case NFProto:
		if m.Value.Uint() == NFProtoIPv4 {
			p.nfAt = len(p.words)
		}
	}
}

// comparison prints what follows the field's name.
func comparison(t Type, m Match) string {
	v, not := format(t, m.Value), ""
	if m.Op == Ne || m.Op == Outside {
		not = "!= "
	}
	switch {
	case m.Op == Within || m.Op == Outside:
		return not + interval(t, m.Value, m.Last)
	case m.Op == AnyBit && bitmask[t]:
		return v
	case m.Op == NoBit && bitmask[t]:
		return "! " + v
	case m.Op == AnyBit:
		return masked(t, "!=", m.Value, U32(0))
	case m.Op == NoBit:
		return masked(t, "==", m.Value, U32(0))
	case m.Mask != "" && bitmask[t] && bits.OnesCount32(m.Mask.Uint()) > 1:
		return not + v + " / " + format(t, m.Mask)
	case m.Mask != "":
		op := "=="
		if m.Op == Ne {
			op = "!="
		}
		return masked(t, op, m.Mask, m.Value)
	case bitmask[t] && m.Op == Eq:
		return "== " + v
	}
	return not + v
}

// masked prints the comparison of a masked field, as a prefix where the type has
// prefixes and the mask is one.
func masked(t Type, op string, mask, v Value) string {
	if t == IPv4Addr || t == Mark {
		if n := bits.LeadingZeros32(^mask.Uint()); mask == Mask4(n) {
			s := format(t, v)
			if n < 32 {
				s = fmt.Sprintf("%s/%d", s, n)
			}
			if op == "!=" {
				s = "!= " + s
			}
			return s
		}
	}
	return fmt.Sprintf("& %s %s %s", format(t, mask), op, format(t, v))
}

// formatRange prints one field of a key.
func formatRange(t Type, r Range) string {
	if r.Lo == r.Hi {
		return format(t, r.Lo)
	}
	if t == IPv4Addr {
		host := r.Lo.Uint() ^ r.Hi.Uint()
		if host&(host+1) == 0 && r.Lo.Uint()&host == 0 { // a prefix: the differing bits are the last ones, 0 to 1
			return fmt.Sprintf("%s/%d", format(t, r.Lo), bits.LeadingZeros32(host))
		}
	}
	return interval(t, r.Lo, r.Hi)
}

// interval prints a range, with numbers for values that alone would have a name.
func interval(t Type, lo, hi Value) string {
	if t == IPv4Addr || t == EtherAddr || t == Mark {
		return format(t, lo) + "-" + format(t, hi)
	}
	return fmt.Sprintf("%d-%d", lo.Uint(), hi.Uint())
}

// format prints one value.
func format(t Type, v Value) string {
	if len(v) != t.Size() {
		return fmt.Sprintf("value(%x)", string(v))
	}
	switch t {
	case IPv4Addr:
		return netip.AddrFrom4([4]byte([]byte(v))).String()
	case EtherAddr:
		return net.HardwareAddr(v).String()
	case IfName:
		return `"` + strings.TrimRight(string(v), "\x00") + `"`
	case Mark:
		return fmt.Sprintf("0x%08x", v.Uint())
	case TCPFlag, CTStateBits, CTStatusBits:
		return formatBits(t, v.Uint())
	}
	if name, ok := valueNames[t][v.Uint()]; ok {
		return name
	}
	return fmt.Sprint(v.Uint())
}

// formatBits prints a set of named bits, lowest first.
func formatBits(t Type, n uint32) string {
	if n == 0 {
		return "0x0"
	}
	var names []string
	for ; n != 0; n &= n - 1 {
		bit := n & -n
		name, ok := valueNames[t][bit]
		if !ok {
			name = fmt.Sprintf("%#x", bit)
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

func typeNames(types []Type) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = nftTypeNames[t]
	}
	return strings.Join(names, " . ")
}

var nftTypeNames = [...]string{
	IPv4Addr: "ipv4_addr", EtherAddr: "ether_addr", NFProtoType: "nf_proto", InetProto: "inet_proto",
	InetService: "inet_service", ICMPTypeType: "icmp_type", TCPFlag: "tcp_flag", IfName: "ifname",
	Mark: "mark", UID: "uid", CTStateBits: "ct_state", CTStatusBits: "ct_status", Index: "iface_index",
	FibType: "fib_addrtype", VerdictType: "verdict",
}

var fieldNames = [...]string{
	IPSaddr: "ip saddr", IPDaddr: "ip daddr", EtherSaddr: "ether saddr", NFProto: "meta nfproto",
	L4Proto: "meta l4proto", ThSport: "th sport", ThDport: "th dport", ICMPType: "icmp type",
	TCPFlags: "tcp flags", IIFName: "iifname", OIFName: "oifname", MetaMark: "meta mark",
	SkUID: "meta skuid", CTState: "ct state", CTStatus: "ct status", FibSaddrIIF: "fib saddr . iif oif",
	FibDaddrType: "fib daddr type",
}

// String is the name of the field in nft(8).
func (f Field) String() string {
	if int(f) < len(fieldNames) && fieldNames[f] != "" {
		return fieldNames[f]
	}
	return fmt.Sprintf("field(%d)", uint8(f))
}

// String is the name of the type in nft(8).
func (t Type) String() string {
	if int(t) < len(nftTypeNames) && nftTypeNames[t] != "" {
		return nftTypeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// valueNames are the symbolic constants of nft 1.0.6. Those of inet_proto nft takes
// from /etc/protocols; these are Debian's.
var valueNames = map[Type]map[uint32]string{
	NFProtoType: {NFProtoIPv4: "ipv4", NFProtoIPv6: "ipv6"},
	InetProto: {
		0: "ip", 1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp",
		12: "pup", 17: "udp", 20: "hmp", 22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp",
		37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag", 45: "idrp", 46: "rsvp",
		47: "gre", 50: "esp", 51: "ah", 57: "skip", 58: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts",
		73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip",
		98: "encap", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp",
		133: "fc", 135: "mobility-header", 136: "udplite", 137: "mpls-in-ip", 138: "manet", 139: "hip",
		140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
	},
	ICMPTypeType: {
		0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect",
		8: "echo-request", 9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded",
		12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply", 15: "info-request",
		16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply",
	},
	TCPFlag: {
		1: "fin", 2: "syn", 4: "rst", 8: "psh", 16: "ack", 32: "urg", 64: "ecn", 128: "cwr",
	},
	CTStateBits: {
		StateInvalid: "invalid", StateEstablished: "established", StateRelated: "related",
		StateNew: "new", StateUntracked: "untracked",
	},
	CTStatusBits: {
		1: "expected", 2: "seen-reply", 4: "assured", 8: "confirmed", 16: "snat", StatusDNAT: "dnat",
		512: "dying",
	},
	FibType: {
		0: "unspec", FibUnicast: "unicast", FibLocal: "local", FibBroadcast: "broadcast", 4: "anycast",
		5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
	},
}
