//go:build linux

// Package update replaces the box's system, kernel and root, by one that is signed by a
// trusted key: in the slot that does not run, tried once, and kept only if it proves as
// good as the one before. Whatever goes wrong, the old one is there. README.md beside
// this file has the picture.
//
// It never touches the slot that runs, nor anything on /perm but its own directory.
package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
	"bulkhead/services/sock"
	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/gate"
	"bulkhead/services/update/manifest"
	"bulkhead/services/update/perm"
	"bulkhead/services/update/reboot"
)

// infoPath is where the running image says what it is.
const infoPath = "/etc/bulkhead/" + manifest.InfoFile

// machine is the box under the updater.
type machine struct {
	slot   boot.Slot // that runs
	esp    string    // device nodes
	roots  map[boot.Slot]string
	info   manifest.Info
	arch   string
	kernel string    // version
	bootID string    // changes with each boot
	disk   disk.GUID // of the boot partition, by which a kernel finds its root

	reboot func(context.Context, *slog.Logger) error
	off    func(context.Context, *slog.Logger) error
	init   string       // socket of gokrazy's
	reset  func() error // makes the next start begin with an empty /perm
}

// looker is how the updater sees the rest of the box.
type looker interface {
	Before(context.Context) gate.Before
	Look(context.Context) gate.Look
	Lookup(ctx context.Context, zone, name, kind string) (*api.Lookup, error)
	Address(ctx context.Context, name string) (netip.Addr, error)
}

// updater is the service.
type updater struct {
	log   *slog.Logger
	box   machine
	look  looker
	dirs  run.Dirs
	store *store
	guard auth.Guard // nil: nobody but root

	trialTime time.Duration
	lookAgain time.Duration
	parting   time.Duration // from the answer that announces a restart to the restart
	leave     chan leave    // has how the machine is to go down, once it is

	mu       sync.Mutex
	staging  *staging // nil: none
	trial    bool     // the running slot is not blessed
	waiting  []string // for what the trial waits
	password passwordGate

	checking  sync.Mutex
	checked   []api.Check
	checkedAt time.Time
}

// Serve runs the update service until ctx ends. trial is [TrialTime] but in tests. On a machine that was not started from
// a disk of ours there is nothing to do: the error is [run.ErrDisabled].
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs, trial time.Duration) error {
	box, err := thisMachine()
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("this system cannot be updated", "err", err)
		return run.ErrDisabled
	}
	if err != nil {
		return err
	}
	u := newUpdater(log, box, gate.NewAsker(dirs), dirs)
	u.guard = auth.NewClient(filepath.Join(dirs.Run, auth.SocketFile))
	u.trialTime = trial
	return u.serve(ctx)
}

// serve answers at the socket, and holds the trial if there is one.
func (u *updater) serve(ctx context.Context) error {
	rest, err := u.settle()
	if err != nil {
		return err
	}
	l, err := sock.Listen(filepath.Join(u.dirs.Run, api.SocketFile), svcconf.Webuid.ID, svcconf.Webuid.ID)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: u.handler(), ConnContext: sock.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(u.log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { server.Close() })
	g.Go(func() error { return server.Serve(l) })
	g.Go(func() error { return u.run(ctx, rest) })
	g.Go(func() error { return metrics.Serve(ctx, u.log, u.dirs.Run, svcconf.Updated.Name, u.metrics) })
	if err := g.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return context.Cause(ctx)
}

// thisMachine describes the machine that we run on.
func thisMachine() (machine, error) {
	d, err := disk.Running()
	if err != nil {
		return machine{}, err
	}
	box := machine{
		slot: boot.SlotOf(d), esp: d.Partition(disk.ESP),
		roots:  map[boot.Slot]string{boot.A: d.Partition(disk.RootA), boot.B: d.Partition(disk.RootB)},
		reboot: reboot.Now, off: reboot.Off, init: reboot.InitSocket, reset: perm.Reset,
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return machine{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	box.kernel = unix.ByteSliceToString(uts.Release[:])
	box.arch = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[unix.ByteSliceToString(uts.Machine[:])]
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return machine{}, err
	}
	box.bootID = strings.TrimSpace(string(id))
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return machine{}, err
	}
	if box.disk, _, err = disk.ParseRoot(string(cmdline)); err != nil {
		return machine{}, err
	}
	// An image that gok made has none: then the loader entry has to do.
	if data, err := os.ReadFile(infoPath); err == nil {
		if box.info, err = manifest.ParseInfo(data); err != nil {
			return machine{}, err
		}
	}
	return box, nil
}

func newUpdater(log *slog.Logger, box machine, look looker, dirs run.Dirs) *updater {
	store := openStore(dirs.StateDir(svcconf.Updated.Name))
	if store.broken != nil {
		log.Error("updates are refused", "err", store.broken)
	}
	return &updater{log: log, box: box, look: look, dirs: dirs, store: store, trialTime: TrialTime, lookAgain: lookAgain, parting: time.Second, leave: make(chan leave, 1)}
}

// esp opens the boot partition for as long as f runs.
func (u *updater) esp(f func(*boot.ESP) error) error { return boot.With(u.box.esp, f) }

// other is the slot that does not run.
func (u *updater) other() boot.Slot { return u.box.slot.Other() }

// run does the rest of the last update, and restarts the machine when that was asked for.
func (u *updater) run(ctx context.Context, rest func(context.Context) error) error {
	if err := rest(ctx); err != nil {
		return err
	}
	var l leave
	select {
	case <-ctx.Done():
		return ctx.Err()
	case l = <-u.leave:
	}
	select { // the answer to who asked goes first
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(u.parting):
	}
	u.log.Info(l.what + " the machine")
	if err := l.do(ctx, u.log); err != nil {
		return fmt.Errorf("%s the machine: %w", l.what, err)
	}
	<-ctx.Done() // init stops us
	return ctx.Err()
}

// leave is a way for the machine to go down.
type leave struct {
	what string
	do   func(context.Context, *slog.Logger) error
}

// restartSoon has the machine restart once what is being answered is answered.
func (u *updater) restartSoon() { u.leaveSoon(leave{"restart", u.box.reboot}) }

func (u *updater) leaveSoon(l leave) {
	select {
	case u.leave <- l:
	default: // it will already
	}
}

// leaveWhole has the machine go down, unless that would undo or break an update.
func (u *updater) leaveWhole(l leave) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.trial:
		return refuse(http.StatusConflict, "version %s is on trial here, and would be undone: wait until it is kept", u.box.info.Version)
	case u.staging != nil && u.staging.busy:
		return refuse(http.StatusConflict, "an update to %s by %s is under way: wait until it is done", u.staging.manifest.Version, orSomebody(u.staging.author))
	}
	u.leaveSoon(l)
	return nil
}
