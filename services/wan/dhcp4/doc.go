// Package dhcp4 is the DHCPv4 client of RFC 2131 as a pure state machine: what
// happened goes in with the time it happened, what to send and which lease is in
// force comes out. It never opens a socket, reads a clock or touches a file, and
// believes nothing a server says before checking it.
//
// Two decisions differ from what many clients do.
//
// A lease stays in force while it is checked. After a lost link or a restart the
// client asks the server about the address it has (INIT-REBOOT) and, if nobody
// answers, looks for any server, but gives the address up only when it expires,
// when a server refuses it, or when another lease takes its place.
//
// It never sends DHCPRELEASE. A router that is restarted or updated wants its
// address back; one that is unplugged for good lets the lease run out.
package dhcp4
