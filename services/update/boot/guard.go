//go:build linux

package boot

import (
	"context"
	"log/slog"
	"time"

	"bulkhead/services/update/disk"
	"bulkhead/services/update/reboot"
)

// trialTime is how long a slot may run on trial, by the monotonic clock. updated's
// health gate decides earlier; this is for the case that updated does not run.
const trialTime = 5 * time.Minute

// look is how often Guard looks whether the slot was blessed meanwhile.
const look = 10 * time.Second

// Guard reboots the machine if it runs a slot on trial that is not blessed within 5
// minutes, so that an image whose updated is broken cannot stay. It returns when the
// slot is good, when ctx ends, and when rebooting would lead nowhere: there is no other
// good slot, or the boot partition cannot be read at all. It runs in init.
func Guard(ctx context.Context, log *slog.Logger) {
	g := guard{
		read: func() (own, other State, err error) {
			d, err := disk.Running()
			if err != nil {
				return 0, 0, err
			}
			err = With(d.Partition(disk.ESP), func(e *ESP) error {
				own, other, err = e.states(SlotOf(d))
				return err
			})
			return own, other, err
		},
		reboot: reboot.Now,
	}
	g.run(ctx, log)
}

// states returns the state of the slot that runs, which it marks as tried if the
// firmware could not, and of the other one.
func (e *ESP) states(slot Slot) (own, other State, err error) {
	st, err := e.Status(slot)
	if err == nil && st.State == Armed {
		st.State, err = Tried, e.MarkTried(slot)
	}
	if err != nil {
		return 0, 0, err
	}
	o, err := e.Status(slot.Other())
	if err != nil {
		o.State = Disabled // nothing that one could go back to
	}
	return st.State, o.State, nil
}

// guard is Guard with its surroundings.
type guard struct {
	read   func() (own, other State, err error)
	reboot func(context.Context, *slog.Logger) error
}

func (g *guard) run(ctx context.Context, log *slog.Logger) {
	over := time.NewTimer(trialTime)
	defer over.Stop()
	again := time.NewTicker(look)
	defer again.Stop()
	ended := false
	var last error
	for said := false; ; {
		own, other, err := g.read()
		switch {
		case err != nil:
			if last == nil {
				log.Warn("cannot tell whether this system is on trial", "err", err)
			}
			last = err
			if ended {
				log.Error("gave up to learn whether this system is on trial", "err", err)
				return
			}
		case own == Good:
			if said {
				log.Info("the system is no longer on trial")
			}
			return
		case other != Good:
			log.Warn("this system is on trial, and there is no other to go back to")
			return
		case ended:
			log.Error("the system on trial was not blessed: back to the other one", "after", trialTime)
			if err := g.reboot(ctx, log); err != nil {
				log.Error("reboot", "err", err)
			}
			return
		case !said:
			said, last = true, nil
			log.Info("the system is on trial", "for", trialTime)
		}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			ended = true
		case <-again.C:
		}
	}
}
