package dhcp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/lease"
)

// adopt takes over leases that another box gave, so that their clients keep their
// addresses on this one. Where this one knows better, it does.
func (s *Server) adopt(in svcconf.RestoredLeases) error {
	now := time.Now()
	all := make([]lease.Lease, 0, len(in.Leases))
	for _, l := range in.Leases {
		a, err := adoptable(l)
		if err != nil {
			return err // all or nothing: this is not what netcfgd writes
		}
		all = append(all, a.Rebase(now))
	}
	s.mu.Lock()
	taken := s.core.adopt(now, all)
	s.adopted = true
	s.mu.Unlock()
	s.log.Info("leases of another box restored", "leases", len(all), "taken", taken)
	s.wakeUp()
	return nil
}

// adoptable is the inverse of [boundLease.public].
func adoptable(l svcconf.Lease) (lease.Lease, error) {
	id, err := hex.DecodeString(l.ClientID)
	switch {
	case !l.Address.Is4():
		return lease.Lease{}, fmt.Errorf("%s is no IPv4 address", l.Address)
	case err != nil || len(id) > 255 || len(l.Hostname) > 255:
		return lease.Lease{}, fmt.Errorf("lease of %s: its client makes no sense", l.Address)
	case l.Granted.IsZero() || !l.Expires.After(l.Granted):
		return lease.Lease{}, fmt.Errorf("lease of %s: its times make no sense", l.Address)
	}
	return lease.Lease{
		Addr: l.Address, State: lease.Bound, Client: lease.Client{MAC: l.MAC, ID: string(id)}, Hostname: l.Hostname,
		Granted: l.Granted, Until: l.Expires.Add(time.Second), // the part that was cut off
	}, nil
}

// adopt enters leases that are in force and that nothing is known against, and returns
// how many. Those of zones that are not there yet wait for them.
func (c *core) adopt(now time.Time, all []lease.Lease) int {
	known := make(map[netip.Addr]lease.Lease)
	for _, l := range c.leases() {
		known[l.Addr] = l
	}
	all = slices.DeleteFunc(all, func(l lease.Lease) bool {
		k, ok := known[l.Addr]
		// What became free here before the other box gave it is older news.
		return !l.Until.After(now) || ok && !(k.State == lease.Free && k.Until.Before(l.Granted))
	})
	orphans := c.orphans
	c.restore(now, slices.Clone(all))
	c.orphans = append(orphans, c.orphans...)
	for _, l := range all {
		c.past.Replay(l)
	}
	c.nameZones()
	return len(all)
}

// adoptedAre says whether the leases of another box are on the disk.
func (s *Server) adoptedAre(saved bool) {
	if !saved {
		s.mu.Lock()
		s.adopted = true // with the next attempt
		s.mu.Unlock()
		return
	}
	if err := os.Remove(filepath.Join(s.runDir, svcconf.RestoredFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("leases of another box are restored, and again at the next start", "err", err)
	}
	s.changed()
}
