package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/privdrop"
)

// TestForeignServerIsHeardOf puts a stranger's DHCP server into a zone, and a client that
// falls for it. The daemon hears of it without listening where clients do.
func TestForeignServerIsHeardOf(t *testing.T) {
	gateway, stranger, victim, hub := nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)
	z := zoneOn(1, time.Hour)
	nstest.Exec(t, hub, "ip", "link", "add", "hub", "type", "bridge")
	nstest.Exec(t, hub, "ip", "link", "set", "hub", "up")
	for i, end := range []struct {
		ns   int
		link string
	}{{gateway, z.Link}, {stranger, "eth0"}, {victim, "eth0"}} {
		plug := fmt.Sprintf("plug%d", i)
		nstest.Veth(t, hub, plug, end.ns, end.link)
		nstest.Exec(t, hub, "ip", "link", "set", plug, "master", "hub")
	}
	nstest.Exec(t, gateway, "ip", "addr", "add", z.Address.String(), "dev", z.Link)
	nstest.Exec(t, stranger, "ip", "addr", "add", "10.0.1.66/24", "dev", "eth0")
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: []svcconf.DHCPZone{z}})
	dir, err := privdrop.Dir(filepath.Join(d.run, svcconf.HeardDir), "dhcpd", svcconf.Dhcpd.ID, svcconf.Flowd.ID)
	if err != nil {
		t.Fatal(err)
	}
	client(t, stranger, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--dhcp-authoritative", "--dhcp-range=10.0.1.200,10.0.1.210,2m")
	conf := filepath.Join(t.TempDir(), "dhclient.conf")
	if err := os.WriteFile(conf, []byte("reject "+z.Address.Addr().String()+";\nsend vendor-class-identifier \"toaster 1.0\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	client(t, victim, "dhclient", "-d", "-cf", conf, "-sf", script(t), "-lf", tmp+"/leases", "-pf", tmp+"/pid", "eth0")

	var heard svcconf.DHCPHeard
	waitFor(t, "the stranger to be heard of", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, svcconf.HeardFile))
		return err == nil && json.Unmarshal(data, &heard) == nil && len(heard.Servers) > 0
	})
	if s := heard.Servers[0]; s.Zone != "zone1" || s.Server != netip.MustParseAddr("10.0.1.66") {
		t.Errorf("got %+v", s)
	}
	if len(heard.Clients) != 1 || heard.Clients[0].MAC != heard.Servers[0].Client || heard.Clients[0].Class != "toaster 1.0" || heard.Clients[0].Options == "" {
		t.Errorf("got %+v", heard.Clients)
	}
}
