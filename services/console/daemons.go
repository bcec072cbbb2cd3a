package console

import (
	"context"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	update "bulkhead/services/update/api"
)

// daemons are those that the console asks and orders. Each may be absent or hang.
type daemons struct {
	network    network
	updates    updates
	web        web
	supervisor supervisor
}

// network is what the console needs of netcfgd.
type network interface {
	Status(context.Context) (*api.Status, error)
	Zones(context.Context) ([]api.Zone, error)
	Undo(context.Context, api.Undo) (*api.Trial, error)
	Confirm(context.Context, api.Confirm) (*api.Confirmed, error)
	Cancel(context.Context, api.Cancel) (*api.Outcome, error)
}

// updates is what the console needs of updated.
type updates interface {
	Status(context.Context) (update.Status, error)
	BootOther(context.Context) error
	Reset(context.Context) error
}

// web is what the console needs of webuid.
type web interface {
	Claim(context.Context) (access.State, error)
	NewCode(context.Context) error
}

// supervisor is what the console needs of gokrazy.
type supervisor interface {
	Services(context.Context) ([]service, error)
	Restart(context.Context) error
}

// service is a program that gokrazy supervises.
type service struct {
	Path      string
	Stopped   bool // for good: switched off, or not wanted
	StartTime time.Time
}

// said is what a daemon answered when it was asked last.
type said[T any] struct {
	value T
	err   error // it did not answer, or this
	asked bool  // false: it was not asked yet
}

func (s said[T]) ok() bool { return s.asked && s.err == nil }

// world is all that the console knows. It is a value: nobody changes what a copy
// points to.
type world struct {
	version  string // of the image
	status   said[*api.Status]
	zones    said[[]api.Zone]
	systems  said[update.Status]
	claim    said[access.State]
	services said[[]service]
}
