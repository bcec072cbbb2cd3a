// Command netcfgd owns the network state of the box: links, addresses, routes,
// settings and the packet filter. It is the only program that changes them, and
// hands each service its configuration.
//
// It runs as root, with those of root's capabilities only that this takes.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"bulkhead/netcfg/reconcile"
	"bulkhead/services/run"
)

func main() {
	var p reconcile.Paths
	dirs := run.Flags(flag.CommandLine)
	flag.StringVar(&p.Provided, "provided", "", "JSON `file` of VLANs that come as links of their own")
	flag.BoolVar(&p.Setup, "setup", false, "while there never was a configuration, let the owner in at the first port with a cable")
	flag.Parse()
	p.Run, p.State = dirs.Run, dirs.State
	if err := limit(); err != nil {
		// More rights than needed are no reason to leave the network alone.
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Warn("keep all of root's rights", "err", err)
	}
	run.Main("netcfgd", func(ctx context.Context, log *slog.Logger) error {
		return reconcile.Serve(ctx, log, p)
	})
}
