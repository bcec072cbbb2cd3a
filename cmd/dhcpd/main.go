// Command dhcpd is the DHCPv4 server of all zones. It gives out addresses on the
// links that its configuration names and keeps the leases on disk.
//
// It runs as a user of its own, may bind port 67 and send raw packets, and can
// change neither links nor the firewall.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me, reader := svcconf.Dhcpd, svcconf.Dnsd // dnsd reads the leases
	runDir, err1 := privdrop.Dir(dirs.Run, me.Name, me.ID, reader.ID)
	stateDir, err2 := privdrop.Dir(dirs.State, me.Name, me.ID, me.ID)
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE); err != nil {
		log.Fatal(err) // never serve as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return dhcp.Serve(ctx, log, runDir, stateDir)
	})
}
