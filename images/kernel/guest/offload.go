//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/policy"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
)

// statusOffload is IPS_OFFLOAD of include/uapi/linux/netfilter/nf_conntrack_common.h.
const statusOffload = 1 << 14

// offload sends traffic through the example's rules, wants that of a guest to bypass
// them once established, and to stop as soon as anything asks for that.
func offload() error {
	return newTown(func(t *town) error {
		if _, _, err := t.bring(); err != nil {
			return err
		}
		guest, err := t.client("guest", "192.168.50.9", nil)
		if err != nil {
			return err
		}
		nextcloud, err := t.client("services", "192.168.20.11", net.HardwareAddr{0x52, 0x54, 0, 0x20, 0, 0x11})
		if err != nil {
			return err
		}
		for _, c := range []struct {
			name string
			try  func() error
		}{
			{"guest", func() error { return t.bypasses(guest, true) }},
			{"device", func() error { return t.bypasses(nextcloud, false) }},
			{"forwarding off", func() error { return t.stopsWithForwarding(guest) }},
			{"connection deleted", func() error { return t.startsOver(guest) }},
			{"card gone and back", func() error { return t.survivesCard(guest) }},
			{"isolated", func() error { return t.stopsWithIsolation(guest) }},
			{"rule revoked", func() error { return t.stopsWithRule(guest) }},
		} {
			if err := c.try(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		return nil
	})
}

// bypasses sends packets to and fro and looks whether they bypass the rules, and
// whether their connection counts them all the same.
func (t *town) bypasses(c *net.UDPConn, want bool) error {
	const count = 100
	for range 3 {
		if err := exchange(c, "hello"); err != nil {
			return err
		}
	}
	before, err := t.connection(c)
	if err != nil {
		return err
	}
	if got := before.Status&statusOffload != 0; got != want {
		return fmt.Errorf("offloaded: %t (status %#x), want %t", got, before.Status, want)
	}
	forwarded, err := t.forwarded()
	if err != nil {
		return err
	}
	for range count {
		if err := exchange(c, "hello"); err != nil {
			return err
		}
	}
	again, err := t.forwarded()
	if err != nil {
		return err
	}
	after, err := t.connection(c)
	if err != nil {
		return err
	}
	slow := again - forwarded
	switch sent, back := after.OrigCount.Packets-before.OrigCount.Packets, after.ReplyCount.Packets-before.ReplyCount.Packets; {
	case sent != count || back != count:
		return fmt.Errorf("of %d packets each way %d and %d were counted", count, sent, back)
	case want && slow > 0, !want && slow < 2*count:
		return fmt.Errorf("%d of %d packets met the rules", slow, 2*count)
	case after.OrigCount.Bytes-before.OrigCount.Bytes != count*(28+uint64(len("hello"))):
		return fmt.Errorf("%d bytes were counted for %d packets", after.OrigCount.Bytes-before.OrigCount.Bytes, count)
	}
	return nil
}

// connection returns the client's connection through the box.
func (t *town) connection(c *net.UDPConn) (apply.Conn, error) {
	list, err := t.conntrack.List()
	if err != nil {
		return apply.Conn{}, err
	}
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	i := slices.IndexFunc(list, func(o apply.Conn) bool { return o.Orig.Src == at.Addr() && o.Orig.SrcPort == at.Port() })
	if i < 0 {
		return apply.Conn{}, fmt.Errorf("no connection of %s among %d", at, len(list))
	}
	return list[i], nil
}

// forwarded returns how many packets the box's IP layer has passed on: those that
// bypass the rules bypass it, too. RFC 4293, ipSystemStatsOutForwDatagrams.
func (t *town) forwarded() (count uint64, err error) {
	err = t.box.do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
		i := slices.Index(names, "ForwDatagrams")
		if i < 0 || i >= len(values) {
			return fmt.Errorf("no ForwDatagrams in %q", lines[0])
		}
		count, err = strconv.ParseUint(values[i], 10, 64)
		return err
	})
	return count, err
}

// stopsWithForwarding switches the box's forwarding off under an offloaded connection.
func (t *town) stopsWithForwarding(c *net.UDPConn) error {
	set := func(value string) error {
		return t.kernel.Do(plan.Step{Change: plan.SetSysctl{Key: "net/ipv4/ip_forward", To: value}})
	}
	return errors.Join(set("0"), t.silenced(c, "with forwarding off"), set("1"), t.bypasses(c, true))
}

// startsOver deletes the connection and wants the next packet to be the first of
// another.
func (t *town) startsOver(c *net.UDPConn) error {
	old, err := t.connection(c)
	if err != nil {
		return err
	}
	if err := t.conntrack.Delete(old); err != nil {
		return err
	}
	if err := exchange(c, "hello"); err != nil {
		return err
	}
	now, err := t.connection(c)
	if err == nil && now.OrigCount.Packets != 1 {
		err = fmt.Errorf("the connection has %d packets, want 1", now.OrigCount.Packets)
	}
	return errors.Join(err, t.bypasses(c, true))
}

// survivesCard takes the uplink's card away and puts it back before anybody has looked.
// The flowtable is without it from then on, which has to be noticed.
func (t *town) survivesCard(c *net.UDPConn) error {
	port := t.cfg.Ports[slices.IndexFunc(t.cfg.Ports, func(p *model.Port) bool { return p.Name == uplink })]
	if err := t.box.remove(uplink); err != nil {
		return err
	}
	if err := t.box.veth(uplink, port.MAC[:], t.internet, "eth0"); err != nil {
		return err
	}
	if err := t.internet.address("eth0", netip.MustParsePrefix(serverNet)); err != nil {
		return err
	}
	_, steps, err := t.bring()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Change.Op() == plan.OpLoadRuleset }) {
		return fmt.Errorf("nobody noticed that the flowtable has lost a card; done: %v", steps)
	}
	return t.bypasses(c, true)
}

// stopsWithRule takes the guests out of the rule that lets them out, as a change of
// the configuration does.
func (t *town) stopsWithRule(c *net.UDPConn) error {
	for _, r := range t.cfg.Allow {
		r.From = slices.DeleteFunc(r.From, func(e model.Endpoint) bool { return e.Name() == "guest" })
	}
	r, _, err := t.bring()
	if err != nil {
		return err
	}
	if err := t.sweep(r); err != nil {
		return err
	}
	return t.silenced(c, "without a rule")
}

// stopsWithIsolation isolates the guest under its offloaded connection, and lets it go
// again. What it tries meanwhile is counted one by one, which a kernel before Linux 6.5
// could not tell.
func (t *town) stopsWithIsolation(c *net.UDPConn) error {
	counts, err := capture.OpenRuleset(int(t.box))
	if err != nil {
		return err
	}
	defer counts.Close()
	guest := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	t.isolated = []facts.Isolation{{Addresses: []netip.Addr{guest}}}
	r, _, err := t.bring()
	if err != nil {
		return err
	}
	if err := t.sweep(r); err != nil {
		return err
	}
	if _, err := counts.Refusals(); err != nil {
		return err
	}
	if err := t.silenced(c, "isolated"); err != nil {
		return err
	}
	list, err := counts.Refusals()
	if err != nil {
		return err
	}
	server := netip.MustParseAddrPort(serverAddr)
	const packets = 5 // that silenced sends
	want := capture.Refusal{
		Party: "guest", Src: guest, Dst: server.Addr(), Proto: model.ProtoUDP, Port: server.Port(), Mark: policy.Isolated.Mark(),
		Count: record.Count{Packets: packets, Bytes: packets * (28 + uint64(len("isolated")))},
	}
	if !slices.Contains(list, want) {
		return fmt.Errorf("refusals are %+v, want %+v among them", list, want)
	}
	t.isolated = nil
	if _, _, err := t.bring(); err != nil {
		return err
	}
	return t.bypasses(c, true)
}

// sweep ends the connections that the rules do not allow.
func (t *town) sweep(r *compile.Result) error {
	_, _, err := t.conntrack.Sweep(func(o apply.Conn) (keep bool, mark uint32) {
		z := t.cfg.ZoneOf(o.Orig.Src)
		if z == nil {
			return true, o.Mark
		}
		d := r.Policy.Decide(policy.Flow{
			From: z.Name, Src: o.Orig.Src, Dst: o.Orig.Dst, Proto: o.Orig.Proto, SrcPort: o.Orig.SrcPort, Port: o.Orig.DstPort,
		})
		return d.Allow, o.Mark
	})
	return err
}
