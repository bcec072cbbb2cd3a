// Command webuid is the way in: it serves the management API and pages over HTTPS on
// the box's addresses in the admin zones, and passes on to netcfgd and updated what
// those ask who have a token.
//
// It runs as a user of its own and may bind ports 80 and 443; it can change neither
// links nor the firewall, and the ruleset lets it send nothing but replies.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"log/slog"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
	"bulkhead/webui"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Webuid
	_, err1 := privdrop.Dir(dirs.Run, me.Name, me.ID, me.ID)
	_, err2 := privdrop.Dir(dirs.State, me.Name, me.ID, me.ID)
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID, unix.CAP_NET_BIND_SERVICE); err != nil {
		log.Fatal(err) // never serve as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return webui.Serve(ctx, log, webui.NewOptions(*dirs))
	})
}
