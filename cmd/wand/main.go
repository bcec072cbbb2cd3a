// Command wand is the uplink daemon: it gets the box an address from the provider,
// or takes the configured one, and writes what it got to <run>/wand/uplink.json.
// netcfgd gives the address to the interface.
//
// It runs as user 7101 and may use raw sockets and ports below 1024; it cannot
// change the network's configuration.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
	"bulkhead/services/wan"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	user := svcconf.Wand
	for _, base := range []string{dirs.Run, dirs.State} {
		if _, err := privdrop.Dir(base, user.Name, user.ID, user.ID); err != nil {
			log.Fatal(err)
		}
	}
	if err := privdrop.Exec(user.ID, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(user.Name, func(ctx context.Context, log *slog.Logger) error {
		return wan.Serve(ctx, log, *dirs)
	})
}
