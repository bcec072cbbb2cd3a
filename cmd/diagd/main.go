// Command diagd finds out whether hosts answer, over which hops they are reached, and what
// is on a zone's link.
//
// It runs as user 7110 with CAP_NET_RAW, which packet sockets take. Of what it sends as IP the
// ruleset lets ICMP echo requests pass and nothing else; a packet socket could send past it,
// as those of dhcpd and wand could, which no code here does. Only root may ask it: updated
// does, for people whom authd knows.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/diag"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Diagd
	if _, err := privdrop.Dir(dirs.Run, me.Name, me.ID, me.ID); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID, unix.CAP_NET_RAW); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return diag.Serve(ctx, log, *dirs)
	})
}
