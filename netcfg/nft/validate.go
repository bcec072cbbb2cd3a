package nft

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of kernel and nft, in bytes. include/uapi/linux/netfilter/nf_tables.h,
// nf_log.h; nft's NFTNL_UDATA_COMMENT_MAXLEN.
const (
	maxName     = 255
	maxComment  = 128
	maxPrefix   = 127
	maxKeySize  = 64 // all registers together
	maxKeyParts = 5  // nft has 6 bits per type in a number of 32 bits
)

// Validate reports what in the table nft would not print or load, or the kernel not
// accept. Loops of jumps it leaves to the kernel.
func (t *Table) Validate() error {
	v := &validator{
		sets:       make(map[string]*Set),
		chains:     make(map[string]*Chain),
		counters:   make(map[string]bool),
		flowtables: make(map[string]bool),
	}
	v.name("table", t.Name)
	for _, c := range t.Counters {
		if v.counters[c] {
			v.errorf("counter %s is there twice", c)
		}
		v.counters[c] = true
		v.name("counter", c)
	}
	for i := range t.Sets {
		s := &t.Sets[i]
		if v.sets[s.Name] != nil {
			v.errorf("set %s is there twice", s.Name)
		}
		v.sets[s.Name] = s
		v.name("set", s.Name)
	}
	for _, f := range t.Flowtables {
		if v.flowtables[f.Name] {
			v.errorf("flowtable %s is there twice", f.Name)
		}
		v.flowtables[f.Name] = true
		v.name("flowtable", f.Name)
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		if v.chains[c.Name] != nil {
			v.errorf("chain %s is there twice", c.Name)
		}
		v.chains[c.Name] = c
		v.name("chain", c.Name)
	}
	for i := range t.Sets {
		v.where = "set " + t.Sets[i].Name
		v.set(&t.Sets[i])
	}
	for _, f := range t.Flowtables {
		v.where = "flowtable " + f.Name
		v.flowtable(f)
	}
	for i := range t.Chains {
		v.chain(&t.Chains[i])
	}
	return errors.Join(v.errs...)
}

type validator struct {
	where      string
	errs       []error
	sets       map[string]*Set
	chains     map[string]*Chain
	counters   map[string]bool
	flowtables map[string]bool
}

// maxErrors keeps a table that is wrong throughout from filling the memory.
const maxErrors = 20

func (v *validator) errorf(format string, args ...any) {
	if len(v.errs) >= maxErrors {
		return
	}
	msg := fmt.Sprintf(format, args...)
	if v.where != "" {
		msg = v.where + ": " + msg
	}
	v.errs = append(v.errs, errors.New(msg))
}

var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

func (v *validator) name(kind, name string) {
	switch {
	case !namePattern.MatchString(name) || len(name) > maxName:
		v.errorf("%s: %q is no name: a letter, then up to 254 letters, digits or one of _.-", kind, name)
	case Reserved(name):
		v.errorf("%s %s: the name is a word of nft's language", kind, name)
	}
}

// Reserved reports whether nft 1.0.6 takes the word for one of its language, at some
// place where the name of a chain, set, counter or flowtable stands.
func Reserved(word string) bool { return slices.Contains(reserved, word) }

// reserved was found by trying every word in libnftables.
var reserved = strings.Fields(`
	accept add ah all and arp auto-merge bridge bytes cgroup chain comment comp constant continue
	counter cpu create ct day dccp define delete describe device devices dnat drop dst dup dynamic
	ecn element elements eq esp ether exists expires export fib flags flow flowtable flush frag fwd
	gc-interval ge goto gt handle hbh hook hour ibriport ibrname icmp icmpv6 igmp iif iifgroup
	iifname iiftype import include index inet insert interval ip ip6 ipsec jhash jump le limit list
	ll log lshift lt map mark masquerade meta meter mh missing monitor nat ne netdev nftrace nh not
	notrack numgen obriport obrname offload oif oifgroup oifname oiftype or osf packets pkttype policy
	position priority queue quota random redefine redirect reject rename replace reset return rshift
	rt rt0 rt2 rtclassid rule ruleset sctp secmark set size skgid skuid snat socket srh symhash
	synproxy table tcp th timeout tproxy type typeof udp udplite undefine update vlan vmap xor xt`)

// text checks a comment or a log prefix. nft has strings without escapes.
func (v *validator) text(kind, s string, limit int) {
	bad := func(r rune) bool { return r < ' ' || r > '~' || r == '"' }
	if len(s) > limit || strings.ContainsFunc(s, bad) {
		v.errorf("%s %q: must be at most %d printable ASCII characters other than quotes", kind, s, limit)
	}
}

func (v *validator) set(s *Set) {
	bytes := 0
	for _, t := range s.Key {
		if !keyTypes[t] {
			v.errorf("type %s cannot be part of a key", t)
			return
		}
		bytes += (t.Size() + 3) / 4 * 4
	}
	if len(s.Key) == 0 || len(s.Key) > maxKeyParts || bytes > maxKeySize {
		v.errorf("a key has 1 to %d fields and at most %d bytes", maxKeyParts, maxKeySize)
		return
	}
	if s.Data != nil && (len(s.Data) != 1 || s.Data[0] != VerdictType && !keyTypes[s.Data[0]]) {
		v.errorf("a map has one field of data, of a type that can be looked up, or a verdict")
		return
	}
	if s.Interval && len(s.Key) == 1 && !ranged[s.Key[0]] {
		v.errorf("there are no ranges of type %s", s.Key[0])
		return
	}
	if s.Dynamic != nil {
		v.dynamic(s)
	}
	for i := range s.Elements {
		v.element(s, &s.Elements[i])
	}
	if len(v.errs) == 0 {
		v.disjoint(s)
	}
}

// maxWait is the longest timeout that a set may have here. The kernel takes any.
const maxWait = 24 * time.Hour

func (v *validator) dynamic(s *Set) {
	if s.Data != nil || s.Interval || len(s.Elements) > 0 {
		v.errorf("packets add elements: it cannot have data, ranges or elements of its own")
	}
	if s.Dynamic.Size == 0 {
		v.errorf("it has no size")
	}
	for _, d := range []time.Duration{s.Dynamic.Timeout, s.Dynamic.Sweep} {
		if d < time.Second || d > maxWait || d%time.Second != 0 {
			v.errorf("%v is not 1 second to %v in whole seconds", d, maxWait)
		}
	}
}

// keyTypes are the types that keys and data may have. Index and FibType only occur in
// comparisons.
var keyTypes = map[Type]bool{
	IPv4Addr: true, EtherAddr: true, NFProtoType: true, InetProto: true, InetService: true,
	ICMPTypeType: true, IfName: true, Mark: true, UID: true, CTStateBits: true,
}

// ranged are the types of which a set can hold ranges: the kernel keeps them in
// network order.
var ranged = map[Type]bool{
	IPv4Addr: true, EtherAddr: true, InetProto: true, InetService: true, ICMPTypeType: true,
}

func (v *validator) element(s *Set, e *Element) {
	if len(e.Key) != len(s.Key) {
		v.errorf("an element has %d fields, the set %d", len(e.Key), len(s.Key))
		return
	}
	for i, r := range e.Key {
		t := s.Key[i]
		v.value(t, r.Lo)
		v.value(t, r.Hi)
		switch {
		case r.Lo > r.Hi:
			v.errorf("range %s-%s ends before it begins", format(t, r.Lo), format(t, r.Hi))
		case r.Lo != r.Hi && (!s.Interval || !ranged[t]):
			v.errorf("a range of type %s in a set that has none", t)
		case t == CTStateBits && r.Lo.Uint()&(r.Lo.Uint()-1) != 0:
			v.errorf("%s are several states: one each", format(t, r.Lo))
		}
	}
	v.text("comment", e.Comment, maxComment)
	if len(s.Data) == 1 && s.Data[0] == VerdictType {
		if len(e.Data) != 0 {
			v.errorf("an element of a verdict map with data")
		}
		v.verdict(e.Verdict)
		return
	}
	if len(e.Data) != len(s.Data) || e.Verdict != (Verdict{}) {
		v.errorf("an element has %d data fields and verdict %q, the map %d and none", len(e.Data), e.Verdict, len(s.Data))
		return
	}
	for i, d := range e.Data {
		v.value(s.Data[i], d)
	}
}

func (v *validator) value(t Type, x Value) {
	if len(x) != t.Size() {
		v.errorf("value %x has %d bytes, type %s has %d", string(x), len(x), t, t.Size())
		return
	}
	if t == IfName {
		v.link(strings.TrimRight(string(x), "\x00"))
	}
}

func (v *validator) link(name string) {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"*\/`, r) }
	if name == "" || len(name) > 15 || strings.ContainsFunc(name, bad) {
		v.errorf("%q is no name of an interface", name)
	}
}

// flowtable checks a flowtable. That its devices are there, only the kernel knows.
func (v *validator) flowtable(f Flowtable) {
	if len(f.Devices) == 0 {
		v.errorf("no device")
	}
	for i, d := range f.Devices {
		v.link(d)
		if i > 0 && f.Devices[i-1] >= d {
			v.errorf("devices %s and %s are the same or not in order", f.Devices[i-1], d)
		}
	}
}

// disjoint finds keys that are there twice or overlap.
func (v *validator) disjoint(s *Set) {
	if s.Interval {
		v.disjointRanges(s)
		return
	}
	seen := make(map[string]bool, len(s.Elements))
	var key []byte
	for _, e := range s.Elements {
		key = key[:0]
		for _, r := range e.Key { // all values of a field have one length, so that this is unambiguous
			key = append(append(key, r.Lo...), r.Hi...)
		}
		if seen[string(key)] {
			v.errorf("key %s is there twice", formatKey(s, e))
		}
		seen[string(key)] = true
	}
}

// disjointRanges finds overlapping keys. With several fields the kernel finds only
// some of them, and of the others it is undefined which one counts
// (net/netfilter/nft_set_pipapo.c, nft_pipapo_insert).
//
// It goes through the elements in the order of one field, the one with the most
// values, and compares each with those before that reach so far.
func (v *validator) disjointRanges(s *Set) {
	field := mostVaried(s)
	sorted := slices.SortedFunc(slices.Values(s.Elements), func(a, b Element) int {
		return cmp.Compare(a.Key[field].Lo, b.Key[field].Lo)
	})
	var open []Element
	for _, e := range sorted {
		open = slices.DeleteFunc(open, func(o Element) bool { return o.Key[field].Hi < e.Key[field].Lo })
		for _, o := range open {
			if overlap(o.Key, e.Key) {
				v.errorf("keys %s and %s overlap", formatKey(s, o), formatKey(s, e))
			}
		}
		open = append(open, e)
	}
}

func overlap(a, b []Range) bool {
	for i := range a {
		if a[i].Hi < b[i].Lo || b[i].Hi < a[i].Lo {
			return false
		}
	}
	return true
}

// mostVaried is the index of the field that has the most values.
func mostVaried(s *Set) (field int) {
	most := 0
	for i := range s.Key {
		values := make(map[Value]bool, len(s.Elements))
		for _, e := range s.Elements {
			values[e.Key[i].Lo] = true
		}
		if len(values) > most {
			field, most = i, len(values)
		}
	}
	return field
}

func formatKey(s *Set, e Element) string {
	parts := make([]string, len(e.Key))
	for i, r := range e.Key {
		parts[i] = formatRange(s.Key[i], r)
	}
	return strings.Join(parts, " . ")
}

func (v *validator) verdict(x Verdict) {
	switch x.Code {
	case Accept, Drop, Return:
		if x.Chain != "" {
			v.errorf("verdict %s with chain %s", x, x.Chain)
		}
	case Jump, Goto:
		if c := v.chains[x.Chain]; c == nil || c.Hook != nil {
			v.errorf("%s: there is no such chain that can be jumped to", x)
		}
	default:
		v.errorf("%s is no verdict", x)
	}
}

func (v *validator) chain(c *Chain) {
	v.where = "chain " + c.Name
	if h := c.Hook; h != nil {
		v.hook(h)
	}
	for i, r := range c.Rules {
		v.where = fmt.Sprintf("chain %s, rule %d", c.Name, i+1)
		v.rule(c, r)
	}
}

func (v *validator) hook(h *Hook) {
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting"}
	switch {
	case !slices.Contains(hooks, h.Hook):
		v.errorf("there is no hook %q", h.Hook)
	case h.Type == "nat":
		// net/netfilter/nf_tables_api.c, nft_chain_parse_hook: conntrack must come first.
		if h.Hook == "forward" || h.Priority <= -200 {
			v.errorf("there is no nat at hook %s with priority %d", h.Hook, h.Priority)
		}
	case h.Type != "filter":
		v.errorf("there is no chain type %q", h.Type)
	}
	if int(int32(h.Priority)) != h.Priority {
		v.errorf("priority %d is out of range", h.Priority)
	}
}

// known is what the statements of a rule so far say about the packet.
type known struct {
	l4    uint32
	isL4  bool
	ports bool   // ports were looked at
	nf    uint32 // 0: nothing
	done  string // the statement after which nothing can come
}

func (v *validator) rule(c *Chain, r Rule) {
	v.text("comment", r.Comment, maxComment)
	if len(r.Stmts) == 0 {
		v.errorf("has no statements")
	}
	k := known{}
	for _, s := range r.Stmts {
		if k.done != "" {
			v.errorf("%T comes after %s and has no effect", s, k.done)
		}
		v.stmt(c, &k, s)
	}
}

func (v *validator) stmt(c *Chain, k *known, s Stmt) {
	switch s := s.(type) {
	case Match:
		v.match(k, s)
	case InSet:
		v.lookup(k, s.Fields, s.Set, nil)
	case Dispatch:
		v.lookup(k, s.Fields, s.Map, []Type{VerdictType})
		k.done = "a verdict map"
	case MarkFromMap:
		v.lookup(k, s.Fields, s.Map, []Type{Mark})
	case SetMark, SaveMark:
	case Count:
		if !v.counters[s.Name] {
			v.errorf("there is no counter %s", s.Name)
		}
	case Tally:
		v.lookup(k, s.Fields, s.Set, nil)
		if set := v.sets[s.Set]; set != nil && set.Dynamic == nil {
			v.errorf("counts in set %s, to which packets add nothing", s.Set)
		}
	case Limit:
		if s.Rate == 0 || s.Burst == 0 {
			v.errorf("limit of %d with burst %d", s.Rate, s.Burst)
		}
	case Log:
		v.text("log prefix", s.Prefix, maxPrefix)
		if strings.ContainsAny(s.Prefix, "$") {
			v.errorf("log prefix %q: nft takes $ for the start of a variable", s.Prefix)
		}
	case DNAT:
		v.nat(c, "prerouting", "output")
		v.lookup(k, s.Fields, s.Map, []Type{IPv4Addr})
		k.done = "dnat"
	case Redirect:
		v.nat(c, "prerouting", "output")
		if v.field(k, ThDport) && (!k.isL4 || !s.Addr.Is4() || s.Port == 0) {
			v.errorf("redirects to %s:%d what may have no ports", s.Addr, s.Port)
		}
		k.done = "dnat"
	case Masquerade:
		v.nat(c, "postrouting")
		k.done = "masquerade"
	case Offload:
		if h := c.Hook; h != nil && h.Hook != "forward" {
			v.errorf("connections can be offloaded at forward only")
		}
		if !v.flowtables[s.Flowtable] {
			v.errorf("there is no flowtable %s", s.Flowtable)
		}
	case Verdict:
		v.verdict(s)
		k.done = "a verdict"
	default:
		v.errorf("%T is no statement", s)
	}
}

func (v *validator) nat(c *Chain, hooks ...string) {
	if h := c.Hook; h != nil && (h.Type != "nat" || !slices.Contains(hooks, h.Hook)) {
		v.errorf("translation needs a nat chain at %s", strings.Join(hooks, " or "))
	}
}

func (v *validator) lookup(k *known, fields []Field, name string, data []Type) {
	s := v.sets[name]
	if s == nil {
		v.errorf("there is no set %s", name)
		return
	}
	types := make([]Type, len(fields))
	for i, f := range fields {
		if !v.field(k, f) {
			return
		}
		types[i] = f.TypeOf()
	}
	if !slices.Equal(types, s.Key) || !slices.Equal(data, s.Data) {
		v.errorf("looks up %s : %s in %s, which is of type %s : %s",
			typeNames(types), typeNames(data), name, typeNames(s.Key), typeNames(s.Data))
	}
}

// field checks that a packet which has come so far in the rule can have the field, and
// that nft prints the field such that it can read it again.
func (v *validator) field(k *known, f Field) bool {
	if f == 0 || int(f) >= len(fieldNames) {
		v.errorf("%s is no field", f)
		return false
	}
	needL4, needIPv4 := uint32(0), false
	switch f {
	case IPSaddr, IPDaddr:
		needIPv4 = true
	case ICMPType:
		needL4, needIPv4 = 1, true
	case TCPFlags:
		needL4 = 6
	case ThSport, ThDport:
		k.ports = true
		if k.isL4 && !slices.Contains(portProtocols, format(InetProto, U8(uint8(k.l4)))) {
			v.errorf("%s after meta l4proto %s, which has no ports", f, format(InetProto, U8(uint8(k.l4))))
			return false
		}
	}
	if f == ICMPType && k.ports {
		v.errorf("%s after ports, which ICMP has not", f)
		return false
	}
	if needL4 != 0 {
		if k.isL4 && k.l4 != needL4 {
			v.errorf("%s after meta l4proto %s never matches", f, format(InetProto, U8(uint8(k.l4))))
			return false
		}
		k.l4, k.isL4 = needL4, true
	}
	if needIPv4 {
		if k.nf != 0 && k.nf != NFProtoIPv4 {
			v.errorf("%s after meta nfproto ipv6 never matches", f)
			return false
		}
		k.nf = NFProtoIPv4
	}
	return true
}

func (v *validator) match(k *known, m Match) {
	switch {
	case m.Field == L4Proto && k.isL4, m.Field == NFProto && k.nf != 0:
		v.errorf("%s is known already", m.Field)
		return
	case !v.field(k, m.Field):
		return
	}
	t := m.Field.TypeOf()
	v.value(t, m.Value)
	if !slices.Contains(operations[t], m.Op) {
		v.errorf("%s cannot be compared by operation %d", m.Field, m.Op)
		return
	}
	v.mask(t, m)
	if m.Op == Within || m.Op == Outside {
		v.value(t, m.Last)
		if m.Last <= m.Value {
			v.errorf("%s: range ends before or where it begins", m.Field)
		}
	} else if m.Last != "" {
		v.errorf("%s: last value without a range", m.Field)
	}
	if (m.Op == AnyBit || m.Op == NoBit) && m.Value.Uint() == 0 {
		v.errorf("%s: no bits to look for", m.Field)
	}
	if t == TCPFlag && (m.Mask.Uint() == 0xff || m.Op >= AnyBit && m.Value.Uint() == 0xff) {
		v.errorf("%s: a mask of all bits", m.Field) // nft leaves it out, and prints numbers then
	}
	if bits := m.Value.Uint(); m.Op <= Ne && m.Mask == "" && bitmask[t] && bits&(bits-1) != 0 {
		v.errorf("%s: several bits can only be compared by AnyBit, NoBit or with a mask", m.Field)
	}
	if m.Field == FibSaddrIIF && m.Value.Uint() != 0 {
		v.errorf("%s: can only be compared with 0", m.Field)
	}
	if m.Op == Eq && m.Mask == "" && len(m.Value) == 1 {
		switch m.Field {
		case L4Proto:
			k.l4, k.isL4 = m.Value.Uint(), true
		case NFProto:
			k.nf = m.Value.Uint()
		}
	}
}

// bitmask are the types whose values are sets of named bits.
var bitmask = map[Type]bool{TCPFlag: true, CTStateBits: true, CTStatusBits: true}

// operations are the comparisons that make sense for values of each type.
var operations = map[Type][]Op{
	IPv4Addr: {Eq, Ne, Within, Outside}, EtherAddr: {Eq, Ne}, NFProtoType: {Eq, Ne}, InetProto: {Eq, Ne},
	InetService: {Eq, Ne, Within, Outside}, ICMPTypeType: {Eq, Ne, Within, Outside},
	TCPFlag: {Eq, Ne, AnyBit, NoBit}, IfName: {Eq, Ne}, Mark: {Eq, Ne, AnyBit, NoBit, Within, Outside},
	UID: {Eq, Ne, Within, Outside}, CTStateBits: {Eq, Ne, AnyBit, NoBit}, CTStatusBits: {Eq, Ne, AnyBit, NoBit},
	Index: {Eq, Ne}, FibType: {Eq, Ne},
}

func (v *validator) mask(t Type, m Match) {
	if m.Mask == "" {
		return
	}
	switch {
	case t != IPv4Addr && t != Mark && t != TCPFlag || m.Op != Eq && m.Op != Ne:
		v.errorf("%s cannot be masked here", m.Field)
	case len(m.Mask) != len(m.Value):
		v.errorf("%s: mask of %d bytes", m.Field, len(m.Mask))
	case m.Value.Uint()&^m.Mask.Uint() != 0:
		v.errorf("%s: value %s has bits outside of mask %s", m.Field, format(t, m.Value), format(t, m.Mask))
	case t == TCPFlag && m.Value.Uint() == 0:
		v.errorf("%s: for masked bits that are none there is the operation NoBit", m.Field)
	}
}
