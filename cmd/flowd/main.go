// Command flowd records who spoke with whom, what was refused, and which devices there
// are, and answers questions about it.
//
// It runs as user 7105 with CAP_NET_ADMIN, which the kernel asks for who wants to hear of
// connections; it changes nothing, and the ruleset lets it send nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Flowd
	_, err1 := privdrop.Dir(dirs.Run, me.Name, me.ID, svcconf.Webuid.ID)        // who asks it
	_, err2 := privdrop.Dir(dirs.Run, svcconf.NamesDir, me.ID, svcconf.Dnsd.ID) // who tells it names
	_, err3 := privdrop.Dir(dirs.Run, svcconf.FeedDir, me.ID, svcconf.Exportd.ID)
	_, err4 := privdrop.Dir(dirs.State, me.Name, me.ID, me.ID)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID, unix.CAP_NET_ADMIN); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return flow.Serve(ctx, log, *dirs)
	})
}
