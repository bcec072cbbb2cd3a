//go:build linux

package vm_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab"
	"bulkhead/images/lab/probe"
	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/model"
)

// tag is one of a frame's tags, in VLAN and priority.
type tag struct{ kind, vlan uint16 }

const (
	customer = 0x8100 // 802.1Q
	provider = 0x88a8 // 802.1ad
	foreign  = 99     // a VLAN that no zone has
	priority = 5 << 13
)

// hop is a frame on its way out of its VLAN: who sends it, whom it is meant for, and
// the VLANs of both.
type hop struct {
	attacker, victim *lab.Client
	packet           probe.Packet
}

// hops are frames from every client to every client of another zone and to the box
// there, each with the attacker's own address and with one of the victim's zone.
func hops(b *boxBench) (list []hop) {
	for _, attacker := range b.Clients {
		for _, victim := range b.Clients {
			if attacker.Zone == victim.Zone {
				continue
			}
			for _, kind := range []probe.Packet{
				{Proto: probe.TCP, DstPort: 443, Flags: probe.SYN}, {Proto: probe.UDP, DstPort: 53}, {Proto: probe.ICMP, Type: probe.EchoRequest},
			} {
				kind.SrcPort = 3000
				kind.Src, kind.Dst = attacker.Addr, victim.Addr
				list = append(list, hop{attacker, victim, kind})
				kind.Dst = victim.Zone.Gateway
				list = append(list, hop{attacker, victim, kind})
			}
		}
	}
	return list
}

// header is what stands before the packet: to the box, with the tags, the outer one
// first.
func (h hop) header(tags ...tag) []byte {
	b := slices.Concat(h.victim.Zone.Port.MAC[:], h.attacker.MAC[:])
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t.kind)
		b = binary.BigEndian.AppendUint16(b, t.vlan)
	}
	return append(b, 0x08, 0x00) // IPv4
}

// TestHoppingFromAnAccessPortEndsAtTheSwitch sends with tags from the clients' ports,
// which take none.
func TestHoppingFromAnAccessPortEndsAtTheSwitch(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		name string
		tags func(own, victim uint16) []tag
		drop vswitch.Reason
	}{
		{"tagged for the victim's VLAN", func(_, victim uint16) []tag { return []tag{{customer, victim}} }, vswitch.NotUntagged},
		{"with priority", func(_, victim uint16) []tag { return []tag{{customer, victim | priority}} }, vswitch.NotUntagged},
		{"tagged for its own VLAN", func(own, _ uint16) []tag { return []tag{{customer, own}} }, vswitch.NotUntagged},
		{"tagged for a foreign VLAN", func(_, _ uint16) []tag { return []tag{{customer, foreign}} }, vswitch.NotUntagged},
		{"two tags", func(own, victim uint16) []tag { return []tag{{customer, own}, {customer, victim}} }, vswitch.Nested},
		{"two tags, the victim's outside", func(own, victim uint16) []tag { return []tag{{customer, victim}, {customer, own}} }, vswitch.Nested},
		{"VLAN 0", func(_, _ uint16) []tag { return []tag{{customer, 0}} }, vswitch.Priority},
		{"VLAN 0 and the victim's", func(_, victim uint16) []tag { return []tag{{customer, 0}, {customer, victim}} }, vswitch.Nested},
		{"a provider's tag", func(_, victim uint16) []tag { return []tag{{provider, victim}} }, vswitch.Nested},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var frames []lab.Frame
			want := make(map[string]uint64)
			before := make(map[string]vswitch.Counters)
			for _, h := range hops(b) {
				frames = append(frames, lab.Frame{
					From: h.attacker.Host, Header: h.header(tt.tags(h.attacker.Zone.VLAN, h.victim.Zone.VLAN)...), Packet: h.packet,
				})
				before[h.attacker.Name] = b.HostPort(h.attacker.Host).Counters()
				want[h.attacker.Name]++
			}
			b.throw(t, frames, false, map[string]uint64{})
			got := make(map[string]uint64)
			for _, c := range b.Clients {
				got[c.Name] = b.HostPort(c.Host).Counters().Dropped[tt.drop] - before[c.Name].Dropped[tt.drop]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, by port (-want +got):\n%s", tt.drop, diff)
			}
		})
	}
}

// TestCarelessSwitchDoesNotLendAnotherZonesRights has the switch let tags through at
// the port of one client after the other. The box then takes the frames for the
// victim's zone's, where their source does not belong.
func TestCarelessSwitchDoesNotLendAnotherZonesRights(t *testing.T) {
	b := setUp(t)
	for _, attacker := range b.Clients {
		mode := vswitch.Access(attacker.Zone.VLAN)
		careless := mode
		for _, z := range b.Config.Zones {
			if z != attacker.Zone {
				careless.Tagged = append(careless.Tagged, z.VLAN)
			}
		}
		port := b.HostPort(attacker.Host)
		if err := port.SetMode(careless); err != nil {
			t.Fatal(err)
		}
		var frames []lab.Frame
		want := make(map[string]uint64)
		for _, h := range hops(b) {
			if h.attacker != attacker {
				continue
			}
			frames = append(frames, lab.Frame{From: attacker.Host, Header: h.header(tag{customer, h.victim.Zone.VLAN}), Packet: h.packet})
			want[h.victim.Zone.Name+".spoofed"]++
		}
		b.throw(t, frames, true, want)
		if err := port.SetMode(mode); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHoppingOnTheTrunkEndsAtTheBox has the switch itself send what a broken or
// hostile one might. The kernel drops frames of VLANs that it does not have before
// anything counts them: that they are gone is known because it has answered what was
// sent behind them, and everything it passed on would have come back before.
func TestHoppingOnTheTrunkEndsAtTheBox(t *testing.T) {
	b := setUp(t)
	uncounted := func(hop) string { return "" }
	spoofed := func(h hop) string { return h.victim.Zone.Name + ".spoofed" }
	nowhere := func(hop) string { return onPort } // no zone is on the port itself
	for _, tt := range []struct {
		name    string
		tags    func(own, victim uint16) []tag
		counter func(hop) string
	}{
		{"untagged", func(_, _ uint16) []tag { return nil }, nowhere},
		{"VLAN 0", func(_, _ uint16) []tag { return []tag{{customer, priority}} }, nowhere},
		{"two tags", func(own, victim uint16) []tag { return []tag{{customer, own}, {customer, victim}} }, uncounted},
		{"two tags, the victim's outside", func(own, victim uint16) []tag { return []tag{{customer, victim}, {customer, own}} }, uncounted},
		{"a foreign VLAN", func(_, _ uint16) []tag { return []tag{{customer, foreign}} }, uncounted},
		{"a foreign VLAN and the victim's", func(_, victim uint16) []tag { return []tag{{customer, foreign}, {customer, victim}} }, uncounted},
		{"a provider's tag", func(_, victim uint16) []tag { return []tag{{provider, victim}} }, uncounted},
		{"a provider's tag and the victim's", func(own, victim uint16) []tag { return []tag{{provider, own}, {customer, victim}} }, uncounted},
		{"VLAN 4095", func(_, _ uint16) []tag { return []tag{{customer, 4095}} }, uncounted},
		// Linux takes a tag inside one of VLAN 0 for the only one.
		{"VLAN 0 and the victim's", func(_, victim uint16) []tag { return []tag{{customer, 0}, {customer, victim}} }, spoofed},
		{"the victim's VLAN", func(_, victim uint16) []tag { return []tag{{customer, victim}} }, spoofed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var frames []lab.Frame
			want := make(map[string]uint64)
			for _, h := range hops(b) {
				frames = append(frames, lab.Frame{
					Port: h.victim.Zone.Port.Name, Header: h.header(tt.tags(h.attacker.Zone.VLAN, h.victim.Zone.VLAN)...), Packet: h.packet,
				})
				if name := tt.counter(h); name != "" {
					want[name]++
				}
			}
			b.throw(t, frames, true, want)
		})
	}
}

// TestTagsOnTheUplinkGoNowhere sends into the zones' VLANs from the internet's side.
func TestTagsOnTheUplinkGoNowhere(t *testing.T) {
	b := setUp(t)
	for _, tags := range []func(uint16) []tag{
		func(vlan uint16) []tag { return []tag{{customer, vlan}} },
		func(vlan uint16) []tag { return []tag{{customer, foreign}, {customer, vlan}} },
	} {
		var frames []lab.Frame
		for _, h := range hops(b) {
			header := h.header(tags(h.victim.Zone.VLAN)...)
			copy(header, b.Config.Uplink.Port.MAC[:])
			frames = append(frames, lab.Frame{Port: b.Config.Uplink.Port.Name, Header: header, Packet: h.packet})
		}
		b.throw(t, frames, true, map[string]uint64{})
	}
}

// TestThrownFramesArriveWhereTheyMay holds the instrument of the tests above against
// frames that are allowed.
func TestThrownFramesArriveWhereTheyMay(t *testing.T) {
	b := setUp(t)
	tv, nextcloud := b.Client("tv"), b.Client("nextcloud")
	h := hop{tv, nextcloud, probe.Packet{Src: tv.Addr, Dst: nextcloud.Addr, Proto: probe.TCP, DstPort: 8096, Flags: probe.SYN}}
	frame := func(port uint16) lab.Frame {
		h.packet.SrcPort = port
		return lab.Frame{Port: tv.Zone.Port.Name, Header: h.header(tag{customer, tv.Zone.VLAN}), Packet: h.packet}
	}
	untagged := frame(3001)
	untagged.From, untagged.Header = tv.Host, h.header()
	got, refused, err := b.Throw(b.ctx, []lab.Frame{frame(3000), untagged})
	if err != nil {
		t.Fatal(err)
	}
	at := lab.Thrown{AtBox: true, At: []string{"nextcloud"}}
	if diff := cmp.Diff([]lab.Thrown{at, at}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
}

// throw sends frames that must arrive nowhere, and compares what the box refused.
func (b *boxBench) throw(t *testing.T, frames []lab.Frame, atBox bool, want map[string]uint64) {
	t.Helper()
	if len(frames) == 0 {
		t.Fatal("no frames")
	}
	got, refused, err := b.Throw(b.ctx, frames)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range got {
		if len(g.At) > 0 || g.AtBox != atBox {
			t.Errorf("%x %s → %s: at the box %t, arrived at %v", frames[i].Header, frames[i].Packet.Src, frames[i].Packet.Dst, g.AtBox, g.At)
		}
	}
	// The box's kernel itself says who it is by IPv6, now and then, in zones and on the port
	// that belongs to none: what is refused there may be more than what was thrown, which
	// is IPv4.
	for _, name := range []string{onPort, ownIPv6} {
		if own := refused[name]; own > want[name] {
			if refused[name] = want[name]; want[name] == 0 {
				delete(refused, name)
			}
		}
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refused by the box (-want +got):\n%s", diff)
	}
}

// Counters of what the box's kernel may say by itself.
const (
	onPort  = "nowhere"  // refused on links that belong to no zone
	ownIPv6 = "box.ipv6" // from the box into its zones
)

// TestEveryZoneIsServed asks the box for its own name, and a name of the internet, in
// each zone, at the address that came with the lease.
func TestEveryZoneIsServed(t *testing.T) {
	b := setUp(t)
	for _, c := range b.Clients {
		if !c.Zone.Subnet.Contains(c.Addr) {
			t.Errorf("%s has the address %s in %s", c.Name, c.Addr, c.Zone.Name)
		}
		resolvers := c.Resolvers()
		if !slices.Equal(resolvers, []string{c.Zone.Gateway.String()}) {
			t.Errorf("%s was told of the resolvers %v", c.Name, resolvers)
			continue
		}
		for name, want := range map[string]string{
			"gw.home.arpa":    c.Zone.Gateway.String(),
			"www.example.com": "203.0.113.1",
		} {
			got, err := c.Output("dig", "+short", "@"+resolvers[0], name)
			if err != nil {
				t.Error(err)
			}
			if got != want+"\n" {
				t.Errorf("%s asks for %s: got %q, want %q", c.Name, name, got, want)
			}
		}
	}
}

// TestMatrixOverTags measures every cell of the matrix between the zones, the internet
// and, as a receiver, the box.
func TestMatrixOverTags(t *testing.T) {
	b := setUp(t)
	m, err := b.Matrix(b.ctx, b.policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range m.Wrong {
		t.Error(a)
	}
	parties := len(b.Config.Zones) + 1
	if want := parties * parties; len(m.Cells) != want { // to all others and the box
		t.Errorf("%d cells were measured, want %d", len(m.Cells), want)
	}
}

// TestBoxProberBelievesNoPolicy asks with expectations that are wrong, one at a time.
func TestBoxProberBelievesNoPolicy(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		from, to string // host, and host or box
		service  model.Service
		allow    bool // in truth
		at       []string
	}{
		{"tv", "nextcloud", model.OnePort(model.ProtoTCP, 8096), true, []string{"nextcloud"}},
		{"tv", "nas", model.OnePort(model.ProtoTCP, 445), false, []string{}},
		{"tv", "box", model.OnePort(model.ProtoUDP, 53), true, []string{"gw"}},
		{"tv", "box", model.OnePort(model.ProtoTCP, 443), false, []string{}},
	} {
		t.Run(fmt.Sprintf("%s to %s %s", tt.from, tt.to, tt.service), func(t *testing.T) {
			from := b.Client(tt.from)
			dst := from.Zone.Gateway
			if c := b.Client(tt.to); c != nil {
				dst = c.Addr
			}
			q := b.Question(b.policy, from.Host, flowOf(from, dst), tt.service)
			if q.Expect.Allow != tt.allow {
				t.Fatalf("the policy has changed: %+v", q.Expect)
			}
			q.Expect.Allow = !tt.allow
			answers, err := b.Ask(b.ctx, []lab.Question{q})
			if err != nil {
				t.Fatal(err)
			}
			if !answers[0].Wrong() {
				t.Errorf("not wrong: %s", answers[0])
			}
			if diff := cmp.Diff(tt.at, answers[0].At); diff != "" {
				t.Errorf("arrived (-want +got):\n%s", diff)
			}
		})
	}
}
