package inventory_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

var (
	start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	// later is when an inventory that began at the start has settled.
	later = start.Add(inventory.Settling)

	nas    = mac(0x30)
	camera = mac(0x40)
	addrs  = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
)

// mac is one that a maker gave.
func mac(n int) model.MAC { return model.MAC{0, 0x16, 0x3e, byte(n >> 16), byte(n >> 8), byte(n)} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func config() svcconf.Flow {
	return svcconf.Flow{
		Zones: []svcconf.FlowZone{
			{Zone: "storage", Link: "trunk.30", Subnet: netip.MustParsePrefix("192.168.30.0/24")},
			{Zone: "iot", Link: "trunk.40", Subnet: netip.MustParsePrefix("192.168.40.0/24")},
			{Zone: "guest", Link: "trunk.50", Subnet: netip.MustParsePrefix("192.168.50.0/24"), Record: model.RecordNoNames},
		},
		Devices: []svcconf.FlowDevice{
			{Name: "nas", Zone: "storage", MAC: nas, Address: addr("192.168.30.10"), Critical: true},
			{Name: "camera", Zone: "iot", MAC: camera, Address: addr("192.168.40.10")},
		},
	}
}

// house is an inventory that has settled.
func house(t *testing.T) *inventory.Inventory {
	t.Helper()
	v := inventory.New(start, inventory.Lists{Vendor: func(m model.MAC) string {
		if m[0] == 0 {
			return "Acme"
		}
		return ""
	}})
	v.Configure(config())
	v.Tick(later)
	return v
}

// texts is what an inventory has to tell.
func texts(v *inventory.Inventory) []string {
	var list []string
	for _, e := range v.Events() {
		list = append(list, string(e.Kind)+": "+e.Text)
	}
	return list
}

func wantTexts(t *testing.T, v *inventory.Inventory, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, texts(v)); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

func client(at time.Time, n int, hostname string) svcconf.DHCPClient {
	return svcconf.DHCPClient{
		Zone: "iot", MAC: mac(n), Address: addr("192.168.40.100"), Hostname: hostname,
		Options: "1,3,6,15", Class: "android-dhcp-14", Seen: at,
	}
}

func TestNewDeviceIsAnnouncedOnceWithItsName(t *testing.T) {
	v := house(t)
	v.Neighbour(inventory.Neighbour{Link: "trunk.40", MAC: mac(100), Addr: addr("192.168.40.100"), Seen: later})
	v.Tick(later.Add(time.Second))
	wantTexts(t, v)
	v.Client(client(later.Add(2*time.Second), 100, "fridge"))
	for i := range 100 {
		v.Tick(later.Add(time.Duration(i) * time.Minute))
	}
	wantTexts(t, v, `new-device: a device that is not in the configuration is in zone iot: 00:16:3e:00:00:64, `+
		`made by "Acme", calls itself "fridge", has the address 192.168.40.100`)
}

func TestKnownDeviceIsNoNews(t *testing.T) {
	v := house(t)
	v.Neighbour(inventory.Neighbour{Link: "trunk.30", MAC: nas, Addr: addr("192.168.30.10"), Seen: later})
	v.Tick(later.Add(time.Minute))
	wantTexts(t, v)
	d := v.Devices()
	if len(d) != 1 || d[0].Name != "nas" || !d[0].Known || !d[0].Critical {
		t.Errorf("got %+v", d)
	}
	// Whoever is taken out of the configuration was there before, all the same.
	c := config()
	c.Devices = nil
	v.Configure(c)
	v.Tick(later.Add(2 * time.Minute))
	wantTexts(t, v)
	if d := v.Devices()[0]; d.Known || d.Title() != nas.String() {
		t.Errorf("got %+v", d)
	}
}

func TestWhatIsThereAtFirstIsNoNews(t *testing.T) {
	v := inventory.New(start, inventory.Lists{})
	v.Configure(config())
	v.Client(client(start.Add(time.Minute), 100, "fridge"))
	v.Tick(later.Add(time.Hour))
	wantTexts(t, v)
	if d := v.Devices(); len(d) != 1 || d[0].Known {
		t.Errorf("got %+v", d)
	}
}

func TestDeviceAsItIsShown(t *testing.T) {
	v := house(t)
	c := client(later, 100, "fridge")
	c.MAC[0] |= 2
	v.Client(c)
	c.Hostname, c.Seen = "freezer", later.Add(time.Hour)
	v.Client(c)
	v.Records(later, []record.Record{{
		Start: later, End: later.Add(2 * time.Hour), Src: record.Side{Zone: "iot", Addr: c.Address},
		Dst: record.Side{Zone: model.Internet, Addr: addr("198.51.100.7"), Port: 443}, Proto: 6, Name: "cloud.example",
		Out: record.Count{Packets: 3, Bytes: 300}, In: record.Count{Packets: 2, Bytes: 200}, Verdict: record.Allowed, App: "https",
	}})
	want := []inventory.Device{{
		MAC: c.MAC, Zone: "iot", First: later, Last: later.Add(2 * time.Hour), Randomised: true,
		Hostnames:   []string{"freezer", "fridge"},
		Addresses:   []inventory.Used{{Address: c.Address, Last: later.Add(time.Hour)}},
		Fingerprint: inventory.Fingerprint{Options: "1,3,6,15", Class: "android-dhcp-14"},
		Talks: []inventory.Talk{{
			Peer: "cloud.example", Zone: "internet", Service: "tcp/443", App: "https", Connections: 1, Bytes: 500, Last: later.Add(2 * time.Hour),
		}},
		Traffic:  inventory.Traffic{Hour: start, Bytes: []uint64{500}},
		Learning: true,
	}}
	if diff := cmp.Diff(want, v.Devices(), addrs); diff != "" {
		t.Errorf("devices differ (-want +got):\n%s", diff)
	}
}

// What an isolated machine asks is answered by the box: nobody else has heard of it.
func TestIsolatedDeviceTalksToNobody(t *testing.T) {
	v := house(t)
	c := client(later, 100, "fridge")
	v.Client(c)
	v.Records(later, []record.Record{{
		Start: later, End: later, Src: record.Side{Zone: "iot", Addr: c.Address},
		Dst: record.Side{Zone: model.Internet, Addr: addr("198.51.100.7"), Port: 80}, Proto: 6,
		Verdict: record.Allowed, Rule: svcconf.NoticeRule,
	}})
	if d := v.Devices()[0]; len(d.Talks) > 0 {
		t.Errorf("it talks to %+v", d.Talks)
	}
}

// TestZoneWithoutNamesHasNone holds the privacy of a zone: who has an address is known,
// and still not looked up.
func TestZoneWithoutNamesHasNone(t *testing.T) {
	v := house(t)
	v.Neighbour(inventory.Neighbour{Link: "trunk.50", MAC: mac(7), Addr: addr("192.168.50.7"), Seen: later})
	v.Records(later, []record.Record{{
		End: later.Add(time.Hour), Src: record.Side{Zone: "guest", Addr: addr("192.168.50.7")},
		Dst: record.Side{Zone: model.Internet, Addr: addr("198.51.100.7"), Port: 443}, Proto: 6, Verdict: record.Allowed,
	}})
	if d := v.Devices()[0]; len(d.Talks) > 0 || !d.Last.Equal(later) {
		t.Errorf("the records were used: %+v", d)
	}
}

func TestForeignDHCPServer(t *testing.T) {
	v := house(t)
	s := svcconf.DHCPServer{Zone: "iot", Server: addr("192.168.40.66"), Client: camera, Seen: later}
	for i := range 30 { // within a day it is told once
		v.Server(later.Add(time.Duration(i)*time.Hour), svcconf.DHCPServer{Zone: s.Zone, Server: s.Server, Client: s.Client, Seen: later.Add(time.Duration(i) * time.Hour)})
		v.Tick(later.Add(time.Duration(i) * time.Hour))
	}
	v.Server(later.Add(100*time.Hour), s) // is long past
	want := "foreign-dhcp: zone iot has a DHCP server that is not the box: 00:16:3e:00:00:40 takes what 192.168.40.66 offers it"
	wantTexts(t, v, want, want)
}

func refused(at time.Time, src string, dst record.Side) record.Record {
	return record.Record{
		Start: at, End: at.Add(time.Second), Src: record.Side{Zone: "iot", Addr: addr(src)}, Dst: dst, Proto: 6,
		Out: record.Count{Packets: 1, Bytes: 60}, Verdict: record.Refused, Reason: "no rule",
	}
}

func TestRefusedAtCriticalDevice(t *testing.T) {
	v := house(t)
	var list []record.Record
	for port := range 10 {
		list = append(list, refused(later, "192.168.40.5", record.Side{Zone: "storage", Device: "nas", Addr: addr("192.168.30.10"), Port: uint16(445 + port)}))
	}
	list = append(list, refused(later, "192.168.40.5", record.Side{Zone: "iot", Device: "camera", Port: 80}))
	v.Records(later, list)
	events := v.Events()
	if len(events) != 1 {
		t.Fatalf("got %d events: %v", len(events), events)
	}
	want := record.Event{
		Time: later, Kind: record.CriticalHit, Side: list[0].Src, Peer: list[0].Dst, Rule: "no rule",
		Text: `"192.168.40.5" in zone iot was refused at tcp/445 of "nas", which is critical`, Key: "critical/iot/192.168.40.5/nas",
	}
	if diff := cmp.Diff(want, events[0], addrs); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
}

func TestCriticalDeviceIsFoundInAZoneWithoutNames(t *testing.T) {
	v := house(t)
	v.Records(later, []record.Record{refused(later, "192.168.40.5", record.Side{Zone: "storage", Addr: addr("192.168.30.10"), Port: 445})})
	wantTexts(t, v, `critical: "192.168.40.5" in zone iot was refused at tcp/445 of "nas", which is critical`)
}

func TestPortScan(t *testing.T) {
	port := func(n int) record.Side {
		return record.Side{Zone: "storage", Addr: addr("192.168.30.99"), Port: uint16(n)}
	}
	host := func(n int) record.Side {
		return record.Side{Zone: "storage", Addr: addr(fmt.Sprintf("192.168.30.%d", 100+n)), Port: 22}
	}
	cloud := func(n int) record.Side {
		return record.Side{Zone: model.Internet, Addr: addr(fmt.Sprintf("198.51.100.%d", n)), Port: 443}
	}
	for name, test := range map[string]struct {
		dst  func(int) record.Side
		n    int
		step time.Duration
		want string
	}{
		"ports":               {port, inventory.ScanTargets, time.Second, "20 ports"},
		"addresses":           {host, inventory.ScanTargets, time.Second, "20 addresses"},
		"too few":             {port, inventory.ScanTargets - 1, time.Second, ""},
		"too slow":            {port, 200, 4 * time.Second, ""},
		"looks for its cloud": {cloud, 200, time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := house(t)
			for i := range test.n {
				at := later.Add(time.Duration(i) * test.step)
				v.Records(at, []record.Record{refused(at, "192.168.40.5", test.dst(1+i))})
				v.Tick(at)
			}
			got := texts(v)
			if test.want == "" && got != nil || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestInternetScansAreNoNews: somebody always does.
func TestInternetScansAreNoNews(t *testing.T) {
	v := house(t)
	for port := range 1000 {
		r := refused(later, "203.0.113.5", record.Side{Zone: model.Box, Port: uint16(port)})
		r.Src.Zone = model.Internet
		v.Records(later, []record.Record{r})
	}
	wantTexts(t, v)
}

func allowed(at time.Time, dst string, port uint16) record.Record {
	return record.Record{
		Start: at, End: at, Src: record.Side{Zone: "iot", Device: "camera", MAC: camera, Addr: addr("192.168.40.10")},
		Dst: record.Side{Zone: model.Internet, Addr: addr(dst), Port: port}, Proto: 6, Verdict: record.Allowed, Rule: "updates",
	}
}

// watch has the box run for a while.
func watch(v *inventory.Inventory, from time.Time, d time.Duration) time.Time {
	for end := from.Add(d); from.Before(end); from = from.Add(time.Minute) {
		v.Tick(from)
	}
	return from
}

func TestNewBehaviour(t *testing.T) {
	v := house(t)
	now := later
	v.Records(now, []record.Record{allowed(now, "198.51.100.7", 443)})
	now = watch(v, now, inventory.LearnTime-time.Hour)
	v.Records(now, []record.Record{allowed(now, "203.0.113.1", 443)})
	wantTexts(t, v) // still learning
	now = watch(v, now, 2*time.Hour)
	for range 3 {
		v.Records(now, []record.Record{
			allowed(now, "198.51.7.7", 443), allowed(now, "203.0.1.1", 443), // the same networks
			allowed(now, "192.0.2.1", 443), allowed(now, "198.51.100.7", 23),
		})
	}
	wantTexts(t, v,
		`new-behaviour: "camera" reached 192.0.0.0/16 on the internet ("192.0.2.1") for the first time`,
		`new-behaviour: "camera" reached tcp/23 of internet ("198.51.100.7") for the first time`)
	v.Records(now, []record.Record{allowed(now, "9.9.9.9", 853), allowed(now, "8.8.8.8", 853)})
	wantTexts(t, v, `new-behaviour: "camera" reached tcp/853 of internet ("9.9.9.9") for the first time; nothing more of this kind is said of it for a day`)
	now = watch(v, now, 25*time.Hour)
	v.Records(now, []record.Record{allowed(now, "1.1.1.1", 853)})
	wantTexts(t, v, `new-behaviour: "camera" reached 1.1.0.0/16 on the internet ("1.1.1.1") for the first time`)
}

// TestNewCountry: where the country of an address is known it counts, and not the network.
// A box that learns of countries later goes by the networks that it has seen.
func TestNewCountry(t *testing.T) {
	v := house(t)
	now := later
	v.Records(now, []record.Record{allowed(now, "203.0.1.1", 443)}) // no list yet
	now = watch(v, now, inventory.LearnTime+time.Hour)
	wantTexts(t, v)
	data, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	where := map[string]string{"203.0.1.1": "NL", "203.0.7.7": "BE", "192.0.2.1": "NL", "9.9.9.9": "US", "8.8.8.8": "US"}
	lists := inventory.Lists{Country: func(a netip.Addr) string { return where[a.String()] }}
	for range 2 { // it remembers
		if v, err = inventory.Decode(data, lists); err != nil {
			t.Fatal(err)
		}
		v.Configure(config())
		v.Records(now, []record.Record{allowed(now, "203.0.1.1", 443), allowed(now, "203.0.7.7", 443), allowed(now, "192.0.2.1", 443)})
		wantTexts(t, v)
		if data, err = v.Encode(); err != nil {
			t.Fatal(err)
		}
	}
	v.Records(now, []record.Record{allowed(now, "9.9.9.9", 443), allowed(now, "8.8.8.8", 443), allowed(now, "7.7.7.7", 443)})
	wantTexts(t, v,
		`new-behaviour: "camera" reached country US ("9.9.9.9") for the first time`,
		`new-behaviour: "camera" reached 7.7.0.0/16 on the internet ("7.7.7.7") for the first time`)
}

// TestClockThatIsSetTeachesNothing: a box without a clock begins in 1970.
func TestClockThatIsSetTeachesNothing(t *testing.T) {
	v := house(t)
	v.Records(later, []record.Record{allowed(later, "198.51.100.7", 443)})
	now := later.Add(365 * 24 * time.Hour)
	v.Tick(now)
	v.Records(now, []record.Record{allowed(now, "192.0.2.1", 23)})
	wantTexts(t, v)
}

func TestDeviceThatDoesEverythingHasNoHabits(t *testing.T) {
	v := house(t)
	now := later
	for i := range 300 {
		v.Records(now, []record.Record{allowed(now, fmt.Sprintf("%d.1.1.1", i%200+1), uint16(i))})
	}
	now = watch(v, now, inventory.LearnTime+time.Hour)
	v.Records(now, []record.Record{allowed(now, "222.1.1.1", 23)})
	wantTexts(t, v)
	if d := v.Devices()[0]; !d.Varied || d.Learning || len(d.Talks) != 16 {
		t.Errorf("got %+v", d)
	}
}

func TestFloodOfDevicesIsBounded(t *testing.T) {
	v := house(t)
	v.Neighbour(inventory.Neighbour{Link: "trunk.30", MAC: nas, Addr: addr("192.168.30.10"), Seen: later})
	for i := range 3 * inventory.MaxDevices {
		at := later.Add(time.Duration(i+1) * time.Second)
		c := client(at, 0x10000+i, "")
		c.Address = netip.Addr{}
		v.Client(c)
		if i%20 == 0 {
			v.Tick(at)
		}
	}
	d := v.Devices()
	if len(d) > inventory.MaxDevices {
		t.Errorf("%d devices are remembered", len(d))
	}
	if last := d[len(d)-1]; last.Name != "nas" {
		t.Errorf("a device of the configuration made room for strangers; the oldest is %+v", last)
	}
	if d[0].MAC != mac(0x10000+3*inventory.MaxDevices-1) {
		t.Error("the latest stranger was forgotten")
	}
	events := v.Events()
	if hours := 3*inventory.MaxDevices/3600 + 1; len(events) > 60*hours {
		t.Errorf("%d events in %d hours", len(events), hours)
	}
	if last := events[59].Text; !strings.Contains(last, "; nothing more of this kind is said before") {
		t.Errorf("the last event of the hour does not say so: %s", last)
	}
}

// TestStrangersNamesStayInTheirPlace: a hostile device or domain puts nothing into a
// terminal, a log or a mail.
func TestStrangersNamesStayInTheirPlace(t *testing.T) {
	v := house(t)
	hostile := "x\x1b[2J\r\nBcc: me\"\u202e" + strings.Repeat("a", 1000)
	c := client(later, 100, hostile)
	c.Class, c.Options = hostile, hostile
	v.Client(c)
	now := watch(v, later, inventory.LearnTime+time.Hour)
	r := allowed(now, "198.51.100.7", 443)
	r.Src = record.Side{Zone: "iot", MAC: c.MAC, Addr: c.Address}
	r.Name = hostile
	v.Records(now, []record.Record{r})
	events := v.Events()
	if len(events) != 2 {
		t.Fatalf("got %d events", len(events))
	}
	plain := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) && len(s) < 1000
	}
	for _, e := range events {
		if !plain(e.Text) || !plain(e.Key) {
			t.Errorf("%q", e.Text)
		}
	}
	for _, d := range v.Devices() {
		for _, s := range append(d.Hostnames, d.Fingerprint.Class, d.Fingerprint.Options, d.Title(), d.Talks[0].Peer) {
			if !plain(s) {
				t.Errorf("%q", s)
			}
		}
	}
}

func TestInventoryComesBackAsItWas(t *testing.T) {
	v := house(t)
	v.Client(client(later, 100, "fridge"))
	v.Server(later, svcconf.DHCPServer{Zone: "iot", Server: addr("192.168.40.66"), Seen: later})
	v.Records(later, []record.Record{allowed(later, "198.51.100.7", 443)})
	now := watch(v, later, inventory.LearnTime+time.Hour)
	v.Events()
	data, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w, err := inventory.Decode(data, inventory.Lists{})
	if err != nil {
		t.Fatal(err)
	}
	w.Configure(config())
	if diff := cmp.Diff(v.Devices(), w.Devices(), addrs); diff != "" {
		t.Errorf("devices differ (-want +got):\n%s", diff)
	}
	w.Tick(now)
	wantTexts(t, w)
	w.Records(now, []record.Record{allowed(now, "198.51.100.7", 443), allowed(now, "198.51.100.7", 23)})
	wantTexts(t, w, `new-behaviour: "camera" reached tcp/23 of internet ("198.51.100.7") for the first time`)
}

// TestWorstInventoryCanBeReadAgain fills everything that strangers can fill.
func TestWorstInventoryCanBeReadAgain(t *testing.T) {
	v := house(t)
	long := strings.Repeat("x", 255)
	for n := range inventory.MaxDevices {
		m := mac(0x10000 + n)
		var list []record.Record
		for i := range 10 {
			c := svcconf.DHCPClient{Zone: "iot", MAC: m, Address: netip.AddrFrom4([4]byte{10, byte(i), byte(n >> 8), byte(n)}),
				Hostname: fmt.Sprint(i, long), Options: long, Class: long, Seen: later}
			v.Client(c)
			r := allowed(later, fmt.Sprintf("%d.%d.1.1", 1+i, n%256), uint16(1000+i))
			r.Src = record.Side{Zone: "iot", MAC: m}
			r.Name, r.App = fmt.Sprint(i, long), "https"
			list = append(list, r)
		}
		for i := range inventory.Hours {
			r := allowed(later.Add(-time.Duration(i)*time.Hour), "9.9.9.9", 443)
			r.Src, r.Out.Bytes = record.Side{Zone: "iot", MAC: m}, 1<<63
			list = append(list, r)
		}
		v.Records(later, list)
	}
	data, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > inventory.MaxFile {
		t.Errorf("%d bytes are too many to be read again", len(data))
	}
	w, err := inventory.Decode(data, inventory.Lists{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(w.Devices()), len(v.Devices()); got != want {
		t.Errorf("%d of %d devices came back", got, want)
	}
	t.Logf("%d devices, %d bytes", len(v.Devices()), len(data))
}

// FuzzDecode holds that no file makes more than there may be.
func FuzzDecode(f *testing.F) {
	v := inventory.New(start, inventory.Lists{})
	v.Configure(config())
	v.Client(client(later, 100, "fridge"))
	v.Records(later, []record.Record{allowed(later, "198.51.100.7", 443)})
	v.Tick(later.Add(time.Hour))
	data, err := v.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"began":"2026-11-27T12:00:00Z","devices":[{"mac":"00:00:00:00:00:01","addresses":[{}],"habits":[{}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := inventory.Decode(data, inventory.Lists{})
		if err != nil {
			return
		}
		v.Configure(config())
		v.Tick(later)
		v.Records(later, []record.Record{allowed(later, "198.51.100.7", 443)})
		for _, d := range v.Devices() {
			if len(d.Addresses) > 8 || len(d.Hostnames) > 4 || len(d.Talks) > 16 {
				t.Errorf("too much: %+v", d)
			}
		}
		if _, err := v.Encode(); err != nil {
			t.Error(err)
		}
	})
}
