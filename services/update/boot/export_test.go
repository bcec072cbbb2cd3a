//go:build linux

package boot

import (
	"context"
	"log/slog"
)

// RunGuard runs Guard with other surroundings.
func RunGuard(ctx context.Context, log *slog.Logger, read func() (own, other State, err error), reboot func(context.Context, *slog.Logger) error) {
	(&guard{read, reboot}).run(ctx, log)
}

// States is what Guard reads.
func (e *ESP) States(slot Slot) (own, other State, err error) { return e.states(slot) }
