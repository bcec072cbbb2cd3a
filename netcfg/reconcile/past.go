//go:build linux

package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/strictjson"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// LeaseHistory implements [api.Backend].
func (r *Reconciler) LeaseHistory(ctx context.Context, device string) (*svcconf.LeaseHistory, error) {
	mac := model.MAC{} // everybody's
	if device != "" {
		var err error
		if mac, err = r.macOf(device); err != nil {
			return nil, err
		}
	}
	return askHistory(ctx, filepath.Join(r.o.Run, svcconf.Dhcpd.Name, svcconf.HistorySocket), mac)
}

// macOf is that of a device of the configuration in force, or the one that is asked for.
func (r *Reconciler) macOf(device string) (model.MAC, error) {
	if v, err := r.looked(); err == nil { // closed, the box has no devices but MACs
		if d := v.cfg.Device(device); d != nil {
			return d.MAC, nil
		}
	}
	mac, err := model.ParseMAC(device)
	if err != nil || mac.IsZero() {
		return model.MAC{}, api.Unknown(fmt.Errorf("no device is called %q, and it is no MAC", device))
	}
	return mac, nil
}

// Bounds of an answer about the past.
const (
	maxHistory      = 512 * svcconf.MaxPastLeases // bytes
	historyPatience = 5 * time.Second
)

// askHistory asks dhcpd at the socket at path for the past of a client, or of everybody
// for the zero MAC.
func askHistory(ctx context.Context, path string, mac model.MAC) (*svcconf.LeaseHistory, error) {
	ctx, cancel := context.WithTimeout(ctx, historyPatience)
	defer cancel()
	c, err := sock.Dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("the history of leases: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := c.Write(mac[:]); err != nil {
		return nil, fmt.Errorf("the history of leases: %w", err)
	}
	// dhcpd talks to strangers: what it says is taken as strictly as its leases.
	v, err := strictjson.Decode[svcconf.LeaseHistory](io.LimitReader(c, maxHistory))
	if err != nil {
		return nil, fmt.Errorf("the history of leases: %w", cmp.Or(ctx.Err(), err))
	}
	if len(v.Leases) > svcconf.MaxPastLeases {
		return nil, fmt.Errorf("the history of leases: more than %d leases", svcconf.MaxPastLeases)
	}
	if v.Leases == nil {
		v.Leases = []svcconf.PastLease{}
	}
	return &v, nil
}
