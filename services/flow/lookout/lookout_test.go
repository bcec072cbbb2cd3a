//go:build linux

package lookout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/lookout"
	"bulkhead/services/flow/record"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
)

var fridge = model.MAC{2, 0, 0, 0, 0, 7}

func dirs(t *testing.T) run.Dirs {
	t.Helper()
	d := run.Dirs{Run: t.TempDir(), State: t.TempDir()}
	if err := os.Mkdir(d.StateDir("flowd"), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t *testing.T, d run.Dirs) *lookout.Lookout {
	t.Helper()
	l, err := lookout.Open(slog.New(slog.DiscardHandler), d)
	if err != nil {
		t.Fatal(err)
	}
	l.Configure(svcconf.Flow{Zones: []svcconf.FlowZone{{Zone: "iot", Link: "port", Subnet: netip.MustParsePrefix("192.168.40.0/24")}}})
	return l
}

// heard is a client that said its name, and one that went elsewhere.
func heard(at time.Time) svcconf.DHCPHeard {
	return svcconf.DHCPHeard{
		Clients: []svcconf.DHCPClient{{Zone: "iot", MAC: fridge, Address: netip.MustParseAddr("192.168.40.7"), Hostname: "fridge", Seen: at}},
		Servers: []svcconf.DHCPServer{{Zone: "iot", Server: netip.MustParseAddr("192.168.40.66"), Client: fridge, Seen: at}},
	}
}

// TestCountries asks for a few whose owners have said for decades where they are, and for one
// in each /20, by which no list may go wrong.
func TestCountries(t *testing.T) {
	for addr, want := range map[string]string{
		"8.8.8.8": "US", "193.0.6.139": "NL", "192.168.1.1": "", "203.0.113.9": "", "0.0.0.0": "", "255.255.255.255": "", "224.0.0.1": "", "2001:db8::1": "",
	} {
		if got := lookout.Country(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	known := 0
	for i := range 1 << 20 {
		c := lookout.Country(netip.AddrFrom4([4]byte{byte(i >> 12), byte(i >> 4), byte(i << 4), 1}))
		if c != "" {
			known++
		}
		if c != "" && (len(c) != 2 || c != strings.ToUpper(c)) {
			t.Fatalf("%d: %q", i, c)
		}
	}
	if known < 1<<19 {
		t.Errorf("the country of %d in %d is known", known, 1<<20)
	}
}

// get asks as a program on the box does.
func get[T any](t *testing.T, l *lookout.Lookout, path string) (v T, status int) {
	t.Helper()
	mux := http.NewServeMux()
	l.Handle(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return v, w.Code
}

func TestDevicesAndEventsAreToldAndKept(t *testing.T) {
	d := dirs(t)
	l := open(t, d)
	now := time.Now()
	lookout.Hear(l, now, heard(now.Add(time.Hour))) // nothing is from the future
	l.Tell(record.Event{Time: now, Kind: record.Isolated, Text: "by hand", Key: "x"})
	lookout.Step(l, now.Add(2*time.Minute))
	for range 2 {
		devices, _ := get[[]inventory.Device](t, l, "/v1/devices/seen")
		if len(devices) != 1 || devices[0].Title() != "fridge" || devices[0].Last.After(now) {
			t.Errorf("got %+v", devices)
		}
		events, _ := get[[]record.Event](t, l, "/v1/events?limit=5")
		if len(events) != 2 || events[0].Kind != record.Isolated || events[1].Kind != record.ForeignDHCP {
			t.Errorf("got %+v", events)
		}
		l = open(t, d) // again, as after a restart
	}
	for query, want := range map[string]int{"known=false": 1, "known=true": 0, "zone=iot": 1, "zone=guest": 0, "device=fridge": 1, "device=192.168.40.7": 1, "device=02:00:00:00:00:07": 1, "device=tv": 0} {
		if devices, _ := get[[]inventory.Device](t, l, "/v1/devices/seen?"+query); len(devices) != want {
			t.Errorf("%s: got %+v", query, devices)
		}
	}
	if _, status := get[any](t, l, "/v1/devices/seen?known=perhaps"); status != http.StatusBadRequest {
		t.Errorf("known=perhaps: status %d", status)
	}
	p := metrics.NewPage("flow")
	l.Metrics(p)
	if err := metrics.Check(p.Bytes(), "flow"); err != nil {
		t.Error(err)
	}
}

func TestDiskIsSpared(t *testing.T) {
	d := dirs(t)
	l := open(t, d)
	path := filepath.Join(d.StateDir("flowd"), "inventory.json")
	now := time.Now()
	lookout.Hear(l, now, heard(now))
	lookout.Step(l, now.Add(30*time.Second))
	if _, err := os.Stat(path); err == nil {
		t.Error("the inventory is written within a minute")
	}
	lookout.Step(l, now.Add(61*time.Second))
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 14 {
		at := now.Add(time.Duration(i+2) * time.Minute)
		lookout.Hear(l, at, heard(at))
		lookout.Step(l, at)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(first, again) {
		t.Errorf("that a device is still there was written within a quarter of an hour (%v)", err)
	}
	lookout.Step(l, now.Add(17*time.Minute))
	if again, err := os.Stat(path); err != nil || os.SameFile(first, again) {
		t.Errorf("that a device is still there was not written (%v)", err)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	d := dirs(t)
	for _, name := range []string{"inventory.json", "events.jsonl"} {
		if err := os.WriteFile(filepath.Join(d.StateDir("flowd"), name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, d)
	if devices, _ := get[[]inventory.Device](t, l, "/v1/devices/seen"); len(devices) != 0 {
		t.Errorf("got %+v", devices)
	}
	if _, err := os.Stat(filepath.Join(d.StateDir("flowd"), "inventory.json.damaged")); err != nil {
		t.Error(err)
	}
}

// TestRunFollowsDhcpd runs the whole, and leaves what was seen on the disk.
func TestRunFollowsDhcpd(t *testing.T) {
	d := dirs(t)
	l := open(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	dir := filepath.Join(d.Run, svcconf.HeardDir, "dhcpd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(heard(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.WriteFile(tmp, data, 0o600), os.Rename(tmp, filepath.Join(dir, svcconf.HeardFile))); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); len(l.Devices(inventory.Filter{})) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client was never seen")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ran until %v", err)
	}
	if got := open(t, d).Devices(inventory.Filter{}); len(got) != 1 {
		t.Errorf("after a restart: %+v", got)
	}
}

// TestNeighbourIsSeen has a machine speak with the box.
func TestNeighbourIsSeen(t *testing.T) {
	box, client := nstest.New(t), nstest.New(t)
	nstest.Veth(t, box, "port", client, "eth0")
	nstest.Exec(t, box, "ip", "addr", "add", "192.168.40.1/24", "dev", "port")
	nstest.Exec(t, client, "ip", "link", "set", "eth0", "address", fridge.String())
	nstest.Exec(t, client, "ip", "addr", "add", "192.168.40.7/24", "dev", "eth0")
	nstest.Exec(t, client, "ping", "-c1", "-W5", "192.168.40.1")
	l := open(t, dirs(t))
	var err error
	nstest.Run(t, box, func() { err = lookout.LookAtNeighbours(l, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	got := l.Devices(inventory.Filter{})
	if len(got) != 1 || got[0].MAC != fridge || got[0].Zone != "iot" || fmt.Sprint(got[0].Addresses[0].Address) != "192.168.40.7" {
		t.Errorf("got %+v", got)
	}
}
