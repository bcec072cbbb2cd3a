//go:build linux

package lab

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
)

// bare is a lab whose gateway only forwards, to test the lab itself: two zones on
// whole ports and an internet, with addresses by hand.
func bare(t *testing.T, w *World) *Lab {
	t.Helper()
	mac := func(s string) model.MAC {
		m, err := model.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ports := []*model.Port{
		{Name: "wan", MAC: mac("52:54:00:10:00:01")}, {Name: "a", MAC: mac("52:54:00:10:00:02")}, {Name: "b", MAC: mac("52:54:00:10:00:03")},
	}
	cfg := &model.Config{Ports: ports, Uplink: &model.Uplink{Port: ports[0]}}
	l := &Lab{World: w, Config: cfg, Uplink: netip.MustParsePrefix("203.0.113.2/24")}
	for i, name := range []string{"red", "blue"} {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24)
		z := &model.Zone{Name: name, Port: ports[i+1], Subnet: subnet, Gateway: subnet.Addr().Next()}
		cfg.Zones = append(cfg.Zones, z)
		c := stranger(name+"-pc", z, i)
		c.Addr = z.Gateway.Next()
		l.Clients = append(l.Clients, c)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.build(); err != nil {
		t.Fatal(err)
	}
	if err := l.Gateway.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	gw := "link set dev wan up\naddr add 203.0.113.2/24 dev wan\nroute add default via 203.0.113.1\n"
	for _, c := range l.Clients {
		gw += "link set dev " + c.Zone.Port.Name + " up\naddr add " + c.Zone.Gateway.String() + "/24 dev " + c.Zone.Port.Name + "\n"
	}
	if err := l.Gateway.IP(gw); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestProberSeesWhatArrivesAndWhatDoesNot holds the instrument itself against a
// gateway of which it is known what it does: everything that a matrix says rests
// on it.
func TestProberSeesWhatArrivesAndWhatDoesNot(t *testing.T) {
	w := needInner(t)
	l := bare(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := l.NewProber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	red, blue := l.Clients[0], l.Clients[1]
	shot := func(from *Host, src, dst netip.Addr, proto uint8) Shot {
		s := Shot{From: from, Packet: probe.Packet{Src: src, Dst: dst, Proto: proto, SrcPort: 1234, DstPort: 80}}
		switch proto {
		case probe.TCP:
			s.Packet.Flags = probe.SYN
		case probe.ICMP:
			s.Packet.Type = probe.EchoRequest
		}
		return s
	}
	var shots []Shot
	for _, proto := range []uint8{probe.TCP, probe.UDP, probe.ICMP, probe.SCTP, probe.GRE} {
		shots = append(shots,
			shot(red.Host, red.Addr, blue.Addr, proto),
			shot(l.Outside, outsideAddr, red.Addr, proto),
			shot(red.Host, red.Addr, farAddr, proto),
			shot(l.Far, farAddr, blue.Addr, proto),
			shot(l.Gateway, red.Zone.Gateway, red.Addr, proto),
			shot(blue.Host, blue.Addr, blue.Zone.Gateway, proto),
		)
	}
	fragmented := shot(red.Host, red.Addr, blue.Addr, probe.UDP)
	fragmented.Packet.Pad, fragmented.Cut = 100, 64
	shots = append(shots, fragmented)

	everything := make([]Hit, 0, len(shots))
	for range 5 {
		for _, at := range []string{"blue-pc", "red-pc", "far", "blue-pc", "red-pc", "gw"} {
			everything = append(everything, Hit{At: []string{at}})
		}
	}
	everything = append(everything, Hit{At: []string{"blue-pc"}})
	nothing := make([]Hit, len(shots))
	for i := range nothing {
		nothing[i].At = []string{}
		nothing[i].Refused = shots[i].From == l.Gateway
	}
	for _, tt := range []struct {
		rules string
		want  []Hit
	}{
		{"", everything},
		{"table inet t { chain f { type filter hook forward priority 0; policy drop; }; chain i { type filter hook input priority 0; policy drop; }; chain o { type filter hook output priority 0; policy drop; }; }", nothing},
	} {
		if tt.rules != "" {
			if _, err := l.Gateway.Output("nft", tt.rules); err != nil {
				t.Fatal(err)
			}
		}
		got, err := p.Fire(ctx, shots)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("with rules %q (-want +got):\n%s", tt.rules, diff)
		}
	}
}

// TestProberWaitsForTheSwitch has a cable that carries nothing at first, as all do for as
// long as the kernel is too busy to notice them.
func TestProberWaitsForTheSwitch(t *testing.T) {
	l := bare(t, needInner(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ports, err := l.sw.Output("sh", "-c", "ls /sys/class/net/"+l.segment("red")+"/brif")
	if err != nil {
		t.Fatal(err)
	}
	port := strings.Fields(ports)[0]
	if err := l.sw.IP("link set dev " + port + " down"); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		p, err := l.NewProber(ctx)
		if err == nil {
			p.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("over a cable that carries nothing: %v", err)
	case <-time.After(tryTime / 4): // it has asked, in vain
	}
	if err := l.sw.IP("link set dev " + port + " up"); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
