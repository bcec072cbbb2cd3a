package console

import (
	"context"
	"log/slog"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	update "bulkhead/services/update/api"
)

// What the tests, which stand outside, need of what is inside.
type (
	Service  = service
	Size     = size
	Terminal = terminal
	World    = world
)

var (
	Draw      = draw
	Terminals = terminals
	Printable = printable
)

func NewSize(cols, rows int) Size { return size{cols, rows} }

// Answers is what the daemons answered: a value, an error, or not asked yet.
type Answers struct {
	Version     string
	Status      *api.Status
	StatusErr   error
	Zones       []api.Zone
	ZonesErr    error
	Systems     *update.Status
	SystemsErr  error
	Claim       *access.State
	ClaimErr    error
	Services    []Service
	ServicesErr error
}

func (a Answers) World() *World {
	w := &world{version: a.Version}
	w.status = said[*api.Status]{a.Status, a.StatusErr, a.Status != nil || a.StatusErr != nil}
	w.zones = said[[]api.Zone]{a.Zones, a.ZonesErr, a.Zones != nil || a.ZonesErr != nil}
	w.services = said[[]service]{a.Services, a.ServicesErr, a.Services != nil || a.ServicesErr != nil}
	if a.Systems != nil || a.SystemsErr != nil {
		w.systems = said[update.Status]{err: a.SystemsErr, asked: true}
	}
	if a.Systems != nil {
		w.systems.value = *a.Systems
	}
	if a.Claim != nil || a.ClaimErr != nil {
		w.claim = said[access.State]{err: a.ClaimErr, asked: true}
	}
	if a.Claim != nil {
		w.claim.value = *a.Claim
	}
	return w
}

// Model is a session without a terminal.
type Model struct{ m model }

// Type presses keys and returns the titles of the tasks that were ordered.
func (m *Model) Type(keys string, w *World, now time.Time) (ordered []string) {
	for i := range len(keys) {
		if do, _ := m.m.key(keys[i], w, now); do != nil {
			ordered = append(ordered, do.title)
		}
	}
	return ordered
}

func (m *Model) View(w *World, s Size) []string { return m.m.view(w, s) }
func (m *Model) Done(words ...string)           { m.m.done(report{words: words}) }

// DoneKeep is Done of something that is kept only if the word for it is given.
func (m *Model) DoneKeep(words ...string) {
	m.m.done(report{words, keepTask("token", api.Window(2*time.Minute))})
}

// DoneLockout is Done of an undo that is refused as it locks out.
func (m *Model) DoneLockout(words ...string) { m.m.done(report{words, &insistTask}) }

func (m *Model) Wait(now time.Time) time.Time { return m.m.wait(now) }
func (m *Model) Home() bool                   { return m.m.page == home }

// Serve runs a console on terminals that open opens.
func Serve(ctx context.Context, log *slog.Logger, n network, u updates, w web, s supervisor, names []string, open func(string) (Terminal, error)) error {
	c := &console{log: log, daemons: daemons{n, u, w, s}, board: newBoard("1"), open: open}
	return c.serve(ctx, names)
}
