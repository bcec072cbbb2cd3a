//go:build linux

package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/probe"
	"bulkhead/services/run"
	"bulkhead/services/sock"
	"bulkhead/services/update/gate"
)

// house is a box's programs, such as they are.
type house struct {
	t    *testing.T
	dirs run.Dirs
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t, run.Dirs{Run: t.TempDir(), State: t.TempDir()}}
	for _, dir := range []string{h.dirs.RunDir("dhcpd"), h.dirs.RunDir("dnsd"), h.dirs.RunDir("updated"), h.dirs.StateDir("netcfgd")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *house) write(path string, v any) {
	h.t.Helper()
	data, ok := v.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(v); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// netcfgd answers with netcfgd's own idea of a status.
func (h *house) netcfgd(status api.Status) {
	h.t.Helper()
	l, err := sock.Listen(filepath.Join(h.dirs.Run, api.SocketFile), -1)
	if err != nil {
		h.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(status); err != nil {
			h.t.Error(err)
		}
	})}
	h.t.Cleanup(func() { server.Close() })
	go func() { _ = server.Serve(l) }()
}

// probe answers a service's probes.
func (h *house) probe(service string, answer func(zone string, msg []byte) []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		_ = probe.Serve(ctx, slog.New(slog.DiscardHandler), filepath.Join(h.dirs.RunDir(service), svcconf.ProbeSocket),
			func(_ context.Context, zone string, msg []byte) []byte { return answer(zone, msg) })
	})
	h.t.Cleanup(func() { cancel(); done.Wait() })
}

// offer answers a DISCOVER as dhcpd would.
func offer(t *testing.T, msg []byte, address string) []byte {
	discover, err := dhcpv4.FromBytes(msg)
	if err != nil || discover.MessageType() != dhcpv4.MessageTypeDiscover {
		t.Errorf("dhcpd was asked %v, %v", discover, err)
		return nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(discover, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
		dhcpv4.WithYourIP(netip.MustParseAddr(address).AsSlice()))
	if err != nil {
		t.Error(err)
		return nil
	}
	return reply.ToBytes()
}

// resolve answers a question as dnsd would.
func resolve(t *testing.T, msg []byte, address string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil || m.Questions[0].Name.String() != "gw.home.arpa." {
		t.Errorf("dnsd was asked %v, %v", m.Questions, err)
		return nil
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
	}}
	out, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return out
}

func TestEveryServiceIsAskedForReal(t *testing.T) {
	h := newHouse(t)
	confirmed := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	h.netcfgd(api.Status{
		Mode: api.Running, Confirmed: &api.Confirmed{Number: 3, Time: confirmed, Author: "alex"},
		Uplink: &facts.Lease{Address: netip.MustParsePrefix("203.0.113.2/24")}, Troubles: []string{"trouble"}, Missing: []string{"port wan"},
	})
	h.write(filepath.Join(h.dirs.StateDir("netcfgd"), "confirmed.yaml"), []byte("system: {}\n"))
	zone := netip.MustParsePrefix("192.168.40.1/24")
	h.write(h.dirs.Config("updated"), svcconf.Update{
		Admin: []netip.Addr{admin, netip.MustParseAddr("192.168.11.1")}, Uplink: true,
		DHCP: []svcconf.UpdateDHCP{{Zone: "iot", Address: zone}, {Zone: "wrong", Address: zone}, {Zone: "silent", Address: zone}},
		DNS:  []svcconf.UpdateDNS{{Zone: "iot", Name: "gw.home.arpa", Address: zone.Addr()}, {Zone: "wrong", Name: "gw.home.arpa", Address: zone.Addr()}},
	})
	h.probe("dhcpd", func(zone string, msg []byte) []byte {
		return map[string][]byte{"iot": offer(t, msg, "192.168.40.100"), "wrong": offer(t, msg, "192.168.41.100")}[zone]
	})
	h.probe("dnsd", func(zone string, msg []byte) []byte {
		return map[string][]byte{"iot": resolve(t, msg, "192.168.40.1"), "wrong": resolve(t, msg, "192.168.41.1")}[zone]
	})
	a := gate.NewAsker(h.dirs)
	a.SetGet(func(_ context.Context, url string) error {
		if url != "https://192.168.10.1:443/api/v1/health" {
			return errors.New("no answer from " + url)
		}
		return nil
	})
	got := a.Look(t.Context())
	want := gate.Look{
		Before: gate.Before{
			Netcfgd: &gate.Netcfgd{Mode: "running", Confirmed: &gate.Confirmed{Number: 3, Time: confirmed}, Uplink: true, Troubles: []string{"trouble"}},
		},
		Config: got.Config,
		DHCP:   map[string]string{"iot": "", "wrong": "OFFER of 192.168.41.100 is no offer of an address in 192.168.40.0/24", "silent": "no answer"},
		DNS:    map[string]string{"iot": "", "wrong": "gw.home.arpa is not 192.168.40.1"},
		Admin:  map[netip.Addr]string{admin: "", netip.MustParseAddr("192.168.11.1"): "no answer from https://192.168.11.1:443/api/v1/health"},
	}
	want.Digest = got.Digest
	if len(got.Digest) != 64 {
		t.Errorf("digest: got %q", got.Digest)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("look (-want +got):\n%s", diff)
	}
	before := a.Before(t.Context())
	silent := []string{"DHCP in zone wrong", "DHCP in zone silent", "DNS in zone wrong", "the management address 192.168.11.1"}
	if diff := cmp.Diff(silent, before.Silent); diff != "" {
		t.Errorf("silent before (-want +got):\n%s", diff)
	}
	if bad := gate.Judge(before, got); len(bad) > 0 {
		t.Errorf("worse than itself: %q", bad)
	}
}

func TestMissingProgramsAreSaid(t *testing.T) {
	h := newHouse(t)
	l := gate.NewAsker(h.dirs).Look(t.Context())
	if l.Netcfgd != nil || l.NoNetcfgd == "" || l.Digest != "" {
		t.Errorf("got %+v", l)
	}
}
