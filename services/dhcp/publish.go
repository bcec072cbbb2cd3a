package dhcp

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/lease"
)

// Publishing takes one part in publishShare of the time at most, and rests for
// publishRest at least.
const (
	publishRest  = 50 * time.Millisecond
	publishShare = 10
)

// changed asks for the leases to be published, soon.
func (s *Server) changed() {
	select {
	case s.dirty <- struct{}{}:
	default: // asked for already
	}
}

// publish writes leases.json whenever it is asked to, until ctx ends.
func (s *Server) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
		}
		start := time.Now()
		s.publishOnce()
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(publishRest, publishShare*time.Since(start))):
		}
	}
}

func (s *Server) publishOnce() {
	path := filepath.Join(s.runDir, svcconf.LeasesFile)
	if err := writeLeases(path, s.Leases()); err != nil {
		if s.count.PublishErrors.Add(1) == 1 {
			s.log.Error("leases are not published", "err", err)
		}
		return
	}
	s.count.Published.Add(1)
}

// writeLeases replaces the file at path. The directory's set-group-ID bit gives it
// to the group of those who read it.
func writeLeases(path string, leases svcconf.Leases) error {
	data, err := json.Marshal(leases)
	if err != nil {
		return fmt.Errorf("encode leases: %w", err)
	}
	return renameio.WriteFile(path, data, 0o640,
		renameio.WithTempDir(filepath.Dir(path)), renameio.IgnoreUmask())
}

// Leases returns the leases in force, in the order of their addresses.
func (s *Server) Leases() svcconf.Leases { return s.leases(time.Now()) }

func (s *Server) leases(now time.Time) svcconf.Leases {
	s.mu.Lock()
	leases := s.core.published(now)
	s.mu.Unlock()
	slices.SortFunc(leases, func(a, b svcconf.Lease) int { return a.Address.Compare(b.Address) })
	return svcconf.Leases{Leases: leases}
}

// published returns the leases in force as others see them, with times as the clock
// reads now, in whole seconds.
func (c *core) published(now time.Time) []svcconf.Lease {
	list := []svcconf.Lease{}
	for _, z := range c.zones {
		for l := range z.table.All() {
			if l.State != lease.Bound || !l.Until.After(now) {
				continue
			}
			l = l.Wall(now)
			list = append(list, svcconf.Lease{
				Zone:     z.name,
				Address:  l.Addr,
				MAC:      l.Client.MAC,
				ClientID: hex.EncodeToString([]byte(l.Client.ID)),
				Hostname: l.Hostname,
				Device:   z.device[l.Addr],
				Granted:  l.Granted.Truncate(time.Second).UTC(),
				Expires:  l.Until.Truncate(time.Second).UTC(),
			})
		}
	}
	return list
}
