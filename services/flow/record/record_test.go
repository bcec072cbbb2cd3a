package record_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

var (
	start = time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	tv    = record.Side{
		Zone: "iot", Device: "tv", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12},
		Addr: netip.MustParseAddr("192.168.40.100"), Port: 40000,
	}
	films = record.Record{
		Start: start, End: start.Add(time.Minute), Began: start, Src: tv,
		Dst:   record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.9"), Port: 443},
		Proto: model.ProtoTCP, Out: record.Count{Packets: 5, Bytes: 900}, In: record.Count{Packets: 7, Bytes: 9000},
		NATSrc: netip.MustParseAddrPort("203.0.113.2:40000"), Verdict: record.Allowed, Rule: "browsing", Ended: record.Finished,
		Name: "films.example", App: "https",
	}
)

func TestJSONIsReadBack(t *testing.T) {
	data, err := json.Marshal(films)
	if err != nil {
		t.Fatal(err)
	}
	var got record.Record
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(films, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFilter(t *testing.T) {
	notZone := func(string) bool { return false }
	for name, test := range map[string]struct {
		f    record.Filter
		want bool
	}{
		"all":                        {record.Filter{}, true},
		"ended before":               {record.Filter{Since: start.Add(time.Minute + 1)}, false},
		"ended then":                 {record.Filter{Since: start.Add(time.Minute)}, true},
		"started then":               {record.Filter{Until: start}, false},
		"started before":             {record.Filter{Until: start.Add(1)}, true},
		"device":                     {record.Filter{Device: record.ParseWho("tv", notZone)}, true},
		"device by MAC":              {record.Filter{Device: record.ParseWho("52:54:00:40:00:12", notZone)}, true},
		"device by address":          {record.Filter{Device: record.ParseWho("203.0.113.9", notZone)}, true},
		"from":                       {record.Filter{From: record.ParseWho("203.0.113.9", notZone)}, false},
		"to a network":               {record.Filter{To: record.ParseWho("203.0.113.7/24", notZone)}, true},
		"to the internet":            {record.Filter{To: record.ParseWho("internet", notZone)}, true},
		"to another zone":            {record.Filter{To: record.ParseWho("iot", func(string) bool { return true })}, false},
		"zone":                       {record.Filter{Zone: "iot"}, true},
		"another zone":               {record.Filter{Zone: "io"}, false},
		"port":                       {record.Filter{Port: 443, Proto: model.ProtoTCP}, true},
		"port of the source":         {record.Filter{Port: 40000}, false},
		"refusals":                   {record.Filter{Verdict: record.Refused}, false},
		"name":                       {record.Filter{Name: "films.example"}, true},
		"domain":                     {record.Filter{Name: "example"}, true},
		"name with that at its end":  {record.Filter{Name: "ilms.example"}, false},
		"name below":                 {record.Filter{Name: "www.films.example"}, false},
		"rule":                       {record.Filter{Rule: "browsing"}, true},
		"reason, which is no rule's": {record.Filter{Reason: "spoofed"}, false},
	} {
		if got := test.f.Match(&films); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestSumsAreOfConnectionsOrRefusals(t *testing.T) {
	refusal := films
	refusal.Verdict, refusal.In = record.Refused, record.Count{}
	var s record.Sum
	for _, r := range []record.Record{films, films, refusal} {
		s.Add(&r)
	}
	want := record.Sum{Connections: 2, Out: record.Count{Packets: 10, Bytes: 1800}, In: record.Count{Packets: 14, Bytes: 18000}, Refused: 5}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for m, want := range map[record.Measure]uint64{record.ByBytes: 19800, record.ByConnections: 2, record.ByRefused: 5} {
		if got := m.Value(&s); got != want {
			t.Errorf("by %s: got %d, want %d", m, got, want)
		}
	}
}
