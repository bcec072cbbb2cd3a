// Command authd decides who may come in. It keeps tokens, users and sessions, and answers
// the other daemons on the box who somebody is.
//
// It runs as user 7109 without any capability; the ruleset lets it send nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"log/slog"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
)

func main() {
	dirs := run.Flags(flag.CommandLine)
	flag.Parse()
	me := svcconf.Authd
	_, err1 := privdrop.Dir(dirs.Run, me.Name, me.ID, svcconf.Webuid.ID) // who asks it
	_, err2 := privdrop.Dir(dirs.State, me.Name, me.ID, me.ID)
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	if err := privdrop.Exec(me.ID); err != nil {
		log.Fatal(err) // never as root
	}
	run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error {
		return auth.Serve(ctx, log, *dirs)
	})
}
