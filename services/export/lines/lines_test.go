package lines_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/model"
	"bulkhead/services/export/lines"
	"bulkhead/services/flow/record"
)

var (
	noon    = time.Date(2026, 11, 27, 12, 0, 0, 7e6, time.UTC)
	refused = record.Record{
		Start: noon, End: noon.Add(time.Second), Began: noon,
		Src:   record.Side{Zone: "iot", Device: "tv", Addr: netip.MustParseAddr("192.168.40.100")},
		Dst:   record.Side{Zone: "storage", Port: 445},
		Proto: model.ProtoTCP, Out: record.Count{Packets: 2, Bytes: 80}, Verdict: record.Refused, Reason: "no-rule",
	}
	scan  = record.Event{Time: noon, Kind: record.PortScan, Side: refused.Src, Text: `"tv" tried 100 ports`, Key: "port-scan tv"}
	items = []lines.Item{{Flow: &refused}, {Event: &scan}, {Flow: &refused}}
)

const (
	flowLine = `{"type":"flow","box":"gw","start":"2026-11-27T12:00:00.007Z","end":"2026-11-27T12:00:01.007Z","began":"2026-11-27T12:00:00.007Z",` +
		`"src":{"zone":"iot","device":"tv","addr":"192.168.40.100"},"dst":{"zone":"storage","port":445},"proto":6,"out":{"packets":2,"bytes":80},"in":{"packets":0,"bytes":0},` +
		`"verdict":"refused","reason":"no-rule"}`
	eventLine = `{"type":"event","box":"gw","time":"2026-11-27T12:00:00.007Z","kind":"port-scan","side":{"zone":"iot","device":"tv","addr":"192.168.40.100"},` +
		`"text":"\"tv\" tried 100 ports","key":"port-scan tv"}`
)

func TestLines(t *testing.T) {
	got, err := lines.Lines("gw", items)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(flowLine+"\n"+eventLine+"\n"+flowLine+"\n", string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLokiGetsAStreamForEachSetOfLabels(t *testing.T) {
	data, err := lines.Loki("gw", items)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	type m = map[string]any
	type l = []any
	want := m{"streams": l{
		m{"stream": m{"job": "bulkhead", "box": "gw", "type": "flow", "verdict": "refused"}, "values": l{l{"1795780801007000000", flowLine}, l{"1795780801007000000", flowLine}}},
		m{"stream": m{"job": "bulkhead", "box": "gw", "type": "event", "kind": "port-scan"}, "values": l{l{"1795780800007000000", eventLine}}},
	}}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// FuzzStrangers holds that a line is a line whatever a stranger calls himself.
func FuzzStrangers(f *testing.F) {
	f.Add("films.example")
	f.Add("a\n{\"type\":\"event\"}\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		r := refused
		r.Name, r.Src.Device = s, s
		got, err := lines.Lines("gw", []lines.Item{{Flow: &r}})
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.IndexByte(got, '\n'); n != len(got)-1 || !json.Valid(got) {
			t.Errorf("%q", got)
		}
	})
}
