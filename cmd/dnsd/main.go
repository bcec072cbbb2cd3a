// Command dnsd answers the DNS questions of each zone's clients: local names itself,
// all others out of its cache or from the configured resolvers.
//
// It runs as user dnsd and may bind port 53; it can touch neither links nor the
// firewall.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dns"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	// Binding sockets to links takes no capability since Linux 5.7.
	if err := privdrop.Exec(svcconf.Dnsd.ID, unix.CAP_NET_BIND_SERVICE); err != nil {
		slog.Error("cannot give up root", "err", err)
		os.Exit(1)
	}
	run.Main(svcconf.Dnsd.Name, func(ctx context.Context, log *slog.Logger) error {
		return dns.Serve(ctx, log, *dirs)
	})
}
