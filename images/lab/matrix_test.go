//go:build linux

package lab_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/images/lab"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// TestMatrix opens connections between every ordered pair of machines in different
// zones, the internet and the box, for every port that a rule names, the ports next
// to it and some that none names, over TCP, UDP, ICMP, SCTP and GRE. The kernel must
// do what the policy says, without exception.
func TestMatrix(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			b := setUpWith(t, file)
			b.ask(t, b.Questions(b.policy, lab.Services(b.policy, true)))
		})
	}
}

// TestEveryAddressOfTheBoxFromEverywhere tries the box's addresses in other zones
// and on the uplink, where a service that listens on all of them would be found,
// and the addresses that mean "everybody" and "myself".
func TestEveryAddressOfTheBoxFromEverywhere(t *testing.T) {
	b := setUp(t)
	targets := []netip.Addr{
		b.Uplink.Addr(), policy.Broadcast(b.Uplink), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1"),
		netip.MustParseAddr("239.255.255.250"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0"),
	}
	for _, z := range b.Config.Zones {
		targets = append(targets, z.Gateway, policy.Broadcast(z.Subnet))
	}
	var questions []lab.Question
	for _, s := range lab.Services(b.policy, false) {
		for _, c := range b.Clients {
			for _, dst := range targets {
				questions = append(questions, b.Question(b.policy, c.Host, policy.Flow{From: c.Zone.Name, MAC: c.MAC, Src: c.Addr, Dst: dst}, s))
			}
		}
		for _, dst := range targets {
			questions = append(questions, b.Question(b.policy, b.Outside, policy.Flow{From: model.Internet, Src: b.OutsideAddr(), Dst: dst}, s))
		}
	}
	b.ask(t, questions)
}

// TestDaemonsSendOnlyWhatTheirWorkNeeds sends as each daemon's user, as a daemon
// that was taken over might, to everything in every zone and on the internet.
func TestDaemonsSendOnlyWhatTheirWorkNeeds(t *testing.T) {
	b := setUp(t)
	var questions []lab.Question
	for _, d := range policy.Daemons() {
		for _, s := range lab.Services(b.policy, true) {
			for _, p := range b.Parties() {
				questions = append(questions, b.Question(b.policy, b.Gateway,
					policy.Flow{From: model.Box, UID: d.UID, Src: b.BoxAddr(p.Name), Dst: p.Addr}, s))
			}
		}
	}
	b.ask(t, questions)
}
