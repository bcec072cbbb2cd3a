// Command pushd takes the history of the configuration to a git repository elsewhere,
// over SSH, after each change that was confirmed.
//
// It runs as user 7107 without any capability; the ruleset lets it send to the one
// host that the configuration names and to nobody else.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/privdrop"
	"bulkhead/services/push"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Pushd
	if _, err := privdrop.Dir(dirs.Run, me.Name, me.ID, me.ID); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return push.Serve(ctx, log, *dirs)
	})
}
