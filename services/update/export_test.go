//go:build linux

package update

import (
	"context"
	"log/slog"
	"time"

	auth "bulkhead/services/auth/api"
	"bulkhead/services/run"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/manifest"
)

// Machine is what a test has for a box.
type Machine struct {
	Slot   boot.Slot
	ESP    string
	Roots  map[boot.Slot]string
	Info   manifest.Info
	BootID string
	Disk   disk.GUID
	Reboot func()
	Off    func()
	Reset  func() error
	Init   string // socket
}

// Updater is the service on a [Machine].
type Updater struct{ u *updater }

// New returns the service on a machine.
func New(log *slog.Logger, m Machine, look looker, dirs run.Dirs) Updater {
	u := newUpdater(log, machine{
		slot: m.Slot, esp: m.ESP, roots: m.Roots, info: m.Info, arch: "amd64", kernel: "6.12.1", bootID: m.BootID, disk: m.Disk, reset: m.Reset, init: m.Init,
		reboot: func(context.Context, *slog.Logger) error { m.Reboot(); return nil },
		off:    func(context.Context, *slog.Logger) error { m.Off(); return nil },
	}, look, dirs)
	u.lookAgain, u.parting = 10*time.Millisecond, 10*time.Millisecond
	return Updater{u}
}

// Guard sets who knows who asks.
func (u Updater) Guard(g auth.Guard) { u.u.guard = g }

// Serve serves the API and holds trials.
func (u Updater) Serve(ctx context.Context) error { return u.u.serve(ctx) }

// Run holds trials only.
func (u Updater) Run(ctx context.Context) error {
	rest, err := u.u.settle()
	if err != nil {
		return err
	}
	return u.u.run(ctx, rest)
}

// Judge puts what follows from the slots' states into words.
func Judge(running boot.Slot, bootID string, own, other boot.State, noted bool, slot boot.Slot, armedIn, why string) string {
	var p *pending
	if noted {
		p = &pending{Slot: slot, BootID: armedIn, Why: why}
	}
	v := judge(running, bootID, own, other, p)
	return map[next]string{nothing: "nothing", onTrial: "on trial", goOn: "go on", over: v.outcome + ": " + v.why}[v.next]
}

// DiedSilently is the reason that a system leaves which says none.
const DiedSilently = diedSilently
