//go:build linux

package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/txn"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/file"
	"bulkhead/services/metrics"
	updates "bulkhead/services/update/api"
)

// Paths are where netcfgd finds and keeps things.
type Paths struct {
	Run      string // directory, gone after a reboot
	State    string // directory, kept over reboots
	Setup    bool   // let the owner in at a port while there never was a configuration
	Provided string // file with a JSON list of [facts.Provided]; "": none
}

// stateRetry is how often a state directory is tried that could not be used.
const stateRetry = 2 * time.Second

// Serve is netcfgd: it owns the network state of the namespace it runs in and
// serves the API until ctx ends. It returns ctx's error then, and leaves everything
// in force.
func Serve(ctx context.Context, log *slog.Logger, p Paths) error {
	private := filepath.Join(p.Run, "netcfgd")
	if err := os.MkdirAll(private, 0o755); err != nil {
		return err
	}
	kernel, err := apply.Open(0, filepath.Join(private, "ruleset.json"))
	if err != nil {
		return fmt.Errorf("open the kernel: %w", err)
	}
	defer kernel.Close()
	kernel.Log = log
	connections, err := apply.OpenConntrack(0)
	if err != nil {
		return fmt.Errorf("open connection tracking: %w", err)
	}
	defer connections.Close()
	counters, err := apply.OpenRulesets(0)
	if err != nil {
		return fmt.Errorf("open the counters: %w", err)
	}
	defer counters.Close()

	o := Options{
		Kernel: kernel, Conntrack: connections, Counters: counters, Run: p.Run, State: p.State, Log: log,
		Setup: p.Setup, Wall: time.Now, Uptime: api.Uptime, WatchFile: file.Watch,
		Updates: updates.NewClient(filepath.Join(p.Run, updates.SocketFile)),
	}
	r, err := o.open(p, private)
	if err != nil {
		// The box is closed before the process gives up and is started again.
		return errors.Join(err, New(o).lockDown())
	}
	listener, err := api.Listen(p.Run)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), r.lockDown())
	}
	server := api.NewServer(r, auth.NewClient(filepath.Join(p.Run, auth.SocketFile)), log)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Run(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, p.Run, "netcfgd", r.metrics) })
	if r.o.Volatile {
		g.Go(func() error { return awaitState(ctx, p.state()) })
	}
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return ctx.Err()
	})
	context.AfterFunc(ctx, func() { server.Close() })
	return g.Wait()
}

// state is where netcfgd keeps its own.
func (p Paths) state() string { return filepath.Join(p.State, "netcfgd") }

// errState ends a process that began without its state directory.
var errState = errors.New("the state directory can be used by now: start again with it")

// awaitState waits until the state directory can be used: its disk may be mounted
// after netcfgd has begun. All that was decided without it is decided anew then, which
// a new process does best.
func awaitState(ctx context.Context, dir string) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stateRetry):
		}
		if _, err := txn.Open(dir); err == nil {
			return errState
		}
	}
}

// open completes the options with what is on disk. A state directory that cannot be
// read is no reason to be gone: the box is closed then, and says why.
func (o Options) open(p Paths, private string) (*Reconciler, error) {
	o.Store, o.NoState = txn.Open(p.state())
	if o.Store == nil {
		o.Volatile = true
		var err error
		if o.Store, err = txn.Open(filepath.Join(private, "state")); err != nil {
			return nil, err
		}
	}
	o.Secrets = secrets.Open(p.State, p.state(), o.Log, o.Wall)
	if p.Provided == "" {
		return New(o), nil
	}
	var err error
	o.Provided, err = readProvided(p.Provided)
	return New(o), err
}

func readProvided(path string) ([]facts.Provided, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []facts.Provided
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
