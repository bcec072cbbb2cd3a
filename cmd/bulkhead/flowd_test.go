package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	flows "bulkhead/services/flow/api"
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
	serveFlows(mux)
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return log
}

// filed is a box that can show the file that it has in force.
type filed struct{ *backend }

func (f filed) Entry(ctx context.Context, number int) (*api.Entry, error) {
	e, err := f.backend.Entry(ctx, number)
	if err == nil {
		e.Data, err = os.ReadFile("configs/zero-trust.yaml")
	}
	return e, err
}

func (f filed) Matrix(ctx context.Context) (*api.Matrix, error) {
	e, err := f.Entry(ctx, 12)
	if err != nil {
		return nil, err
	}
	cfg, problems := conf.Parse(e.Name, e.Data, today)
	if cfg == nil {
		return nil, problems.Err()
	}
	return api.MatrixOf(compile.Compile(cfg, compile.Offline(cfg, today)).Policy), nil
}

// flown are the records of the made-up flowd.
func flown() []record.Record {
	side := func(zone, device, addr string, port uint16) record.Side {
		return record.Side{Zone: zone, Device: device, Addr: netip.MustParseAddr(addr), Port: port}
	}
	at := today.Add(-time.Hour)
	return []record.Record{
		{
			Start: at, End: at.Add(90 * time.Second), Began: at, Src: side("services", "nextcloud", "192.168.20.11", 40000), Dst: side("storage", "nas", "192.168.30.10", 2049),
			Proto: 6, Out: record.Count{Packets: 900, Bytes: 1_234_567}, In: record.Count{Packets: 800, Bytes: 98_765_432_100}, Verdict: record.Allowed, Rule: "nextcloud-data", Ended: record.Finished, App: "nfs",
		},
		{
			Start: at, End: at.Add(time.Second), Began: at, Src: side("guest", "", "192.168.50.130", 50000), Dst: side("internet", "", "203.0.113.9", 443),
			Proto: 6, Out: record.Count{Packets: 9, Bytes: 999}, In: record.Count{Packets: 8, Bytes: 1000}, Verdict: record.Allowed, Rule: "browsing", Ended: record.Reset, App: "https", Name: "films.example",
		},
		{
			Start: at.Truncate(time.Minute), End: at.Truncate(time.Minute).Add(time.Minute), Began: at, Src: side("iot", "tv", "192.168.40.12", 0), Dst: side("storage", "nas", "192.168.30.10", 445),
			Proto: 6, Out: record.Count{Packets: 12, Bytes: 720}, Verdict: record.Refused, Reason: "policy", App: "smb",
		},
		{
			Start: at.Add(-time.Hour), End: at.Add(-time.Hour), Began: at, Src: record.Side{Zone: "iot"}, Dst: record.Side{Zone: "internet"},
			Out: record.Count{Packets: 4_000_000, Bytes: 240_000_000}, Verdict: record.Refused,
		},
	}
}

// serveFlows answers questions about them.
func serveFlows(mux *http.ServeMux) {
	picked := func(r *http.Request) (list []record.Record) {
		q, err := flows.ParseQuery(r.URL.Query(), func(name string) bool { return name == "iot" || name == "guest" })
		if err != nil {
			panic(err)
		}
		list = []record.Record{}
		for _, r := range flown() {
			if q.Match(&r) {
				list = append(list, r)
			}
		}
		return list
	}
	mux.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(picked(r)) })
	mux.HandleFunc("GET /v1/flows/top", func(w http.ResponseWriter, r *http.Request) {
		_, group, err := flows.ParseTop(r.URL.Query())
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		list := []record.Sum{}
		for _, r := range picked(r) {
			s := record.Sum{}
			s.Key, s.Zone = group.Key(&r)
			s.Add(&r)
			list = append(list, s)
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/flows/talks", func(w http.ResponseWriter, r *http.Request) {
		var out flows.Talks
		for _, r := range picked(r) {
			s := record.TalkSum{Talk: record.TalkOf(&r)}
			s.Sum.Add(&r)
			out.Talks = append(out.Talks, s)
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	mux.HandleFunc("GET /v1/flows/needs", func(w http.ResponseWriter, r *http.Request) {
		refused := flown()[2]
		n := flows.Need{Kind: flows.Kind{
			From: flows.Party{Zone: "iot", Device: "tv", Addr: refused.Src.Addr}, To: flows.Party{Zone: "storage", Device: "nas", Addr: refused.Dst.Addr},
			Proto: 6, Port: 445, Reason: "policy",
		}, First: refused.Start, Last: refused.End}
		n.Add(&refused)
		// Of a machine that nobody knows, which was observed and asked for a name that is
		// meant for the eyes of who reads this.
		stranger := flows.Need{Kind: flows.Kind{
			From: flows.Party{Zone: "guest", Addr: netip.MustParseAddr("192.168.50.130")}, To: flows.Party{Zone: "internet"},
			Proto: 17, Port: 3478, Rule: flows.Observing + "guest",
		}, Count: 7, First: refused.Start.AddDate(0, 0, -2), Last: refused.End, Name: "x\x1b[31m\u202eelpmaxe.smlif\n- name: all"}
		blocked := flows.Need{Kind: flows.Kind{
			From: n.From, To: flows.Party{Zone: "internet"}, Proto: 6, Port: 443, Rule: "tv-stays-home",
		}, Count: 30, First: refused.Start, Last: refused.End}
		_ = json.NewEncoder(w).Encode(flows.Needs{Needs: []flows.Need{n, stranger, blocked}, More: 12, Used: map[string]int{"browsing": 30, "admin": 90}, Oldest: today.AddDate(0, 0, -100)})
	})
}
