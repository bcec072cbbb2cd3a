package svcconf_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

func TestLeasesComeBackAsTheyWere(t *testing.T) {
	at := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	for _, want := range []svcconf.Leases{{}, {Leases: []svcconf.Lease{
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.7"), MAC: model.MAC{0x52, 0x54, 0, 0, 0, 1}, Hostname: "tv", Granted: at, Expires: at.Add(time.Hour)},
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.8"), MAC: model.MAC{0x52, 0x54, 0, 0, 0, 2}, ClientID: "ff01", Granted: at, Expires: at},
	}}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := svcconf.Leases{Leases: make([]svcconf.Lease, 1)} // of before
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("leases differ (-want +got):\n%s", diff)
		}
	}
}

func TestLeasesAreBoundedAndStrict(t *testing.T) {
	list := func(n int) string { return `{"leases":[{}` + strings.Repeat(",{}", n-1) + `]}` }
	var l svcconf.Leases
	if err := json.Unmarshal([]byte(list(svcconf.MaxLeases)), &l); err != nil || len(l.Leases) != svcconf.MaxLeases {
		t.Errorf("as many as may be: got %d, %v", len(l.Leases), err)
	}
	for name, text := range map[string]string{
		"too many":               list(svcconf.MaxLeases + 1),
		"unknown field":          `{"leases":[],"more":1}`,
		"unknown field of lease": `{"leases":[{"more":1}]}`,
		"no list":                `{"leases":{}}`,
		"no leases":              `{"leases":[7]}`,
	} {
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzLeases holds that nothing which dhcpd can write takes more than the bound.
func FuzzLeases(f *testing.F) {
	f.Add([]byte(`{"leases":[{"zone":"iot","address":"192.168.40.7","mac":"52:54:00:00:00:01","granted":"2026-11-22T12:00:00Z","expires":"2026-11-22T13:00:00Z"}]}`))
	f.Add([]byte(`{"leases":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l svcconf.Leases
		if json.Unmarshal(text, &l) != nil {
			return
		}
		if len(l.Leases) > svcconf.MaxLeases {
			t.Errorf("%d leases", len(l.Leases))
		}
	})
}
