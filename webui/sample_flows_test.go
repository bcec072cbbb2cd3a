//go:build linux

package webui_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// sampleRecords are flows of the sample's network, the latest first.
func sampleRecords() (list []record.Record) {
	tv := record.Side{Zone: "iot", Device: "tv", MAC: sampleDevices[2].MAC, Addr: netip.MustParseAddr("192.168.40.12"), Port: 51514}
	nas := record.Side{Zone: "storage", Device: "nas", MAC: sampleDevices[0].MAC, Addr: netip.MustParseAddr("192.168.30.10")}
	cloud := record.Side{Zone: "services", Device: "nextcloud", MAC: sampleDevices[1].MAC, Addr: netip.MustParseAddr("192.168.20.11"), Port: 40022}
	laptop := record.Side{Zone: "admin", Device: "laptop-anna", MAC: sampleDevices[4].MAC, Addr: netip.MustParseAddr("192.168.10.23"), Port: 60222}
	bad := record.Side{Zone: "iot", MAC: model.MAC{0x52, 0x54, 0, 0x99, 0, 7}, Addr: netip.MustParseAddr("192.168.40.107"), Port: 4444}
	out := record.Side{Zone: "internet", Addr: netip.MustParseAddr("203.0.113.9")}
	at := func(s record.Side, port uint16) record.Side { s.Port = port; return s }
	add := func(ago, lasted time.Duration, r record.Record) {
		r.End = sampleNow.Add(-ago)
		r.Start = r.End.Add(-lasted)
		r.Began = r.Start
		list = append(list, r)
	}
	refused := func(src, dst record.Side, port uint16, packets uint64, rule string) record.Record {
		r := record.Record{Src: src, Dst: at(dst, port), Proto: 6, Verdict: record.Refused, Out: record.Count{Packets: packets, Bytes: packets * 60}, Rule: rule}
		if rule == "" {
			r.Reason = "policy"
		}
		return r
	}
	allowed := func(src, dst record.Side, port uint16, rule, name, app string, out, in uint64, end record.End) record.Record {
		return record.Record{Src: src, Dst: at(dst, port), Proto: 6, Verdict: record.Allowed, Rule: rule, Name: name, App: app, Ended: end, Out: record.Count{Packets: out / 1000, Bytes: out}, In: record.Count{Packets: in / 1000, Bytes: in}}
	}
	add(10*time.Second, 40*time.Second, allowed(laptop, out, 443, "browsing", "docs.example.org", "https", 41_000, 1_830_000, record.Finished))
	add(30*time.Second, 50*time.Second, refused(bad, nas, 22, 12, ""))
	add(80*time.Second, 0, allowed(tv, record.Side{Zone: "box"}, 53, "box:dns", "", "dns", 74, 180, record.Unknown))
	add(2*time.Minute, time.Hour, allowed(cloud, nas, 2049, "nextcloud-data", "", "nfs", 1_230_000, 98_800_000_000, record.Continues))
	add(3*time.Minute, 50*time.Second, refused(tv, out, 443, 6, "tv-stays-home"))
	add(4*time.Minute, 50*time.Second, refused(tv, nas, 445, 3, ""))
	add(9*time.Minute, 95*time.Minute, allowed(tv, nas, 8096, "tv-films", "", "", 9_100_000, 4_230_000_000, record.Finished))
	add(12*time.Minute, 3*time.Second, allowed(laptop, nas, 22, "admin", "", "ssh", 6_200, 8_100, record.Reset))
	return list
}

// answerFlows answers as flowd does of flows. The pages that show few of them, or sums of
// zones, are told the same whatever they ask for.
func answerFlows(mux *http.ServeMux) {
	zones := map[string]bool{"admin": true, "services": true, "storage": true, "iot": true, "guest": true, "internet": true, "box": true}
	ask := func(w http.ResponseWriter, r *http.Request) (flows.Query, bool) {
		q, err := flows.ParseQuery(r.URL.Query(), func(s string) bool { return zones[s] })
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		}
		return q, err == nil
	}
	mux.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, r *http.Request) {
		q, ok := ask(w, r)
		if !ok {
			return
		}
		list := []record.Record{}
		for _, r := range append(sampleRecords(), sampleFlows()...) {
			if q.Match(&r) && len(list) < q.Limit {
				list = append(list, r)
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /v1/flows/live", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("\n"))
		_ = json.NewEncoder(w).Encode(sampleFlows()[1])
		_ = json.NewEncoder(w).Encode(map[string]int{"skipped": 7})
	})
	mux.HandleFunc("GET /v1/flows/talks", func(w http.ResponseWriter, r *http.Request) {
		q, ok := ask(w, r)
		if !ok {
			return
		}
		if q.Limit != 2000 {
			t := sampleTalks()
			if r.URL.Query().Get("from") == "" {
				t.Rest.Refused = 31
			}
			_ = json.NewEncoder(w).Encode(t)
			return
		}
		t := flows.Talks{Talks: []record.TalkSum{}}
		for _, s := range manyTalks() {
			if q.Zone == "" || s.From.Zone == q.Zone || s.To.Zone == q.Zone {
				t.Talks = append(t.Talks, s)
			}
		}
		_ = json.NewEncoder(w).Encode(t)
	})
}

// manyTalks are who talks to whom in a larger network: 5 zones with 30 devices each.
func manyTalks() (list []record.TalkSum) {
	add := func(from, to record.Party, bytes, refused uint64, app string) {
		t := record.TalkSum{Talk: record.Talk{From: from, To: to, App: app, Verdict: record.Allowed, Rule: "browsing"}, Sum: record.Sum{Connections: 1 + bytes>>20, Out: record.Count{Bytes: bytes / 9}, In: record.Count{Bytes: bytes - bytes/9}}}
		if refused > 0 {
			t.Verdict, t.Rule, t.Reason, t.Sum = record.Refused, "", "policy", record.Sum{Refused: refused}
		}
		list = append(list, t)
	}
	internet, nas := record.Party{Zone: "internet"}, record.Party{Zone: "storage", Device: "nas"}
	for z, names := range map[string][]string{
		"admin": {"laptop-anna", "desktop", "tablet"}, "services": {"nextcloud", "mail", "git"}, "storage": {"nas", "backup"}, "iot": {"tv", "camera-door", "thermostat"}, "guest": {""},
	} {
		for i := range 30 {
			p := record.Party{Zone: z, Device: fmt.Sprintf("%s-%02d", z, i)}
			if i < len(names) {
				p.Device = names[i]
			}
			n := uint64(len(z)+i) * 7919 % 1013
			switch {
			case z == "storage" && i > 0:
				add(p, nas, n*n*900, 0, "nfs")
			case z == "iot" && i%3 == 0:
				add(p, nas, n*n*30_000, 0, "smb")
			case z == "iot":
				add(p, internet, 0, n, "https")
			case z != "storage":
				add(p, internet, n*n*11_000, 0, "https")
			}
			if i < 3 && z != "storage" && z != "guest" {
				add(p, nas, n*n*70_000, 0, "smb")
			}
			if z == "admin" && i%5 == 0 {
				add(p, record.Party{Zone: "services", Device: "nextcloud"}, n*n*9_000, 0, "https")
			}
		}
	}
	return list
}

// sampleNeeds are what rules could be proposed for.
func sampleNeeds() []flows.Need {
	need := func(from, to flows.Party, port uint16, count uint64, reason string) flows.Need {
		return flows.Need{Kind: flows.Kind{From: from, To: to, Proto: 6, Port: port, Reason: reason}, Count: count, First: sampleNow.AddDate(0, 0, -5), Last: sampleNow.Add(-time.Hour)}
	}
	tv, nas := flows.Party{Zone: "iot", Device: "tv", Addr: netip.MustParseAddr("192.168.40.12")}, flows.Party{Zone: "storage", Device: "nas", Addr: netip.MustParseAddr("192.168.30.10")}
	return []flows.Need{
		need(tv, nas, 445, 41, "policy"),
		need(flows.Party{Zone: "services", Device: "nextcloud", Addr: netip.MustParseAddr("192.168.20.11")}, nas, 22, 3, "policy"),
		need(flows.Party{Zone: "internet"}, nas, 22, 900, "policy"),
	}
}
