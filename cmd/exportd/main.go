// Command exportd sends flow records and events to collectors, and tells people of
// events.
//
// It runs as user 7108 without any capability; the ruleset lets it send to the hosts and
// ports that the configuration names and to nobody else.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Exportd
	if _, err := privdrop.Dir(dirs.Run, me.Name, me.ID, svcconf.Webuid.ID); err != nil { // webuid has alerts tried out
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return export.Serve(ctx, log, *dirs)
	})
}
