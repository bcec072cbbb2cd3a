package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/news"
	"bulkhead/services/flow/record"
	"bulkhead/services/sock"
)

// seen is what the made-up flowd has seen.
var seen = []inventory.Device{
	{
		MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Name: "tv", Known: true, Zone: "iot", First: today.AddDate(0, -2, 0), Last: today.Add(-30 * time.Second), Randomised: true,
		Hostnames:   []string{"bravia", "android-7"},
		Addresses:   []inventory.Used{{Address: netip.MustParseAddr("192.168.40.12"), Last: today.Add(-30 * time.Second)}, {Address: netip.MustParseAddr("192.168.40.120"), Last: today.AddDate(0, -1, 0)}},
		Fingerprint: inventory.Fingerprint{Options: "1,3,6,15,26,28,51,58,59,43", Class: "android-dhcp-14"},
		Talks: []inventory.Talk{
			{Peer: "nextcloud", Zone: "services", Service: "tcp/8096", App: "jellyfin", Connections: 812, Bytes: 91_234_567_890, Last: today.Add(-time.Hour)},
			{Peer: "telemetry.example", Zone: "internet", Service: "tcp/443", App: "https", Connections: 3, Bytes: 4711, Last: today.AddDate(0, 0, -3)},
		},
	},
	{
		MAC: model.MAC{0, 0x16, 0x3e, 1, 2, 3}, Zone: "guest", First: today.Add(-2 * time.Hour), Last: today.Add(-5 * time.Minute), Vendor: "Acme",
		Hostnames: []string{"fridge"}, Addresses: []inventory.Used{{Address: netip.MustParseAddr("192.168.50.130"), Last: today.Add(-5 * time.Minute)}}, Learning: true,
	},
	{MAC: model.MAC{0, 0x16, 0x3e, 9, 9, 9}, Name: "nas", Known: true, Critical: true, Zone: "storage", First: today.AddDate(-1, 0, 0), Last: today.AddDate(0, 0, -3), Varied: true},
}

// serveFlowd starts a flowd below a run directory, and returns its events.
func serveFlowd(t *testing.T, run string) *news.Log {
	t.Helper()
	dir := filepath.Join(run, svcconf.Flowd.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := sock.Listen(filepath.Join(dir, svcconf.FlowsSocket), -1)
	if err != nil {
		t.Fatal(err)
	}
	log := new(news.Log)
	log.Add(
		record.Event{Time: today.Add(-48 * time.Hour), Kind: record.PortScan, Side: record.Side{Zone: "guest"}, Key: "1",
			Text: `"192.168.50.130" in zone guest was refused at 20 ports or more within a minute, last at "nas" (tcp/445)`},
		record.Event{Time: today.Add(-2 * time.Hour), Kind: record.NewDevice, Side: record.Side{Zone: "guest", MAC: seen[1].MAC}, Key: "2",
			Text: `a device that is not in the configuration is in zone guest: 00:16:3e:01:02:03, made by "Acme", calls itself "fridge"`},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /v1/events", log)
	mux.HandleFunc("GET /v1/devices/seen", func(w http.ResponseWriter, r *http.Request) {
		f := inventory.Filter{Device: r.FormValue("device"), Zone: r.FormValue("zone")}
		if known, err := strconv.ParseBool(r.FormValue("known")); err == nil {
			f.Known = &known
		}
		list := []inventory.Device{}
		for _, d := range seen {
			if f.Match(&d) {
				list = append(list, d)
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return log
}
