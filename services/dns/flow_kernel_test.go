package dns

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// TestRecordHasTheNameThatTheClientAskedFor has the real dnsd tell the real flowd, as the
// users that they are, of an answer that the client uses at once.
func TestRecordHasTheNameThatTheClientAskedFor(t *testing.T) {
	d := startDaemon(t)
	nstest.Exec(t, d.box, "ip", "link", "set", "lo", "up")
	d.zone(t, "iot", d.iot, 40)
	d.zone(t, "guest", d.guest, 50) // here: the way to the internet
	nstest.Exec(t, d.guest, "ip", "address", "add", "203.0.113.9/32", "dev", "eth0")
	nstest.Exec(t, d.box, "ip", "route", "add", "203.0.113.9/32", "via", "192.168.50.12")
	nstest.ExecInput(t, d.box, "table inet t {\nchain f { type filter hook forward priority 0; ct state new ct mark set 100; }\n}\n", "nft", "-f", "-")
	for _, s := range []string{"ipv4.ip_forward", "netfilter.nf_conntrack_acct", "netfilter.nf_conntrack_timestamp", "netfilter.nf_conntrack_events"} {
		nstest.Exec(t, d.box, "sysctl", "-q", "-w", "net."+s+"=1")
	}
	var up *fake
	nstest.Run(t, d.box, func() {
		up = newFake(t, func(q *dns.Msg, _ bool) [][]byte { return sends(t, address(t, q, "203.0.113.9")) })
	})
	cfg := d.config(up.addr)
	cfg.Zones[0].Names = true
	d.write(t, "dnsd/config.json", cfg)
	d.write(t, "flowd/config.json", svcconf.Flow{
		Zones:  []svcconf.FlowZone{{Zone: "iot", Link: "iot", Subnet: cfg.Zones[0].Subnet, Address: cfg.Zones[0].Address}},
		Uplink: svcconf.FlowUplink{Link: "guest", Address: netip.MustParseAddr("192.168.50.1")},
		Rules:  []svcconf.FlowRule{{Mark: 100, Name: "browsing"}},
		Keep:   svcconf.FlowKeep{Age: svcconf.Duration(24 * time.Hour), Size: 1 << 30},
	})
	d.startFlowd(t)
	var web net.Listener
	nstest.Run(t, d.guest, func() {
		var err error
		if web, err = net.Listen("tcp4", "203.0.113.9:80"); err != nil {
			t.Fatal(err)
		}
	})
	defer web.Close()
	go func() {
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	// dnsd may not have found flowd yet, hence more than one attempt, of another name each.
	asked := map[uint16]string{} // by the port of the client
	waitFor(t, "a record with a name", func() bool {
		name := fmt.Sprintf("films-%d.example", len(asked))
		d.ask(t, d.iot, "udp", "192.168.40.1", name)
		nstest.Run(t, d.iot, func() {
			conn, err := net.DialTimeout("tcp4", "203.0.113.9:80", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Read(make([]byte, 1)) // until the other side is done
			asked[conn.LocalAddr().(*net.TCPAddr).AddrPort().Port()] = name
		})
		time.Sleep(time.Second)                               // so that the next name is not taken for this one's
		nstest.Exec(t, d.box, "conntrack", "-D", "-p", "tcp") // or the kernel takes its time
		return d.recorded(t, asked)
	})
}

// startFlowd starts flowd in the box, for as long as the test.
func (d *daemon) startFlowd(t *testing.T) {
	t.Helper()
	bin, log := program(t, "flowd"), new(nstest.Output)
	cmd := exec.Command(bin, "-run", d.run, "-state", openDir(t))
	cmd.Stderr = log
	nstest.Run(t, d.box, func() {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("flowd said:\n%s", log)
		}
	})
}

// recorded reports whether flowd has a record of a connection with a name, which must be
// the one that was asked for before it.
func (d *daemon) recorded(t *testing.T, asked map[uint16]string) bool {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.run, "flowd", svcconf.FlowsSocket))
	}}}
	r, err := c.Get("http://flowd/v1/flows")
	if err != nil {
		return false // not there yet
	}
	defer r.Body.Close()
	var list []struct {
		Name string
		Src  struct{ Port uint16 }
	}
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.Name != "" {
			if want := asked[f.Src.Port]; f.Name != want {
				t.Errorf("a connection has the name %s, want %s", f.Name, want)
			}
			return true
		}
	}
	return false
}
