// Package wan is the uplink daemon: it learns how the box may reach the internet,
// by DHCP or from the configuration, and tells netcfgd by a file. It never changes
// the kernel's network state itself; it only sends and receives its own packets.
//
// The protocol lives in package dhcp4, which knows neither clocks nor sockets.
// Here are the edges: packet sockets, files, and one loop that joins them. A
// DHCPv6 client will be a second machine fed by the same loop.
package wan
