// Command updated replaces the box's system: it takes signed images, has the boot loader
// try them once, and keeps those that prove as good as the system before.
//
// It runs as root, to whom the disk belongs, with those of root's capabilities only that
// this takes.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/services/privdrop"
	"bulkhead/services/run"
	"bulkhead/services/update"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	trial := flag.Duration("trial", update.TrialTime, "`time` that an update has to prove itself")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("svc", "updated")
	if err := update.MountPerm(context.Background(), log); err != nil {
		log.Error("without /perm nothing is remembered", "err", err)
	}
	// Restarting; the sockets of services, which are theirs; giving webuid's group the
	// own one. No mounting: the boot partition is written past the file system.
	limited := privdrop.Limit(nil, unix.CAP_SYS_BOOT, unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN)
	run.Main("updated", func(ctx context.Context, log *slog.Logger) error {
		if limited != nil {
			log.Warn("keep all of root's rights", "err", limited)
		}
		return update.Serve(ctx, log, *dirs, *trial)
	})
}
