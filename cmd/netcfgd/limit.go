//go:build linux

package main

import (
	"golang.org/x/sys/unix"

	"bulkhead/services/privdrop"
)

// kept are the capabilities that netcfgd needs of root's.
var kept = []uintptr{
	unix.CAP_NET_ADMIN, // netlink, /proc/sys/net
	// The services' directories belong to the services: netcfgd makes them, gives
	// them away with the group that reads there, and writes and reads in them.
	unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_DAC_OVERRIDE,
}

// limit starts the program afresh without the capabilities that it does not need.
func limit() error { return privdrop.Limit(nil, kept...) }
