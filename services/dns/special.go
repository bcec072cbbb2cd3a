package dns

import (
	"fmt"
	"net/netip"
)

// emptyDomains are answered here with nothing in them, so that questions which can
// have no answer outside do not tell the outside what goes on inside: RFC 6303
// section 4, RFC 6761, RFC 6762, RFC 7686, RFC 7793, RFC 8375, and ICANN's internal.
// The 16 domains of 172.16.0.0/12 and 64 of 100.64.0.0/10 are added by code.
var emptyDomains = []string{
	"home.arpa", "invalid", "onion", "test", "local", "internal",

	"0.in-addr.arpa", "10.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa",
	"168.192.in-addr.arpa", "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa",
	"113.0.203.in-addr.arpa", "255.255.255.255.in-addr.arpa",

	"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
	"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
	"c.f.ip6.arpa", "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa",
	"a.e.f.ip6.arpa", "b.e.f.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa",
}

// addEmptyDomains makes the special domains local. A local domain or subnet below
// one of them gets an apex of its own, and the closest one counts.
func (t *table) addEmptyDomains() {
	add := func(s string) {
		name := wireName(s)
		t.addApex(name, name, emptyTTL)
	}
	for _, d := range emptyDomains {
		add(d)
	}
	for i := range 16 {
		add(fmt.Sprintf("%d.172.in-addr.arpa", 16+i))
	}
	for i := range 64 {
		add(fmt.Sprintf("%d.100.in-addr.arpa", 64+i))
	}
	// Validators need the proof that home.arpa is unsigned, which its parent has.
	t.apexes[string(wireName("home.arpa"))].dsAbove = true

	// RFC 6761 section 6.3: localhost has the loopback addresses everywhere.
	localhost := wireName("localhost")
	add("localhost")
	r := t.records[string(localhost)]
	r.v4, r.v6 = netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	t.addPTR(r.v4, localhost, r.expires)
}
