package dhcp

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/journal"
	"bulkhead/services/sock"
)

// saveHistory writes down the past before the journal is replaced, of which it is made.
// Where the disk does not take it, leases go on, and the next time tries again.
func (s *Server) saveHistory(now time.Time) {
	s.mu.Lock()
	spells := slices.Collect(s.core.past.All(now))
	s.mu.Unlock()
	err := journal.ReplaceHistory(s.store.dir, slices.Values(spells))
	if err != nil && !s.store.forgets {
		s.log.Error("the history of leases is lost at the next restart, unless it can be written before", "err", err)
	}
	s.store.forgets = err != nil
}

// History returns which addresses a client had, or everybody for the zero MAC.
func (s *Server) History(mac model.MAC) svcconf.LeaseHistory {
	now := time.Now()
	var spells []history.Spell
	s.mu.Lock()
	if mac.IsZero() {
		spells = slices.Collect(s.core.past.All(now))
	} else {
		spells = s.core.past.Of(mac, now)
	}
	s.mu.Unlock()
	slices.SortFunc(spells, func(a, b history.Spell) int {
		return cmp.Or(b.Renewed.Compare(a.Renewed), a.Addr.Compare(b.Addr))
	})
	out := svcconf.LeaseHistory{Leases: []svcconf.PastLease{}, Older: max(0, len(spells)-svcconf.MaxPastLeases)}
	for _, p := range spells[:len(spells)-out.Older] {
		out.Leases = append(out.Leases, svcconf.PastLease{
			Zone: p.Zone, Address: p.Addr, MAC: p.MAC, Hostname: p.Hostname,
			First:   p.First.Truncate(time.Second).UTC(),
			Renewed: p.Renewed.Truncate(time.Second).UTC(),
			Ends:    p.End.Truncate(time.Second).UTC(),
		})
	}
	return out
}

// Bounds of those who ask for the history.
const (
	historyPatience = 5 * time.Second
	historyAtOnce   = 2
)

// serveHistory answers root at the history's socket until ctx ends.
func (s *Server) serveHistory(ctx context.Context) error {
	path := filepath.Join(s.runDir, svcconf.HistorySocket)
	listen := func() (net.Listener, error) { return sock.Listen(path, -1) }
	return sock.Serve(ctx, listen, historyAtOnce, s.tellHistory, func(err error) {
		s.log.Warn("nobody hears of the history of leases", "err", err)
	})
}

func (s *Server) tellHistory(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(historyPatience)) // a unix socket has deadlines
	var mac model.MAC
	if _, err := io.ReadFull(c, mac[:]); err != nil {
		return
	}
	_ = json.NewEncoder(c).Encode(s.History(mac)) // a caller that left needs no answer
}
