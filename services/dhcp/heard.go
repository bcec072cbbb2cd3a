package dhcp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
)

// Bounds of what is remembered of who was heard. The inventory, which reads it, keeps
// what matters.
const (
	maxClients = 4096
	maxServers = 64
	maxClass   = 64 // bytes
)

// heard is who spoke in the zones. In a flood of made-up clients anybody may be
// forgotten: flowd has read of the real ones by then.
type heard struct {
	clients map[model.MAC]*heardClient
	servers map[heardServer]svcconf.DHCPServer
	changed bool
}

type heardClient struct {
	svcconf.DHCPClient
	requested []byte // what Options says
}

type heardServer struct {
	zone string
	addr netip.Addr
}

// client notes who sent a message. Only messages that begin something carry what a
// client's make can be told by; the others leave that as it is.
func (h *heard) client(now time.Time, zone string, m *message) {
	c := h.clients[m.client.MAC]
	if c == nil {
		if h.clients == nil {
			h.clients = make(map[model.MAC]*heardClient)
		}
		if len(h.clients) == maxClients {
			for mac := range h.clients {
				delete(h.clients, mac)
				break
			}
		}
		c = &heardClient{DHCPClient: svcconf.DHCPClient{MAC: m.client.MAC}}
		h.clients[m.client.MAC] = c
	}
	if c.Zone != zone {
		c.Zone, c.Address = zone, netip.Addr{}
	}
	c.Seen = now
	c.Hostname = cmp.Or(m.hostname, c.Hostname)
	c.Class = cmp.Or(m.class, c.Class)
	if len(m.requested) > 0 && !bytes.Equal(m.requested, c.requested) {
		c.requested = bytes.Clone(m.requested)
		c.Options = codes(m.requested)
	}
	h.changed = true
}

// codes writes option codes as fingerprint databases have them.
func codes(list []byte) string {
	var b []byte
	for i, code := range list[:min(len(list), 255)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(code), 10)
	}
	return string(b)
}

// given notes the address that a client has now.
func (h *heard) given(mac model.MAC, addr netip.Addr) {
	if c := h.clients[mac]; c != nil {
		c.Address = addr
	}
}

// server notes that a client takes an address of another server. It tells everybody so,
// for the others to take their offers back (RFC 2131 section 3.1), which is why this
// server need not listen for what others send to clients.
func (h *heard) server(now time.Time, zone string, m *message) {
	key := heardServer{zone, m.server}
	if _, ok := h.servers[key]; !ok && len(h.servers) == maxServers {
		return // clients make them up: there are not so many
	}
	if h.servers == nil {
		h.servers = make(map[heardServer]svcconf.DHCPServer)
	}
	h.servers[key] = svcconf.DHCPServer{Zone: zone, Server: m.server, Client: m.client.MAC, Seen: now}
	h.changed = true
}

// serverMemory is how long a foreign server is told of after a client took to it.
const serverMemory = time.Hour

// public returns what was heard, and forgets servers that were not for a while.
func (h *heard) public(now time.Time) svcconf.DHCPHeard {
	v := svcconf.DHCPHeard{Clients: []svcconf.DHCPClient{}, Servers: []svcconf.DHCPServer{}}
	wall := func(t time.Time) time.Time { return now.Round(0).Add(t.Sub(now)).Truncate(time.Second).UTC() }
	for _, c := range h.clients {
		p := c.DHCPClient
		p.Seen = wall(p.Seen)
		v.Clients = append(v.Clients, p)
	}
	for key, s := range h.servers {
		if now.Sub(s.Seen) > serverMemory {
			delete(h.servers, key)
			continue
		}
		s.Seen = wall(s.Seen)
		v.Servers = append(v.Servers, s)
	}
	slices.SortFunc(v.Clients, func(a, b svcconf.DHCPClient) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	slices.SortFunc(v.Servers, func(a, b svcconf.DHCPServer) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), a.Server.Compare(b.Server))
	})
	h.changed = false
	return v
}

// tellHeard writes what was heard since it last did, for flowd. Without the directory,
// which netcfgd makes, nobody is there to read it.
func (s *Server) tellHeard(now time.Time) {
	s.mu.Lock()
	if !s.core.heard.changed {
		s.mu.Unlock()
		return
	}
	v := s.core.heard.public(now)
	s.mu.Unlock()
	data, err := json.Marshal(v)
	if err == nil {
		err = file.Replace(filepath.Join(filepath.Dir(s.runDir), svcconf.HeardDir, svcconf.Dhcpd.Name, svcconf.HeardFile), data, 0o640, -1)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && s.count.HeardErrors.Add(1) == 1 {
		s.log.Error("what was heard of clients is not published", "err", err)
	}
}
