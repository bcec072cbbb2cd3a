package console

import (
	"context"
	"encoding/json"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/webui/access"
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
	Undo(context.Context, api.Undo) (*api.Plan, error)
}

// updates is what the console needs of updated.
type updates interface {
	Slots(context.Context) (slots, error)
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

// slots is what updated says about the two roots.
type slots struct {
	Slot    string          `json:"slot"` // of the running system: a or b
	Version string          `json:"version"`
	Trial   bool            `json:"trial"` // running on trial
	Other   *slot           `json:"other"`
	Staging json.RawMessage `json:"staging"` // there: an update is being received
	Last    *outcome        `json:"last"`
}

// slot is a root that is not running.
type slot struct {
	Version string `json:"version"`
	State   string `json:"state"`
}

// outcome is how the last update went.
type outcome struct {
	Outcome string    `json:"outcome"`
	Why     string    `json:"why"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
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
	slots    said[slots]
	claim    said[access.State]
	services said[[]service]
}
