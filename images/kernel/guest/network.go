//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
)

// links makes one of each kind that zones and uplinks are made of. 802.1Q links are
// made by [zones].
func links() error {
	nl, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer nl.Close()
	on := driver.BridgeEnable(1)
	var errs []error
	for _, info := range []*rtnetlink.LinkInfo{
		{Kind: "bridge", Data: &driver.Bridge{VlanFiltering: &on}},
		{Kind: "wireguard"}, {Kind: "dummy"}, {Kind: "ifb"}, {Kind: "veth"},
	} {
		name := "t" + info.Kind
		err := nl.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{Name: name, Info: info}})
		if err != nil {
			errs = append(errs, fmt.Errorf("make a %s: %w", info.Kind, err))
			continue
		}
		i, err := net.InterfaceByName(name)
		if err == nil {
			err = nl.Link.Delete(uint32(i.Index))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// queues gives a card CAKE and a place for shaping what comes in.
func queues() error {
	text, err := os.ReadFile("/proc/sys/net/core/default_qdisc")
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(text)); got != "fq_codel" {
		return fmt.Errorf("the default is %s, want fq_codel", got)
	}
	card, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	nl, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer nl.Close()
	const (
		root    = 0xffffffff // TC_H_ROOT
		ingress = 0xfffffff1 // TC_H_INGRESS
	)
	for _, q := range []struct {
		kind   string
		parent uint32
	}{{"cake", root}, {"ingress", ingress}} {
		attr, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.TCA_KIND, Data: append([]byte(q.kind), 0)}})
		if err != nil {
			return err
		}
		var msg [20]byte // struct tcmsg
		binary.NativeEndian.PutUint32(msg[4:], uint32(card.Index))
		binary.NativeEndian.PutUint32(msg[12:], q.parent)
		_, err = nl.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.RTM_NEWQDISC, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace},
			Data:   append(msg[:], attr...),
		})
		if err != nil {
			return fmt.Errorf("set %s: %w", q.kind, err)
		}
	}
	return nil
}

func pppoe() error {
	const pxProtoOE = 0
	fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_STREAM, pxProtoOE)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// flowtable makes one over both cards and a rule that sends connections to it.
func flowtable() error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	table := nft.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "fast"})
	nft.AddFlowtable(&nftables.Flowtable{
		Table: table, Name: "f", Hooknum: nftables.FlowtableHookIngress, Priority: nftables.FlowtablePriorityFilter,
		Devices: []string{"eth0", "eth1"}, Flags: nftables.FlowtableFlagsCounter,
	})
	chain := nft.AddChain(&nftables.Chain{
		Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.FlowOffload{Name: "f"}}})
	if err := nft.Flush(); err != nil {
		return err
	}
	list, err := nft.ListFlowtables(table)
	if err != nil {
		return err
	}
	if len(list) != 1 || len(list[0].Devices) != 2 {
		return fmt.Errorf("the kernel lists %+v", list)
	}
	nft.DelTable(table)
	return nft.Flush()
}

const (
	logGroup  = 5
	probePort = 9    // discard
	probeMark = 0x77 // of the connection
)

// nflog sends a packet to ourselves past a rule that marks its connection and logs
// it, and wants to see both.
func nflog() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, name := range []string{"nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"} {
		if err := os.WriteFile("/proc/sys/net/netfilter/"+name, []byte("1"), 0); err != nil {
			return err
		}
	}
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	table := probeTable(nft)
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("load rules: %w", err)
	}
	log, err := listen()
	if err != nil {
		return fmt.Errorf("listen to NFLOG: %w", err)
	}
	defer log.Close()
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: probePort})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	if err := log.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := log.Receive(); err != nil {
		return fmt.Errorf("wait for NFLOG: %w", err)
	}
	if err := marked(); err != nil {
		return err
	}
	nft.DelTable(table)
	return nft.Flush()
}

// probeTable logs and marks what goes to the discard port.
func probeTable(nft *nftables.Conn) *nftables.Table {
	table := nft.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "probe"})
	chain := nft.AddChain(&nftables.Chain{
		Table: table, Name: "output", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Register: 1, Data: binaryutil.BigEndian.PutUint16(probePort)},
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(probeMark)},
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
		&expr.Log{Key: 1 << unix.NFTA_LOG_GROUP, Group: logGroup},
	}})
	return table
}

func loopbackUp() error {
	nl, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer nl.Close()
	const lo = 1
	return nl.Link.Set(&rtnetlink.LinkMessage{Index: lo, Flags: unix.IFF_UP, Change: unix.IFF_UP})
}

// listen binds to the log group. See linux/netfilter/nfnetlink_log.h.
func listen() (*netlink.Conn, error) {
	const (
		msgConfig = 1 // NFULNL_MSG_CONFIG
		attrCmd   = 1 // NFULA_CFG_CMD
		cmdBind   = 1 // NFULNL_CFG_CMD_BIND
	)
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	attr, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: attrCmd, Data: []byte{cmdBind}}})
	if err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	_, err = nl.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{unix.AF_UNSPEC, 0, 0, logGroup}, attr...),
	})
	if err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	return nl, nil
}

// marked looks for the connection with the mark.
func marked() error {
	table, err := apply.OpenConntrack(0)
	if err != nil {
		return err
	}
	defer table.Close()
	list, err := table.List()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Mark == probeMark {
			return nil
		}
	}
	return fmt.Errorf("none of %d connections has the mark", len(list))
}

// zones applies the configuration beside init with netcfgd's own code: VLANs of a
// trunk, addresses, settings and the whole ruleset. A second look finds nothing to do.
func zones() error {
	cfg, err := example()
	if err != nil {
		return err
	}
	k, err := apply.Open(0, "/run/ruleset.json")
	if err != nil {
		return err
	}
	defer k.Close()
	f := facts.Facts{Now: time.Now()}
	if f.Links, f.Kernel, err = k.Facts(); err != nil {
		return err
	}
	result := compile.Compile(cfg, f) // without a lease the uplink is all that may be missing
	steps, err := carryOut(k, result)
	fmt.Printf("guest: zones: %d steps, missing %q\n", len(steps), result.Missing)
	if err != nil {
		return err
	}
	observed, err := k.Observe(result.State)
	if err != nil {
		return err
	}
	vlans := 0
	for _, l := range observed.Links {
		if l.VLAN != 0 {
			vlans++
		}
	}
	if vlans != len(cfg.Zones) {
		return fmt.Errorf("%d VLANs for %d zones", vlans, len(cfg.Zones))
	}
	if !f.Kernel.Flowtable || len(result.State.Ruleset.Table.Flowtables) != 1 {
		return fmt.Errorf("the rules are without a flowtable")
	}
	return nil
}
