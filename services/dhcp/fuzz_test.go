package dhcp

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"bulkhead/services/dhcp/lease"
)

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzHandle sends arbitrary bytes among honest clients' messages. Nothing panics, no
// answer is larger than a frame or goes outside the zone, and no address is two
// clients' at a time.
func FuzzHandle(f *testing.F) {
	for _, m := range [][]byte{
		packet(f, 1, discover, wanted("192.168.40.100")),
		packet(f, 1, request, wanted("192.168.40.100"), server(box), withID("id")),
		packet(f, 1, request, ciaddr("192.168.40.100")),
		packet(f, 1, release, ciaddr("192.168.40.100")),
		packet(f, 1, decline, wanted("192.168.40.100"), server(box)),
		packet(f, 1, inform, ciaddr("192.168.40.100")),
		packet(f, 1, discover, giaddr("192.168.40.5")),
	} {
		f.Add(m, m)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := newCore(t, testConf())
		held := make(map[netip.Addr]lease.Lease)
		now := start
		for _, p := range [][]byte{
			packet(t, 1, request, wanted("192.168.40.100")), a,
			packet(t, 2, request, wanted("192.168.40.100")), b,
			packet(t, 3, request, wanted("192.168.40.101"), withID("id")), a, b,
		} {
			now = now.Add(time.Minute)
			r := c.handle(now, iot, p, nil)
			if len(r.reply.data) > maxReply {
				t.Fatalf("answer of %d bytes", len(r.reply.data))
			}
			to := r.reply.to.dst
			if r.reply.data != nil && to != everybody && !c.zones[iot].subnet.Contains(to) {
				t.Fatalf("answer to %s", to)
			}
			if r.reply.data != nil {
				decodeReply(t, r)
			}
			l := r.record
			if !l.Addr.IsValid() {
				continue
			}
			old, ok := held[l.Addr]
			same := old.Client.MAC == l.Client.MAC || old.Client.ID != "" && old.Client.ID == l.Client.ID
			if ok && old.State == lease.Bound && old.Until.After(now) && !same {
				t.Fatalf("%s went from %+v to %+v", l.Addr, old, l)
			}
			held[l.Addr] = l
		}
	})
}
