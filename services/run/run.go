// Package run is the frame every service hangs in: flags, logging, signals, exit
// codes, and the configuration file that netcfgd replaces under it.
//
// It knows nothing about any one service and never drops privileges; that is
// privdrop's duty, and it comes first.
package run

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// ErrDisabled says that the configuration does not want this service. It is not a
// failure: the service stops, and gokrazy does not start it again before the next
// boot. A service that a later configuration may want again must wait instead.
var ErrDisabled = errors.New("disabled by configuration")

// gokrazy stops supervising after exit codes 0 and 125, and its own restart button
// sends SIGTERM; so a service that ended with 0 on SIGTERM would be switched off by
// "restart". Everything else is started again after a second.
const (
	exitFailed  = 1
	exitOff     = 125
	exitStopped = 128 + int(syscall.SIGTERM) // what a shell shows for it
)

// grace is how long a service may take to return once it was told to stop.
const grace = 10 * time.Second

// Dirs are the two directories below which services keep their files.
type Dirs struct {
	Run   string // gone after a reboot: configurations, what services tell each other
	State string // kept over reboots: leases, flow records
}

// Flags defines the flags -run and -state, which all services share, and returns
// where their values will be once flags has been parsed.
func Flags(flags *flag.FlagSet) *Dirs {
	d := new(Dirs)
	flags.StringVar(&d.Run, "run", "/run/bulkhead", "`directory` of what services tell each other")
	flags.StringVar(&d.State, "state", "/perm/bulkhead", "`directory` of what survives a reboot")
	return d
}

// RunDir returns the run directory of a service.
func (d Dirs) RunDir(service string) string { return filepath.Join(d.Run, service) }

// StateDir returns the state directory of a service.
func (d Dirs) StateDir(service string) string { return filepath.Join(d.State, service) }

// Config returns the path of a service's configuration, for [WatchConfig].
func (d Dirs) Config(service string) string {
	return filepath.Join(d.Run, service, "config.json")
}

// Main runs a service and exits the process. The context ends with SIGTERM or an
// interrupt; f should return within seconds of that. A second signal kills.
//
// A service that returns without having been asked to has failed, whether or not
// it has an error to show. The exit code is 143 when stopped, 125 if f's error is
// [ErrDisabled], and 1 otherwise.
func Main(name string, f func(context.Context, *slog.Logger) error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("svc", name)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, func() {
		stop()
		time.Sleep(grace)
		log.Error("did not stop in time", "grace", grace)
		os.Exit(exitFailed)
	})
	os.Exit(exitCode(ctx, log, f(ctx, log)))
}

func exitCode(ctx context.Context, log *slog.Logger, err error) int {
	switch {
	case errors.Is(err, ErrDisabled):
		log.Info("not needed")
		return exitOff
	case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
		return exitStopped
	case err == nil:
		log.Error("returned without being told to stop")
		return exitFailed
	default:
		log.Error("failed", "err", err)
		return exitFailed
	}
}
