package dhcp

import (
	"context"
	"encoding/hex"
	"encoding/json"
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
	// The directory's set-group-ID bit gives the file to the group of its readers.
	leases := s.Leases()
	text := appendLeases(make([]byte, 0, 256*len(leases.Leases)+64), leases)
	err := renameio.WriteFile(path, text, 0o640,
		renameio.WithTempDir(s.runDir), renameio.IgnoreUmask())
	if err != nil {
		if s.count.PublishErrors.Add(1) == 1 {
			s.log.Error("leases are not published", "err", err)
		}
		return
	}
	s.count.Published.Add(1)
}

// Leases returns the leases in force, in the order of their addresses.
func (s *Server) Leases() svcconf.Leases { return s.leases(time.Now()) }

func (s *Server) leases(now time.Time) svcconf.Leases {
	s.mu.Lock()
	bound := s.core.bound(now)
	s.mu.Unlock()
	slices.SortFunc(bound, func(a, b boundLease) int { return a.lease.Addr.Compare(b.lease.Addr) })
	list := make([]svcconf.Lease, len(bound))
	for i, b := range bound {
		list[i] = b.public(now)
	}
	return svcconf.Leases{Leases: list}
}

// boundLease is a lease in force. The zone's name and devices never change, so that
// they can be read while the server goes on.
type boundLease struct {
	zone  *zone
	lease lease.Lease
}

// bound returns the leases in force, in no order.
func (c *core) bound(now time.Time) []boundLease {
	var list []boundLease
	for _, z := range c.zones {
		for l := range z.table.All() {
			if l.State == lease.Bound && l.Until.After(now) {
				list = append(list, boundLease{z, l})
			}
		}
	}
	return list
}

// public returns a lease as others see it, with times as the clock reads now, in
// whole seconds.
func (b boundLease) public(now time.Time) svcconf.Lease {
	l := b.lease.Wall(now)
	return svcconf.Lease{
		Zone:     b.zone.name,
		Address:  l.Addr,
		MAC:      l.Client.MAC,
		ClientID: hex.EncodeToString([]byte(l.Client.ID)),
		Hostname: l.Hostname,
		Device:   b.zone.device[l.Addr],
		Granted:  l.Granted.Truncate(time.Second).UTC(),
		Expires:  l.Until.Truncate(time.Second).UTC(),
	}
}

// appendLeases appends what [json.Marshal] makes of leases, but for a line for each
// of them, several times as fast: under load this is the server's largest single
// piece of work.
func appendLeases(b []byte, leases svcconf.Leases) []byte {
	b = append(b, `{"leases":[`...)
	for i := range leases.Leases {
		l := &leases.Leases[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(b, "\n{"...), `"zone":`, l.Zone)
		b = l.Address.AppendTo(append(b, `,"address":"`...))
		b = append(b, `","mac":"`...)
		for j, v := range l.MAC {
			if j > 0 {
				b = append(b, ':')
			}
			b = hex.AppendEncode(b, []byte{v})
		}
		b = append(b, '"')
		for _, f := range [...]struct{ key, value string }{
			{`,"clientId":`, l.ClientID}, {`,"hostname":`, l.Hostname}, {`,"device":`, l.Device},
		} {
			if f.value != "" {
				b = appendText(b, f.key, f.value)
			}
		}
		b = l.Granted.AppendFormat(append(b, `,"granted":"`...), time.RFC3339)
		b = l.Expires.AppendFormat(append(b, `","expires":"`...), time.RFC3339)
		b = append(b, `"}`...)
	}
	return append(b, "]}\n"...)
}

// appendText appends a key, colon included, and a string.
func appendText(b []byte, key, value string) []byte {
	b = append(b, key...)
	for _, c := range []byte(value) {
		if c < '-' || c > 'z' || c == '\\' { // not one of the names that conf allows
			quoted, _ := json.Marshal(value) // a string always has an encoding
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), value...), '"')
}
