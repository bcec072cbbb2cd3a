package api

import (
	"context"
	"net/http"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/auth/access"
)

// Limits on a backup, in bytes: on the archive that package backup makes, and on the
// request that restores it, in base64.
const (
	maxArchive = 16 << 20
	maxRestore = maxArchive/3*4 + 1<<16
)

// restoreTime is how long a request may take to arrive that restores a backup.
const restoreTime = 5 * time.Minute

// Keeper gives away what makes a box the one that it is, and takes it over from another.
// Its errors wrap [ErrNothing] if there is nothing to back up, and [ErrSecret] for keys
// that nothing can be encrypted to, and for a backup that cannot be taken over.
type Keeper interface {
	Ports(context.Context) ([]Port, error)
	Backup(context.Context, NewBackup) (*Backup, error)
	Restore(context.Context, Restore) (*Restored, error)
}

// Port is a network port of the box.
type Port struct {
	Name    string    `json:"name"` // in the kernel, which may give it another one at the next start
	MAC     model.MAC `json:"mac"`
	Driver  string    `json:"driver,omitempty"`
	Carrier bool      `json:"carrier,omitempty"`
	Speed   int       `json:"speed,omitempty"`  // Mbit/s; 0: there is no cable, or the driver does not say
	Use     string    `json:"use,omitempty"`    // name that the configuration in force gives it
	Uplink  bool      `json:"uplink,omitempty"` // the internet is behind it, by that configuration
}

// NewBackup asks for a backup.
type NewBackup struct {
	// Recipients are public keys that can read this backup, besides those that can read
	// the secrets.
	Recipients []string `json:"recipients,omitempty"`
	Author     string   `json:"author,omitempty"`
}

// Backup is a box in a file.
type Backup struct {
	Box     string    `json:"box"` // name of the box
	Time    time.Time `json:"time"`
	Data    []byte    `json:"data"`              // an archive of package backup, encrypted with age
	To      []string  `json:"to"`                // whose keys open it
	LeftOut []string  `json:"leftOut,omitempty"` // what there was no room for, in words
}

// Restore is what a box is to take over from a backup, before its configuration is tried
// as a [Change] that restores it. None of it touches what is in force.
type Restore struct {
	Data    []byte `json:"data"`              // an archive of package backup, in the clear; the configuration in it is not looked at
	Replace bool   `json:"replace,omitempty"` // secrets that have other values are to get those of the backup
	Author  string `json:"author,omitempty"`
	// Origin is not for clients of the HTTPS API: they are where they are.
	Origin Origin `json:"origin,omitzero"`
}

// Restored is what was taken over.
type Restored struct {
	Secrets  []string `json:"secrets,omitempty"` // that are new, or have another value
	Devices  int      `json:"devices,omitempty"` // addresses given to devices
	Leases   int      `json:"leases,omitempty"`
	Isolated int      `json:"isolated,omitempty"` // machines that are kept from everybody here, too
	Changes  int      `json:"changes,omitempty"`  // of the history, once the configuration is confirmed
	Notes    []string `json:"notes,omitempty"`    // what was not taken over, and why
}

// Who can have a backup made for a key of their own can read the secrets.
func handleKeeper(mux router, k Keeper) {
	mux.handle("GET /v1/ports", access.Read, get(k.Ports))
	mux.handle("POST /v1/backup", access.Admin, post(k.Backup))
	mux.handle("POST /v1/restore", access.Admin, slowly(postUpTo(maxRestore, k.Restore)))
}

// slowly gives a request the time that a large one takes over a slow line.
func slowly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		now := time.Now()
		_ = c.SetReadDeadline(now.Add(restoreTime)) // there are others without them, only sooner
		_ = c.SetWriteDeadline(now.Add(2 * restoreTime))
		h.ServeHTTP(w, r)
	})
}

// Ports implements [Keeper].
func (c *Client) Ports(ctx context.Context) ([]Port, error) {
	return call[[]Port](ctx, c, "GET", "/v1/ports", nil)
}

// Backup implements [Keeper].
func (c *Client) Backup(ctx context.Context, in NewBackup) (*Backup, error) {
	return call[*Backup](ctx, c, "POST", "/v1/backup", in)
}

// Restore implements [Keeper].
func (c *Client) Restore(ctx context.Context, in Restore) (*Restored, error) {
	return call[*Restored](ctx, c, "POST", "/v1/restore", in)
}
