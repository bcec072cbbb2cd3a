//go:build linux

package lab_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/miekg/dns"

	"bulkhead/images/lab"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// comeback is how soon after its start a daemon is to serve again.
const comeback = 2 * time.Second

// TestKilledDaemonsLetNothingThrough kills the daemons one after the other, at once
// and without warning, while names are asked, addresses are asked for, a file is sent
// through the box, and forbidden and allowed packets are tried all the time. The
// packets must fare as the policy says at every instant, the transfer must not even
// notice, each daemon must be back in time, and all leases must still be there.
func TestKilledDaemonsLetNothingThrough(t *testing.T) {
	b := setUp(t)
	kills := 10
	if n, err := strconv.Atoi(os.Getenv("BULKHEAD_KILLS")); err == nil {
		kills = n
	}
	before := leases(t, b)
	ctx, cancel := context.WithCancel(b.ctx)
	load := startLoad(t, ctx, b)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var rounds atomic.Int64
	wg.Go(func() {
		questions := b.Questions(b.policy, few[:len(few)-1]) // those with ports
		for ctx.Err() == nil {
			answers, err := b.Ask(b.ctx, questions)
			if err != nil {
				t.Error(err)
				return
			}
			for _, a := range answers {
				if a.Wrong() {
					t.Errorf("while daemons were killed: %s", a)
				}
			}
			rounds.Add(1)
		}
	})
	names := []string{"netcfgd", "dnsd", "dhcpd", "wand", "webuid"}
	slowest := make(map[string]time.Duration)
	for i := range kills {
		name := names[i%len(names)]
		asked := time.Now()
		b.acks = uplinkACKs(b)
		restarted, err := b.Daemons[name].Kill(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := serves(b, name, asked); err != nil {
			t.Fatalf("%s after its death: %v\n%s", name, err, b.Daemons[name].Log(20))
		}
		slowest[name] = max(slowest[name], time.Since(restarted))
	}
	cancel()
	wg.Wait()
	load(t)
	if rounds.Load() == 0 {
		t.Error("no packets were tried")
	}
	for a, mac := range before {
		if got := leases(t, b)[a]; got != mac {
			t.Errorf("the lease of %s was %s's and is %s's now", a, mac, got)
		}
		past, err := b.API.LeaseHistory(b.ctx, mac.String())
		if err != nil || !slices.ContainsFunc(past.Leases, func(l svcconf.PastLease) bool { return l.Address == a }) {
			t.Errorf("%s is not in the history of %s: %v, %v", a, mac, past, err)
		}
	}
	t.Logf("%d kills, %d rounds of packets", kills, rounds.Load())
	for name, took := range slowest {
		promptly(t, name+" serves again, at the latest,", took, comeback)
	}
}

func leases(t *testing.T, b *bench) map[netip.Addr]model.MAC {
	t.Helper()
	list, err := b.API.Leases(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[netip.Addr]model.MAC)
	for _, l := range list {
		m[l.Address] = l.MAC
	}
	if len(m) < len(b.Config.Zones) {
		t.Fatalf("only %d leases: %v", len(m), list)
	}
	return m
}

// serves returns when the daemon does its work.
func serves(b *bench, name string, killed time.Time) error {
	ctx, cancel := context.WithTimeout(b.ctx, 15*comeback)
	defer cancel()
	var last error
	for {
		if last = try(ctx, b, name, killed); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(10 * time.Millisecond): // between two attempts
		}
	}
}

func try(ctx context.Context, b *bench, name string, killed time.Time) error {
	const quick = 200 * time.Millisecond
	client := b.Client("laptop")
	switch name {
	case "netcfgd":
		s, err := b.API.Status(ctx)
		if err == nil && (s.Mode != api.Running || !s.Started.After(killed)) {
			err = fmt.Errorf("mode %s, started %s", s.Mode, s.Started)
		}
		return err
	case "dnsd":
		return resolve(client, "nas.home.arpa.", quick)
	case "dhcpd":
		return client.Do(func() error {
			c, err := nclient4.New("eth0", nclient4.WithTimeout(quick), nclient4.WithRetry(1))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Request(ctx)
			return err
		})
	case "webuid":
		pc := b.Client("management-pc")
		return healthy(pc, pc.Zone.Gateway, quick)
	case "wand":
		data, err := os.ReadFile("/run/bulkhead/wand/uplink.json")
		if err != nil {
			return err
		}
		var l facts.Lease
		if err := json.Unmarshal(data, &l); err != nil {
			return err
		}
		if l.Address != b.Uplink {
			return fmt.Errorf("the uplink's address changed from %s to %s", b.Uplink, l.Address)
		}
		if n := uplinkACKs(b); n == b.acks {
			return errors.New("it has not asked the provider about its lease")
		}
		return nil
	}
	return fmt.Errorf("how does %s work?", name)
}

// healthy asks the box's API at an address whether it is there.
func healthy(c *lab.Client, at netip.Addr, patience time.Duration) error {
	var conn net.Conn
	err := c.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(at, 443).String(), patience)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // who it is was settled when the lab was built
	if _, err := fmt.Fprintf(secure, "GET /api/v1/health HTTP/1.1\r\nHost: %s\r\n\r\n", at); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// uplinkACKs says how often the provider has confirmed the box's lease.
func uplinkACKs(b *bench) int {
	log, _ := os.ReadFile(filepath.Join(b.World.Dir, "dnsmasq.log"))
	return strings.Count(string(log), "DHCPACK")
}

// resolve asks the box for an address.
func resolve(c *lab.Client, name string, patience time.Duration) error {
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	var conn net.Conn
	err := c.Do(func() (err error) {
		conn, err = net.Dial("udp4", netip.AddrPortFrom(c.Zone.Gateway, 53).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	co := &dns.Conn{Conn: conn}
	if err := co.WriteMsg(q); err != nil {
		return err
	}
	r, err := co.ReadMsg()
	if err == nil && len(r.Answer) == 0 {
		err = fmt.Errorf("%s: no answer, %s", name, dns.RcodeToString[r.Rcode])
	}
	return err
}

// startLoad keeps the box busy until the context ends. The returned function says
// what became of it.
func startLoad(t *testing.T, ctx context.Context, b *bench) func(*testing.T) {
	t.Helper()
	var received, answers atomic.Int64
	listen(t, b.Outside, 9000, func(c net.Conn) {
		buf := make([]byte, 1<<16)
		for {
			n, err := c.Read(buf)
			received.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	upload, err := dial(b.Client("laptop").Host, "tcp4", b.OutsideAddr(), 9000)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var broken error
	wg.Go(func() {
		defer upload.Close()
		chunk := make([]byte, 1<<10)
		for ctx.Err() == nil {
			if _, broken = upload.Write(chunk); broken != nil {
				return
			}
			time.Sleep(time.Millisecond) // about 1 MB/s: a load, not a test of speed
		}
	})
	for i := range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if resolve(b.Client("laptop"), fmt.Sprintf("nas%s.home.arpa.", []string{"", "x"}[i]), patience/10) == nil {
					answers.Add(1)
				}
			}
		})
	}
	return func(t *testing.T) {
		t.Helper()
		wg.Wait()
		if broken != nil && !errors.Is(broken, io.EOF) {
			t.Errorf("a transfer through the box broke: %v", broken)
		}
		if received.Load() == 0 || answers.Load() == 0 {
			t.Errorf("there was no load: %d bytes, %d answers", received.Load(), answers.Load())
		}
		t.Logf("load: %d bytes, %d answers", received.Load(), answers.Load())
	}
}
