//go:build linux

package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"bulkhead/services/metrics"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		page := string(b.r.Metrics())
		if err := metrics.Check([]byte(page), "netcfg"); err != nil {
			t.Error(err)
		}
		for _, want := range []string{
			`mode{mode="running"} 1`, `mode{mode="closed"} 0`, `applied 1`, `change_number 1`, `change_pending 0`,
			`drift_repaired_total 0`, `rules{kind="allow"} 2`, `rule_ends_time_seconds{kind="allow",rule="films"} 1796083200`,
			`zone_devices{zone="gadgets"} 1`, `service_untaken{service="dhcpd"} 1`,
			`refused_packets_total{from="gadgets",to="office",reason="policy"} 3`,
			`refused_packets_total{from="gadgets",to="",reason="spoofed"} 2`,
			`refused_bytes_total{from="",to="",reason="nowhere"} 40`,
		} {
			if !strings.Contains(page, "\nbulkhead_netcfg_"+want+"\n") {
				t.Errorf("no %s in\n%s", want, page)
			}
		}
		if _, err := b.try(strings.Replace(home, "tcp/8096", "tcp/8097", 1)); err != nil {
			t.Fatal(err)
		}
		if page := string(b.r.Metrics()); !strings.Contains(page, "\nbulkhead_netcfg_change_pending 1\n") {
			t.Error("the trial is not shown")
		}
	})
}
