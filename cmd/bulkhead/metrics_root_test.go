//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// checkMetrics holds that webuid, with no rights to speak of, gets the metrics of
// daemons that are other users, and gives them to who has a token.
func (b *newBox) checkMetrics(token string) {
	b.t.Helper()
	b.start("dhcpd")
	b.start("dnsd")
	var body string
	b.until("there are metrics of netcfgd, dhcpd and dnsd", func() bool {
		body = b.metrics(token)
		for _, s := range []string{"netcfgd", "dhcpd", "dnsd"} {
			if !strings.Contains(body, "\nbulkhead_up{service=\""+s+"\"} 1\n") {
				return false
			}
		}
		return true
	})
	for _, want := range []string{
		"\nbulkhead_netcfg_mode{mode=\"running\"} 1\n", "\nbulkhead_dhcp_leases{zone=\"gadgets\"} 0\n",
		"\nbulkhead_dns_queries_total{outcome=\"cached\"} 0\n", "\nbulkhead_up{service=\"pushd\"} 0\n",
		"\nbulkhead_netcfg_refused_packets_total{from=\"gadgets\",to=\"box\",reason=\"policy\"} ",
	} {
		if !strings.Contains(body, want) {
			b.t.Errorf("no %q in\n%s", want, body)
		}
	}
	// What dhcpd has heard is for flowd.
	info, err := os.Stat(filepath.Join(b.dir, "run", svcconf.HeardDir, "dhcpd"))
	if err != nil {
		b.t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != svcconf.Dhcpd.ID || int(st.Gid) != svcconf.Flowd.ID || info.Mode().Perm() != 0o750 {
		b.t.Errorf("%s is user %d's and group %d's, %s", info.Name(), st.Uid, st.Gid, info.Mode())
	}
	if got := b.metrics("none"); !strings.Contains(got, `{"error":`) {
		b.t.Errorf("without a token: %.200s", got)
	}
}

// metrics asks from the desk.
func (b *newBox) metrics(token string) string {
	b.t.Helper()
	var conn *tls.Conn
	var err error
	nstest.Run(b.t, b.desk, func() {
		conn, err = tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp4", "192.168.10.1:443", &tls.Config{InsecureSkipVerify: true})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	req, err := http.NewRequest("GET", "https://192.168.10.1/metrics", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body)
}
