// Command consoled shows the box on its screen and its serial line, with a menu for
// when nothing else works.
// It runs as root, since it reaches sockets that only root may, but without a single
// one of root's capabilities.
package main

import (
	"context"
	"flag"
	"log/slog"
	_ "time/tzdata" // the box has no time zone database

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/console"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	root := flag.String("root", "/", "`directory` below which /dev, /proc, /sys, /etc and gokrazy's socket are")
	flag.Parse()
	// webuid's socket is in webuid's directory.
	limited := privdrop.Limit([]int{svcconf.Webuid.ID})
	run.Main("consoled", func(ctx context.Context, log *slog.Logger) error {
		if limited != nil {
			return limited
		}
		return console.Run(ctx, log, *root, dirs.Run)
	})
}
