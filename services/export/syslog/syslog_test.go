package syslog_test

import (
	"bytes"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/export/syslog"
	"bulkhead/services/flow/record"
)

var (
	noon = time.Date(2026, 11, 27, 12, 0, 0, 7e6, time.UTC)
	tv   = record.Side{
		Zone: "iot", Device: "tv", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12},
		Addr: netip.MustParseAddr("192.168.40.100"), Port: 40000,
	}
	films = record.Record{
		Start: noon.Add(-time.Minute), End: noon, Began: noon.Add(-time.Minute), Src: tv,
		Dst:   record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.9"), Port: 443},
		Proto: model.ProtoTCP, Out: record.Count{Packets: 5, Bytes: 900}, In: record.Count{Packets: 7, Bytes: 9000},
		NATSrc: netip.MustParseAddrPort("203.0.113.2:61000"), Verdict: record.Allowed, Rule: "browsing", Ended: record.Finished,
		Name: "films.example", App: "https",
	}
)

func TestMessages(t *testing.T) {
	refused := record.Record{
		Start: noon, End: noon.Add(time.Second), Began: noon, Src: tv, Dst: record.Side{Zone: "storage", Device: "nas", Port: 8},
		Proto: model.ProtoICMP, Out: record.Count{Packets: 2, Bytes: 168}, Verdict: record.Refused, Reason: "no-rule",
	}
	scan := record.Event{Time: noon, Kind: record.PortScan, Side: tv, Text: `"tv" tried 100 ports`, Key: "port-scan tv"}
	for _, test := range []struct{ got, want string }{
		{string(syslog.Flow("gw", &films)), `<134>1 2026-11-27T12:00:00.007Z gw bulkhead - flow [flow@32473 start="2026-11-27T11:59:00.007Z" end="2026-11-27T12:00:00.007Z" began="2026-11-27T11:59:00.007Z" ` +
			`srcZone="iot" srcDevice="tv" srcMac="52:54:00:40:00:12" srcIp="192.168.40.100" srcPort="40000" dstZone="internet" dstIp="203.0.113.9" dstPort="443" natSrc="203.0.113.2:61000" proto="6" ` +
			`outPackets="5" outBytes="900" inPackets="7" inBytes="9000" verdict="allowed" rule="browsing" ended="finished" name="films.example" app="https"] ` +
			`tv in iot to 203.0.113.9 in internet (films.example), tcp port 443: allowed by browsing, 900 bytes out, 9000 back`},
		{string(syslog.Flow("gw", &refused)), `<133>1 2026-11-27T12:00:01.007Z gw bulkhead - refused [flow@32473 start="2026-11-27T12:00:00.007Z" end="2026-11-27T12:00:01.007Z" began="2026-11-27T12:00:00.007Z" ` +
			`srcZone="iot" srcDevice="tv" srcMac="52:54:00:40:00:12" srcIp="192.168.40.100" srcPort="40000" dstZone="storage" dstDevice="nas" dstPort="8" proto="1" ` +
			`outPackets="2" outBytes="168" inPackets="0" inBytes="0" verdict="refused" reason="no-rule"] ` +
			`tv in iot to nas in storage, icmp type 8: refused by no-rule, 2 packets`},
		{string(syslog.Event("gw", &scan)), `<132>1 2026-11-27T12:00:00.007Z gw bulkhead - event [event@32473 kind="port-scan" aboutZone="iot" aboutDevice="tv" aboutMac="52:54:00:40:00:12" aboutIp="192.168.40.100" aboutPort="40000" key="port-scan tv"] ` +
			`"tv" tried 100 ports`},
		{string(syslog.Frame([]byte("<134>1"))), "6 <134>1"},
	} {
		if test.got != test.want {
			t.Errorf("got\n%s\nwant\n%s", test.got, test.want)
		}
	}
}

// grammar is what RFC 5424 makes of a message of ours: any text in the values.
var grammar = regexp.MustCompile(`^<13[0-7]>1 \S+ gw bulkhead - (?:flow|refused|event) \[(?:flow|event)@32473(?: [a-zA-Z]+="(?:[^"\\\]\x00-\x1f\x7f]|\\["\\\]])*")*\] [ -~]*$`)

// FuzzStrangers holds that no name ends a value, a message or a line.
func FuzzStrangers(f *testing.F) {
	for _, s := range []string{"films.example", "a\"] b", "x\n<0>1 - - - - - -", `\`, `]`, "\x00\xff\u2028ü", strings.Repeat("ü", 200), strings.Repeat(`"`, 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := films
		r.Name, r.Src.Device, r.Dst.Zone, r.Rule, r.App, r.Reason = s, s, s, s, s, s
		e := record.Event{Time: noon, Kind: record.Kind(s), Side: r.Src, Peer: r.Dst, Text: s, Key: s}
		for _, m := range [][]byte{syslog.Flow("gw", &r), syslog.Event("gw", &e)} {
			if !grammar.Match(m) || len(m) > 8<<10 || bytes.ContainsRune(m, '\n') {
				t.Errorf("%q", m)
			}
		}
	})
}
