//go:build linux

package webui_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

// quarantine is who is isolated in the sample.
type quarantine struct {
	mu   sync.Mutex
	list []api.Isolation
}

func newQuarantine() *quarantine {
	return &quarantine{list: []api.Isolation{{
		Machine: "52:54:00:99:00:07", MAC: model.MAC{0x52, 0x54, 0, 0x99, 0, 7}, Addresses: []netip.Addr{netip.MustParseAddr("192.168.40.107")},
		Since: sampleNow.Add(-20 * time.Minute), Until: sampleNow.Add(time.Hour), Author: "kim", Why: "it knocks at every door",
	}}}
}

func (q *quarantine) Isolated(context.Context) ([]api.Isolation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.list), nil
}

func (q *quarantine) Isolate(_ context.Context, in api.Isolate) (*api.Isolation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if in.Machine == "nas" {
		return nil, api.Tell(api.ErrInvalid, fmt.Errorf("isolating nas would lock you out"))
	}
	is := api.Isolation{Machine: in.Machine, Since: sampleNow, Until: in.Until, Author: in.Author, Via: in.Via, Why: in.Why}
	if i := slices.IndexFunc(sampleDevices, func(d api.Device) bool { return d.Name == in.Machine }); i >= 0 {
		is.Device, is.MAC = in.Machine, sampleDevices[i].MAC
	} else if mac, err := model.ParseMAC(in.Machine); err == nil {
		is.MAC = mac
	} else {
		return nil, api.Unknown(fmt.Errorf("no device is called %q", in.Machine))
	}
	q.list = append(q.list, is)
	return &is, nil
}

func (q *quarantine) Release(_ context.Context, in api.Release) (*api.Isolation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.list, func(is api.Isolation) bool { return is.Machine == in.Machine })
	if i < 0 {
		return nil, api.Tell(api.ErrNothing, fmt.Errorf("%s is not isolated", in.Machine))
	}
	is := q.list[i]
	q.list = slices.Delete(q.list, i, i+1)
	return &is, nil
}

// sampleNow is when pictures are taken.
var sampleNow = time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)

var sampleDevices = []api.Device{
	{Name: "nas", Zone: "storage", MAC: model.MAC{0x52, 0x54, 0, 0x30, 0, 0x10}, Address: netip.MustParseAddr("192.168.30.10"), Owner: "alex", Purpose: "backups", Critical: true},
	{Name: "nextcloud", Zone: "services", MAC: model.MAC{0x52, 0x54, 0, 0x20, 0, 0x11}, Address: netip.MustParseAddr("192.168.20.11"), Owner: "alex", Purpose: "file sharing"},
	{Name: "tv", Zone: "iot", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Address: netip.MustParseAddr("192.168.40.12"), Given: true, Owner: "kim", Purpose: "television", Note: "Its remote is in the drawer. Software of 2025, no <b>updates</b> since."},
	{Name: "camera-door", Zone: "iot", MAC: model.MAC{0x9c, 0x8e, 0xcd, 0x01, 0x22, 0x33}, Owner: "alex", Purpose: "sees who is at the door"},
	{Name: "laptop-anna", Zone: "admin", MAC: model.MAC{0x3c, 0x22, 0xfb, 0x10, 0x20, 0x30}, Owner: "anna"},
}

func (sample) Devices(context.Context) ([]api.Device, error) { return sampleDevices, nil }

func (sample) Leases(context.Context) ([]svcconf.Lease, error) {
	list := []svcconf.Lease{
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.12"), MAC: sampleDevices[2].MAC, Hostname: "bravia", Device: "tv"},
		{Zone: "admin", Address: netip.MustParseAddr("192.168.10.23"), MAC: sampleDevices[4].MAC, Hostname: "anna-mbp", Device: "laptop-anna"},
		{Zone: "guest", Address: netip.MustParseAddr("192.168.50.101"), MAC: model.MAC{0xda, 0xa1, 0x19, 0x4e, 0x10, 0x02}, Hostname: "pixel-9"},
	}
	for i := range list {
		list[i].Granted = sampleNow.Add(-time.Duration(i+1) * 17 * time.Minute)
		list[i].Expires = list[i].Granted.Add(12 * time.Hour)
	}
	return list, nil
}

// LeaseHistory is of devices as hostile as can be; only the television had more than one.
func (sample) LeaseHistory(_ context.Context, device string) (*svcconf.LeaseHistory, error) {
	ago := func(hours int) time.Time { return sampleNow.Add(-time.Duration(hours) * time.Hour) }
	list := []svcconf.PastLease{
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.12"), MAC: sampleDevices[2].MAC, Hostname: "bravia", First: ago(70), Renewed: ago(1), Ends: ago(-11)},
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.77"), MAC: sampleDevices[2].MAC, Hostname: "<script>alert(1)</script>", First: ago(320), Renewed: ago(290), Ends: ago(278)},
		{Address: netip.MustParseAddr("192.168.4.112"), MAC: sampleDevices[2].MAC, First: ago(900), Renewed: ago(900), Ends: ago(888)},
	}
	if device == "nobody" {
		return nil, api.Unknown(fmt.Errorf("no device is called %q, and it is no MAC", device))
	}
	if device != "" && device != "tv" && device != sampleDevices[2].MAC.String() {
		list = list[:0]
	}
	return &svcconf.LeaseHistory{Leases: list}, nil
}

// Contacts says the same of everybody.
func (sample) Contacts(_ context.Context, of string) (*api.Contacts, error) {
	return &api.Contacts{
		Of: of,
		To: []api.Verdict{
			{From: of, To: "nas", Services: []string{"tcp/445", "tcp/8096"}, Allow: true, Rule: "tv-films", Why: "the television shows what is on the nas"},
			{From: of, To: "internet", Services: []string{"tcp/443", "udp/443"}, Allow: true, Rule: "streaming", Why: "films of the television's maker"},
			{From: of, To: "internet", Services: []string{"tcp/80"}, Rule: "no-plain-web", Why: "nothing is fetched that somebody may have changed"},
			{From: of, To: "box", Services: []string{"tcp/53", "udp/53"}, Allow: true, Rule: "box:dns"},
		},
		From: []api.Verdict{{From: "admin", To: of, Services: []string{"any"}, Allow: true, Rule: "administration", Why: "admins look after everything"}},
	}, nil
}

// sampleSeen are the devices that flowd has seen. What they call themselves is their choice.
func sampleSeen() []inventory.Device {
	d := func(mac model.MAC, zone string, ago time.Duration, addr string) inventory.Device {
		dev := inventory.Device{MAC: mac, Zone: zone, First: sampleNow.AddDate(0, 0, -40), Last: sampleNow.Add(-ago), Randomised: mac[0]&2 != 0}
		if i := slices.IndexFunc(sampleDevices, func(d api.Device) bool { return d.MAC == mac }); i >= 0 {
			dev.Name, dev.Known, dev.Critical = sampleDevices[i].Name, true, sampleDevices[i].Critical
		}
		if addr != "" {
			dev.Addresses = []inventory.Used{{Address: netip.MustParseAddr(addr), Last: dev.Last}}
		}
		return dev
	}
	list := []inventory.Device{
		d(sampleDevices[0].MAC, "storage", 15*time.Second, "192.168.30.10"),
		d(sampleDevices[1].MAC, "services", 40*time.Second, "192.168.20.11"),
		d(sampleDevices[2].MAC, "iot", time.Minute, "192.168.40.12"),
		d(sampleDevices[3].MAC, "iot", 2*time.Minute, "192.168.40.31"),
		d(model.MAC{0xda, 0xa1, 0x19, 0x4e, 0x10, 0x02}, "guest", 9*time.Minute, "192.168.50.101"),
		d(model.MAC{0x52, 0x54, 0, 0x99, 0, 7}, "iot", 21*time.Minute, "192.168.40.107"),
		d(model.MAC{0x00, 0x17, 0x88, 0x42, 0x01, 0x99}, "iot", 26*time.Hour, "192.168.40.108"),
	}
	list[2].Vendor, list[2].Hostnames, list[2].Fingerprint.Class = "Sony Visual Products Inc.", []string{"bravia"}, "udhcp 1.33"
	list[2].Addresses = append(list[2].Addresses, inventory.Used{Address: netip.MustParseAddr("192.168.40.77"), Last: sampleNow.AddDate(0, 0, -12)})
	list[2].Talks = []inventory.Talk{
		{Peer: "nas", Zone: "storage", Service: "tcp/445", App: "smb", Connections: 41, Bytes: 18_200_000_000, Last: sampleNow.Add(-time.Minute)},
		{Peer: "cdn.films.example", Zone: "internet", Service: "tcp/443", App: "https", Connections: 380, Bytes: 7_450_000_000, Last: sampleNow.Add(-3 * time.Hour)},
		{Peer: "box", Zone: "box", Service: "udp/53", App: "dns", Connections: 2210, Bytes: 612_000, Last: sampleNow.Add(-time.Minute)},
	}
	list[3].Vendor = "Zhejiang Dahua Technology Co., Ltd."
	list[4].Hostnames, list[4].First, list[4].Learning = []string{"pixel-9"}, sampleNow.Add(-2*time.Hour), true
	list[5].Hostnames, list[5].First, list[5].Learning = []string{`<script>alert("x")</script>`, "x' onclick='1"}, sampleNow.Add(-time.Hour), true
	list[6].Vendor, list[6].Hostnames, list[6].First = "Signify B.V.", []string{"hue-bridge"}, sampleNow.AddDate(0, 0, -2)
	for i := range list[:5] {
		hours := make([]uint64, inventory.Hours)
		for h := range hours {
			hours[h] = uint64(i+1) * 1_000_000 * uint64((h*h*(i+3)+7*h)%29)
		}
		list[i].Traffic = inventory.Traffic{Hour: time.Now().UTC().Truncate(time.Hour), Bytes: hours}
	}
	return list
}

func sampleEvents() []record.Event {
	iot := func(mac model.MAC, addr string) record.Side {
		return record.Side{Zone: "iot", MAC: mac, Addr: netip.MustParseAddr(addr)}
	}
	bad := iot(model.MAC{0x52, 0x54, 0, 0x99, 0, 7}, "192.168.40.107")
	tv := record.Side{Zone: "iot", Device: "tv", MAC: sampleDevices[2].MAC}
	return []record.Event{
		{Time: sampleNow.Add(-20 * time.Minute), Kind: record.Isolated, Side: bad, Text: "kim isolated 52:54:00:99:00:07 until 2026-11-27 19:00 UTC"},
		{Time: sampleNow.Add(-22 * time.Minute), Kind: record.PortScan, Side: bad, Text: "192.168.40.107 in zone iot was refused at 20 ports within a minute"},
		{Time: sampleNow.Add(-23 * time.Minute), Kind: record.CriticalHit, Side: bad, Peer: record.Side{Zone: "storage", Device: "nas", MAC: sampleDevices[0].MAC}, Text: `"192.168.40.107" in zone iot was refused at tcp/22 of "nas", which is critical`},
		{Time: sampleNow.Add(-time.Hour), Kind: record.NewDevice, Side: bad, Text: `a device that is not in the configuration is in zone iot: 52:54:00:99:00:07, calls itself "<script>alert(\"x\")</script>", has the address 192.168.40.107`},
		{Time: sampleNow.Add(-5 * time.Hour), Kind: record.ForeignDHCP, Side: record.Side{Zone: "guest", Addr: netip.MustParseAddr("192.168.50.66")}, Peer: record.Side{Zone: "guest", MAC: model.MAC{0xda, 0xa1, 0x19, 0x4e, 0x10, 0x02}}, Text: "zone guest has a DHCP server that is not the box: da:a1:19:4e:10:02 takes what 192.168.50.66 offers it"},
		{Time: sampleNow.AddDate(0, 0, -1), Kind: record.NewBehaviour, Side: tv, Text: `"tv" uses tcp/8883 of the internet, which it never did`},
	}
}

// sampleFlowd is a made-up flowd of the same network.
func sampleFlowd() *http.ServeMux {
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /v1/devices/seen", func(w http.ResponseWriter, r *http.Request) {
		list := sampleSeen()
		f := inventory.Filter{Device: r.URL.Query().Get("device"), Zone: r.URL.Query().Get("zone")}
		list = slices.DeleteFunc(list, func(d inventory.Device) bool { return !f.Match(&d) })
		for i := range list {
			if f.Device == "" {
				list[i].Talks = nil
			}
		}
		say(w, list)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		say(w, slices.DeleteFunc(sampleEvents(), func(e record.Event) bool {
			is := func(s record.Side) bool {
				d := q.Get("device")
				return d == "" || s.Device == d || s.MAC.String() == d
			}
			return q.Get("kind") != "" && q.Get("kind") != string(e.Kind) || q.Get("zone") != "" && q.Get("zone") != e.Side.Zone || !is(e.Side) && !is(e.Peer)
		}))
	})
	mux.HandleFunc("GET /v1/flows/needs", func(w http.ResponseWriter, _ *http.Request) {
		say(w, flows.Needs{Needs: sampleNeeds(), Used: map[string]int{"browsing": 30, "admin": 90}, Oldest: sampleNow.AddDate(0, -4, 0)})
	})
	mux.HandleFunc("GET /v1/flows/top", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("per") == "rule" {
			say(w, sampleUses(r.URL.Query()))
			return
		}
		if q := r.URL.Query(); q.Get("by") == "refused" {
			say(w, []record.Sum{{Key: "nas", Zone: "storage", Refused: 12}, {Key: "198.51.100.7", Zone: "internet", Refused: 3}})
			return
		}
		list := []record.Sum{
			{Key: "cdn.films.example", Zone: "internet", Connections: 380, In: record.Count{Bytes: 7_410_000_000}, Out: record.Count{Bytes: 40_000_000}},
			{Key: "nas", Zone: "storage", Connections: 41},
			{Key: "time.box.example", Zone: "internet", Connections: 31, In: record.Count{Bytes: 2_356}},
			{Key: "203.0.113.9", Zone: "internet", Connections: 2},
		}
		slices.SortFunc(list, func(a, b record.Sum) int { return cmp.Compare(b.Connections, a.Connections) })
		say(w, list)
	})
	answerFlows(mux)
	return mux
}

func (sample) Zones(context.Context) (list []api.Zone, err error) {
	for i, name := range []string{"admin", "services", "storage", "iot", "guest"} {
		id := byte(10 * (i + 1))
		list = append(list, api.Zone{
			Name: name, Port: "trunk", VLAN: uint16(id), Link: fmt.Sprintf("trunk.%d", id), Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, id, 0}), 24),
			Gateway: netip.AddrFrom4([4]byte{192, 168, id, 1}), Admin: name == "admin", DHCP: true, DNS: true,
		})
	}
	return list, nil
}
