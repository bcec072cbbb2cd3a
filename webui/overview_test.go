//go:build linux

package webui

import (
	"slices"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/services/flow/record"
)

// A cable that is out is not in order, whatever address the box holds and whatever its port
// is called.
func TestCableIsWhatThePortSays(t *testing.T) {
	for _, tt := range []struct {
		ports []api.Port
		state string
		text  string
	}{
		{[]api.Port{{Name: "enp2s0", Use: "wan", Carrier: true}, {Name: "enp1s0", Use: "fibre", Uplink: true, Carrier: true}}, "good", "port enp1s0 has a carrier"},
		{[]api.Port{{Name: "enp2s0", Use: "wan", Carrier: true}, {Name: "enp1s0", Use: "fibre", Uplink: true}}, "bad", "port enp1s0 has no carrier: is the cable in, and the modem on?"},
		{nil, "bad", "which port is the uplink's is not known"},
	} {
		if got := cableOf(tt.ports); got.State != tt.state || got.Text != tt.text {
			t.Errorf("%+v: got %+v, want %s, %q", tt.ports, got, tt.state, tt.text)
		}
	}
}

func TestSentenceSaysHowItIs(t *testing.T) {
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	lease := &facts.Lease{Obtained: now.Add(-75 * time.Hour)}
	steady := &facts.Lease{Obtained: now.Add(-time.Hour), Since: now.Add(-75 * time.Hour)}
	hazy := &link{Name: "Cable", State: "good", Next: &link{Name: "Internet", State: "unknown"}}
	well := &link{Name: "Cable", State: "good", Next: &link{Name: "Address", State: "good"}}
	out := &link{Name: "Cable", State: "bad", Next: &link{Name: "Address", State: "waits"}}
	for _, tt := range []struct {
		st   api.Status
		way  *link
		want string
	}{
		{api.Status{Mode: api.Running, Applied: true, Uplink: lease}, well, "All zones are up. The way to the internet is in order. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, Uplink: steady}, well, "All zones are up. Internet since 3 days. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, Uplink: steady}, hazy, "All zones are up. The way to the internet is in order as far as is known. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, Uplink: lease}, out, "All zones are up. The way to the internet is not in order: Cable. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, NoUplink: true}, nil, "All zones are up. There is no uplink. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Missing: []string{"port trunk"}}, out, "Not everything is up. The way to the internet is not in order: Cable. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Setup}, nil, "There is no configuration yet, and nothing is forwarded."},
		{api.Status{Mode: api.Closed}, nil, "The box is closed: nothing is forwarded, and only admin zones reach it."},
	} {
		tt.st.Now = now
		if got := sentence(&tt.st, tt.way, 2, 1, true); got != tt.want {
			t.Errorf("got %q\nwant %q", got, tt.want)
		}
	}
}

// The internet is there if it has answered somebody; it is not if it has left many without an
// answer; and nobody knows while nobody asks.
func TestInternetIsWhatAnswers(t *testing.T) {
	at := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	answered := record.Record{End: at, In: record.Count{Packets: 3}}
	silent := record.Record{End: at, Ended: record.Unopened, Out: record.Count{Packets: 3}}
	for _, tt := range []struct {
		ended []record.Record
		state string
		text  string
	}{
		{nil, "unknown", lateNothing},
		{[]record.Record{silent}, "unknown", "no answer to the last 1 connection"},
		{slices.Repeat([]record.Record{silent}, 5), "bad", "no answer to the last 5 connections"},
		{append(slices.Repeat([]record.Record{silent}, 9), answered), "good", "it answered a device at 18:00"},
	} {
		if got := internetOf(tt.ended, time.UTC); got.State != tt.state || got.Text != tt.text {
			t.Errorf("%d ended: got %+v, want %s, %q", len(tt.ended), got, tt.state, tt.text)
		}
	}
}
