// Package bench measures what Bulkhead costs: how long a large configuration takes,
// what a packet pays for rules, how fast connections pass, and how much memory the
// daemons hold. It compares with a bare kernel and with a ruleset written by hand, in
// the same run and the same namespaces, and judges nothing but the targets that
// were set.
package bench

import (
	"fmt"
	"strings"
)

// zones and devices of the large configuration.
const (
	zones   = 10
	devices = 200
)

// The measured connection: from the first device to the second one, which live in
// different zones and which rule 0 speaks of.
const (
	measuredUDP = 7000
	measuredTCP = 9000
)

// Config returns a configuration file with 200 devices and a number of rules between
// them, half of them between the two zones whose packets are measured.
func Config(rules int) []byte {
	var b strings.Builder
	b.WriteString("ports:\n")
	for z := range zones {
		fmt.Fprintf(&b, "  %s: {mac: \"%s\"}\n", link(z), portMAC(z))
	}
	b.WriteString("zones:\n")
	for z := range zones {
		fmt.Fprintf(&b, "  zone-%d: {port: %s, subnet: 10.0.%d.0/24, admin: %v}\n", z, link(z), z, z == zones-1)
	}
	b.WriteString("devices:\n")
	for d := range devices {
		fmt.Fprintf(&b, "  %s: {zone: zone-%d, mac: \"%s\", address: %s, owner: bench, purpose: bench}\n",
			device(d), d%zones, deviceMAC(d), address(d))
	}
	b.WriteString("allow:\n")
	fmt.Fprintf(&b, "  - {name: measured, from: %s, to: %s, protocols: [udp/%d, tcp/%d], why: is measured}\n",
		device(0), device(1), measuredUDP, measuredTCP)
	for r := 1; r < rules; r++ {
		n := r / 2
		from, to := n%20*zones, n/20%20*zones+1 // of zones 0 and 1
		if r%2 == 1 {
			from, to = n%devices, (n+1+n/devices)%devices
			if from%zones == to%zones {
				to = (to + 1) % devices
			}
		}
		fmt.Fprintf(&b, "  - {name: rule-%d, from: %s, to: %s, protocols: tcp/%d, why: number %d of many}\n",
			r, device(from), device(to), 10000+n, r)
	}
	b.WriteString("tests:\n")
	fmt.Fprintf(&b, "  - {from: %s, to: %s, protocols: udp/%d, expect: allow}\n", device(0), device(1), measuredUDP)
	b.WriteString("  - {from: zone-2, to: zone-3, protocols: tcp/22, expect: deny}\n")
	return []byte(b.String())
}

func link(z int) string      { return fmt.Sprintf("lan%d", z) }
func portMAC(z int) string   { return fmt.Sprintf("52:54:00:be:00:%02x", z) }
func device(d int) string    { return fmt.Sprintf("device-%d", d) }
func deviceMAC(d int) string { return fmt.Sprintf("52:54:00:bd:00:%02x", d) }
func address(d int) string   { return fmt.Sprintf("10.0.%d.%d", d%zones, 10+d/zones) }
