//go:build linux

package apply_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

var values = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// open returns the kernel of a new namespace with network cards eth0 to eth3, all
// of them down.
func open(t *testing.T) (*apply.Kernel, int) {
	t.Helper()
	ns := nstest.New(t)
	for i := range 2 {
		a, b := fmt.Sprintf("eth%d", 2*i), fmt.Sprintf("eth%d", 2*i+1)
		nstest.Exec(t, ns, "ip", "link", "add", a, "type", "veth", "peer", "name", b)
	}
	return openIn(t, ns), ns
}

func openIn(t *testing.T, ns int) *apply.Kernel {
	t.Helper()
	k, err := apply.Open(ns, filepath.Join(t.TempDir(), "ruleset.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func step(c plan.Change) plan.Step { return plan.Step{Change: c} }

func addr(link, prefix string) state.Addr {
	return state.Addr{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func route(dst, gateway, link string) state.Route {
	r := state.Route{Dst: netip.MustParsePrefix(dst), Link: link}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

func table() *nft.Table {
	return &nft.Table{Name: state.TableName, Chains: []nft.Chain{{
		Name: "input", Hook: &nft.Hook{Type: "filter", Hook: "input", Drop: true},
		Rules: []nft.Rule{{Stmts: []nft.Stmt{
			nft.Match{Field: nft.CTState, Op: nft.AnyBit, Value: nft.U32(nft.StateEstablished)},
			nft.Verdict{Code: nft.Accept},
		}}},
	}}}
}

func observe(t *testing.T, k *apply.Kernel, want state.State) state.State {
	t.Helper()
	s, err := k.Observe(want)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryStepTwice carries out a step of each kind, then the same again, and
// looks whether the kernel holds what the plan's model says.
func TestEveryStepTwice(t *testing.T) {
	k, _ := open(t)
	want := state.State{Sysctls: []state.Sysctl{
		{Key: "net/ipv4/conf/all/accept_redirects"}, {Key: "net/ipv4/ip_forward"}, {Key: "net/netfilter/nf_conntrack_acct"},
	}}
	for _, c := range []plan.Change{
		plan.SetSysctl{Key: "net/netfilter/nf_conntrack_acct", To: "1"},
		plan.SetAlias{Link: "eth0", To: "bulkhead:zone iot"},
		plan.SetMTU{Link: "eth0", To: 1400},
		plan.AddAddr{Addr: addr("eth0", "192.168.40.1/24")},
		plan.AddAddr{Addr: addr("eth0", "192.168.40.2/24")},
		plan.AddAddr{Addr: addr("eth0", "192.168.40.3/24")},
		plan.AddAddr{Addr: addr("eth0", "203.0.113.7/32")},
		plan.AddAddr{Addr: addr("eth0", "2001:db8::1/64")},
		plan.SetUp{Link: "eth0", Up: true},
		plan.AddRoute{Route: route("0.0.0.0/0", "198.51.100.1", "eth0")}, // a gateway outside every subnet
		plan.AddRoute{Route: route("10.9.0.0/16", "192.168.40.9", "eth0")},
		plan.AddRoute{Route: route("10.10.0.0/16", "", "eth0")},
		plan.ReplaceRoute{From: route("0.0.0.0/0", "198.51.100.1", "eth0"), To: route("0.0.0.0/0", "192.168.40.254", "eth0")},
		plan.DeleteRoute{Route: route("10.10.0.0/16", "", "eth0")},
		plan.SetSysctl{Key: "net/ipv4/ip_forward", To: "1"},
		plan.SetSysctl{Key: "net/ipv4/ip_forward", To: "0"},
		plan.DeleteAddr{Addr: addr("eth0", "192.168.40.1/24")}, // primary: the others must stay
		plan.DeleteAddr{Addr: addr("eth0", "203.0.113.7/32")},
		plan.DeleteAddr{Addr: addr("eth0", "192.168.40.3/24")},
		plan.DeleteAddr{Addr: addr("eth0", "192.168.40.2/24")}, // the last: routes go with it
		plan.DeleteAddr{Addr: addr("eth0", "2001:db8::1/64")},
		plan.AddAddr{Addr: addr("eth0", "192.168.40.1/24")},
		plan.AddAddr{Addr: addr("eth0", "2001:db8::2/64")},
		plan.AddRoute{Route: route("10.9.0.0/16", "192.168.40.9", "eth0")},
		plan.SetUp{Link: "eth0", Up: false}, // routes go with it, and what is of IPv6
		plan.DeleteAddr{Addr: addr("eth0", "192.168.40.1/24")},
		plan.SetAlias{Link: "eth0", From: "bulkhead:zone iot"},
	} {
		t.Run(string(c.Op()), func(t *testing.T) {
			predicted := plan.After(observe(t, k, want), c)
			for range 2 {
				if err := k.Do(step(c)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(predicted, observe(t, k, want), values); diff != "" {
					t.Errorf("%+v: state differs (-want +got):\n%s", c, diff)
				}
			}
		})
	}
}

func TestLostLinks(t *testing.T) {
	k, _ := open(t)
	for _, c := range []plan.Change{
		plan.SetAlias{Link: "eth9", To: "bulkhead:zone iot"},
		plan.SetMTU{Link: "eth9", To: 1400},
		plan.SetUp{Link: "eth9", Up: true},
		plan.AddAddr{Addr: addr("eth9", "192.0.2.1/24")},
		plan.AddRoute{Route: route("0.0.0.0/0", "192.0.2.2", "eth9")},
		plan.ReplaceRoute{To: route("0.0.0.0/0", "192.0.2.2", "eth9")},
		plan.CreateLink{Link: state.Link{Name: "eth9.4", Kind: state.VLAN, Parent: "eth9", VLAN: 4}},
	} {
		if err := k.Do(step(c)); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: got %v, want an error wrapping ENODEV", c.Op(), err)
		}
	}
	for _, c := range []plan.Change{
		plan.DeleteAddr{Addr: addr("eth9", "192.0.2.1/24")},
		plan.DeleteRoute{Route: route("0.0.0.0/0", "192.0.2.2", "eth9")},
		plan.DeleteLink{Link: state.Link{Name: "eth9.4", Kind: state.VLAN, Parent: "eth9", VLAN: 4}},
	} {
		if err := k.Do(step(c)); err != nil {
			t.Errorf("%s: got %v, want none: it is gone", c.Op(), err)
		}
	}
	err := k.Do(step(plan.AddAddr{Addr: addr("eth9", "192.0.2.1/24")}))
	if got, want := fmt.Sprint(err), "add address 192.0.2.1/24 to eth9: find interface eth9: no such device"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForeignThingsStay lets a plan take over one card, do its work, and let go
// again, beside things that belong to somebody else.
func TestForeignThingsStay(t *testing.T) {
	k, ns := open(t)
	for _, cmd := range []string{
		"ip link set eth2 alias theirs mtu 1450 up",
		"ip link set eth3 up",
		"ip addr add 10.1.0.1/24 dev eth2",
		"ip addr add 10.1.0.2/24 dev eth2",
		"ip addr add 10.1.1.1/24 dev eth0",
		"ip route add 10.2.0.0/16 via 10.1.0.9 dev eth2",
		"ip route add 10.3.0.0/16 via 10.1.0.9 dev eth2 proto 99",
		"ip route add 10.4.0.0/16 via 10.1.0.9 dev eth2 table 180 proto 180", // our number, another table
		"nft add table inet theirs",
		"nft add chain inet theirs input { type filter hook input priority 0; }",
	} {
		args := strings.Fields(cmd)
		nstest.Exec(t, ns, args[0], args[1:]...)
	}
	look := func() string {
		return nstest.Exec(t, ns, "sh", "-c", "ip -br link show dev eth2; ip -d link show dev eth2; ip addr show dev eth2;"+
			"ip route show table all dev eth2; nft list table inet theirs")
	}
	before := look()

	ours := state.State{
		Links:   []state.Link{{Name: "eth0", Up: true, Alias: "bulkhead:zone iot"}},
		Addrs:   []state.Addr{addr("eth0", "192.168.40.1/24")},
		Routes:  []state.Route{route("10.9.0.0/16", "192.168.40.9", "eth0")},
		Sysctls: []state.Sysctl{{Key: "net/ipv4/conf/eth0/rp_filter", Value: "2"}},
	}
	carryOut(t, k, ours)
	if got := observe(t, k, ours); !slices.Equal(got.Addrs, ours.Addrs) || !slices.Equal(got.Routes, ours.Routes) {
		t.Errorf("got %v %v, want %v %v", got.Addrs, got.Routes, ours.Addrs, ours.Routes)
	}
	carryOut(t, k, state.State{})
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("foreign things differ (-before +after):\n%s", diff)
	}
	if got := observe(t, k, state.State{}); len(got.Addrs)+len(got.Routes) > 0 {
		t.Errorf("left behind: %v %v", got.Addrs, got.Routes)
	}
}

// TestForeignThingsAreRefused asks for what no plan asks for.
func TestForeignThingsAreRefused(t *testing.T) {
	k, ns := open(t)
	nstest.Exec(t, ns, "ip", "link", "set", "eth2", "up")
	nstest.Exec(t, ns, "ip", "link", "set", "eth3", "up")
	nstest.Exec(t, ns, "ip", "addr", "add", "10.1.0.1/24", "dev", "eth2")
	nstest.Exec(t, ns, "ip", "route", "add", "default", "via", "10.1.0.9", "proto", "static")
	for _, c := range []plan.Change{
		plan.DeleteAddr{Addr: addr("eth2", "10.1.0.1/24")},
		plan.DeleteLink{Link: state.Link{Name: "eth2", Kind: state.VLAN}},
	} {
		if err := k.Do(step(c)); !errors.Is(err, apply.ErrNotOurs) {
			t.Errorf("%s: got %v, want ErrNotOurs", c.Op(), err)
		}
	}
	for _, c := range []plan.Change{
		plan.AddRoute{Route: route("0.0.0.0/0", "10.1.0.8", "eth2")},
		plan.ReplaceRoute{From: route("0.0.0.0/0", "10.1.0.9", "eth2"), To: route("0.0.0.0/0", "10.1.0.8", "eth2")},
	} {
		if err := k.Do(step(c)); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: got %v, want an error wrapping EEXIST", c.Op(), err)
		}
	}
	if err := k.Do(step(plan.DeleteRoute{Route: route("0.0.0.0/0", "10.1.0.9", "eth2")})); err != nil {
		t.Error(err) // a route of ours is not there
	}
	if got := nstest.Exec(t, ns, "ip", "route"); !strings.Contains(got, "default via 10.1.0.9 dev eth2 proto static") {
		t.Errorf("the foreign route is gone:\n%s", got)
	}
}

// carryOut makes a plan for desired, carries it out, and fails unless the next plan
// is empty.
func carryOut(t *testing.T, k *apply.Kernel, desired state.State) {
	t.Helper()
	p := plan.Make(observe(t, k, desired), desired)
	for _, s := range p.Steps {
		if err := k.Do(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if again := plan.Make(observe(t, k, desired), desired); len(again.Steps) > 0 {
		t.Errorf("still to do:\n%safter:\n%s", again, p)
	}
}

// TestTakingOverACardTakesItsAddresses: what was on it before is not in the file.
func TestTakingOverACardTakesItsAddresses(t *testing.T) {
	k, ns := open(t)
	nstest.Exec(t, ns, "ip", "addr", "add", "10.1.0.1/24", "dev", "eth0")
	nstest.Exec(t, ns, "ip", "addr", "add", "10.1.0.2", "peer", "10.1.9.9/32", "dev", "eth0")
	nstest.Exec(t, ns, "ip", "addr", "add", "192.168.40.1/24", "dev", "eth0", "valid_lft", "600", "preferred_lft", "600")
	desired := state.State{
		Links: []state.Link{{Name: "eth0", Up: true, Alias: "bulkhead:zone iot"}},
		Addrs: []state.Addr{addr("eth0", "192.168.40.1/24")},
	}
	carryOut(t, k, desired)
	if got := observe(t, k, desired).Addrs; !slices.Equal(got, desired.Addrs) {
		t.Errorf("got %v, want %v", got, desired.Addrs)
	}
}

// TestExpiringAddressBecomesPermanent: a DHCP client that ran before us must not
// take the address away with it.
func TestExpiringAddressBecomesPermanent(t *testing.T) {
	k, ns := open(t)
	nstest.Exec(t, ns, "ip", "addr", "add", "192.168.40.1/24", "dev", "eth0", "valid_lft", "600", "preferred_lft", "600")
	if err := k.Do(step(plan.AddAddr{Addr: addr("eth0", "192.168.40.1/24")})); err != nil {
		t.Fatal(err)
	}
	if got := nstest.Exec(t, ns, "ip", "addr", "show", "dev", "eth0"); !strings.Contains(got, "valid_lft forever") {
		t.Errorf("it still expires:\n%s", got)
	}
}

func TestVLANNeedsKernelSupport(t *testing.T) {
	k, ns := open(t)
	_, can, err := k.Facts()
	if err != nil {
		t.Fatal(err)
	}
	vlan := state.Link{Name: "trunk.40", Kind: state.VLAN, Parent: "eth0", VLAN: 40, Up: true, Alias: "bulkhead:zone iot"}
	if can.VLAN {
		carryOut(t, k, state.State{Links: []state.Link{{Name: "eth0", Up: true, Alias: "bulkhead:port trunk"}, vlan}})
		carryOut(t, k, state.State{Links: []state.Link{{Name: "eth0", Up: true, Alias: "bulkhead:port trunk"}}})
		return
	}
	err = k.Do(step(plan.CreateLink{Link: vlan}))
	if !errors.Is(err, apply.ErrNoVLAN) || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatalf("got %v, want ErrNoVLAN", err)
	}
	want := "create trunk.40, VLAN 40 of eth0: this kernel has no 802.1Q VLANs: it needs CONFIG_VLAN_8021Q=y; " +
		`run a kernel that has it, or give the zone a port of its own (no "vlan"): operation not supported`
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	if got := nstest.Exec(t, ns, "ip", "-br", "link"); strings.Contains(got, "trunk") {
		t.Errorf("left behind:\n%s", got)
	}
}

// TestFlowtableIsFoundOut asks the kernel and holds the answer against what happens if
// one is loaded. The question leaves no trace.
func TestFlowtableIsFoundOut(t *testing.T) {
	k, ns := open(t)
	_, can, err := k.Facts()
	if err != nil {
		t.Fatal(err)
	}
	if got := nstest.Exec(t, ns, "nft", "list", "ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	table := table()
	nfttest.Offloading(rand.New(rand.NewPCG(0, 0)), table, "eth0", "eth1")
	err = k.Do(step(plan.LoadRuleset{To: state.Ruleset{Table: table, Digest: table.Digest()}}))
	switch {
	case can.Flowtable && err != nil:
		t.Error(err)
	case !can.Flowtable && !errors.Is(err, unix.ENOENT):
		t.Errorf("got %v, want ENOENT for a kernel without flowtables", err)
	}
}

func TestFactsNameTheCards(t *testing.T) {
	k, ns := open(t)
	nstest.Exec(t, ns, "ip", "link", "set", "eth1", "address", "52:54:00:AB:CD:01")
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	before := nstest.Exec(t, ns, "ip", "-o", "link")
	links, _, err := k.Facts()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
		if l.Name == "eth1" && l.MAC != "52:54:00:ab:cd:01" {
			t.Errorf("eth1 has MAC %s, want 52:54:00:ab:cd:01", l.MAC)
		}
	}
	if want := []string{"eth0", "eth1", "eth2", "eth3"}; !slices.Equal(names, want) {
		t.Errorf("got cards %q, want %q", names, want)
	}
	if after := nstest.Exec(t, ns, "ip", "-o", "link"); after != before {
		t.Errorf("looking has changed the links from\n%sto\n%s", before, after)
	}
}

func TestFactsTellWhereACableIs(t *testing.T) {
	k, ns := open(t)
	carriers := func() string {
		t.Helper()
		links, _, err := k.Facts()
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, l := range links {
			if l.Kind != "veth" {
				t.Errorf("%s is of kind %q", l.Name, l.Kind)
			}
			if l.Carrier {
				list = append(list, l.Name)
			}
		}
		return strings.Join(list, " ")
	}
	for _, tt := range []struct{ link, state, want string }{
		{"eth0", "down", ""}, {"eth0", "up", ""}, {"eth1", "up", "eth0 eth1"}, {"eth0", "down", ""},
	} {
		nstest.Exec(t, ns, "ip", "link", "set", tt.link, tt.state)
		if got := carriers(); got != tt.want {
			t.Errorf("after %s is %s: carriers on %q, want %q", tt.link, tt.state, got, tt.want)
		}
	}
}

func TestSettingsOfTheNamespaceOnly(t *testing.T) {
	k, _ := open(t)
	other, _ := open(t)
	want := state.State{Sysctls: []state.Sysctl{{Key: "net/ipv4/ip_forward", Value: "1"}}}
	if err := k.Do(step(plan.SetSysctl{Key: "net/ipv4/ip_forward", To: "1"})); err != nil {
		t.Fatal(err)
	}
	if got := observe(t, k, want).Sysctls[0].Value; got != "1" {
		t.Errorf("ip_forward is %q, want 1", got)
	}
	if got := observe(t, other, want).Sysctls[0].Value; got != "0" {
		t.Errorf("ip_forward of another namespace is %q, want 0", got)
	}
}

func TestSettingsThatDoNotExist(t *testing.T) {
	k, _ := open(t)
	got, err := k.Observe(state.State{Sysctls: []state.Sysctl{{Key: "net/ipv4/conf/trunk.40/rp_filter", Value: "2"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Sysctls[0].Value != "" {
		t.Errorf("got %q, want nothing", got.Sysctls[0].Value)
	}
	err = k.Do(step(plan.SetSysctl{Key: "net/ipv4/no_such_thing", To: "1"}))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error wrapping ErrNotExist", err)
	}
	if got, want := fmt.Sprint(err), "set net/ipv4/no_such_thing to 1: no such file or directory"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, key := range []string{"../../etc/passwd", "/etc/passwd", "net/../../sys/kernel", ""} {
		if err := k.Do(step(plan.SetSysctl{Key: key, To: "1"})); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: got %v, want an error wrapping ErrInvalid", key, err)
		}
	}
}

// TestRulesetSurvivesRestart: a daemon started anew must know its table again, and
// one that has lost its file must load it once more.
func TestRulesetSurvivesRestart(t *testing.T) {
	ns := nstest.New(t)
	file := filepath.Join(t.TempDir(), "ruleset.json")
	first, err := apply.Open(ns, file)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	want := state.Ruleset{Table: table(), Digest: table().Digest()}
	for range 2 {
		if err := first.Do(step(plan.LoadRuleset{To: want})); err != nil {
			t.Fatal(err)
		}
	}
	loaded := observe(t, first, state.State{}).Ruleset
	if loaded.Digest != want.Digest || loaded.Foreign {
		t.Fatalf("got %+v, want our table", loaded)
	}

	second, err := apply.Open(ns, file)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if got := observe(t, second, state.State{}).Ruleset; got.Digest != loaded.Digest || got.Foreign {
		t.Errorf("after a restart: got %+v, want %+v", got, loaded)
	}
	if got := observe(t, openIn(t, ns), state.State{}).Ruleset; !got.Foreign {
		t.Errorf("without the file: got %+v, want a foreign table", got)
	}

	nstest.Exec(t, ns, "nft", "add", "rule", "inet", "bulkhead", "input", "accept")
	if got := observe(t, second, state.State{}).Ruleset; !got.Foreign {
		t.Errorf("after somebody's rule: got %+v, want a foreign table", got)
	}
	for range 2 {
		if err := second.Do(step(plan.LoadRuleset{})); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, second, state.State{}).Ruleset; got.Present() {
			t.Errorf("after removal: got %+v, want none", got)
		}
	}
}

// TestLoadedRulesetCountsWithoutItsFile: the kernel has the rules by the time that
// the file cannot be written, and what was done must not be reported as failed.
func TestLoadedRulesetCountsWithoutItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ruleset.json")
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := apply.Open(nstest.New(t), file)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	want := state.Ruleset{Table: table(), Digest: table().Digest()}
	if err := k.Do(step(plan.LoadRuleset{To: want})); err != nil {
		t.Fatal(err)
	}
	if got := observe(t, k, state.State{}).Ruleset; got.Digest != want.Digest || got.Foreign {
		t.Errorf("got %+v, want our table", got)
	}
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := k.Do(step(plan.LoadRuleset{To: want})); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("not written by the next load: %v", err)
	}
}

// TestRulesetThroughJSONIsNotLoaded: steps lose the table on their way through the
// API, and loading nothing would open everything.
func TestRulesetThroughJSONIsNotLoaded(t *testing.T) {
	k, _ := open(t)
	full := step(plan.LoadRuleset{To: state.Ruleset{Table: table(), Digest: table().Digest()}})
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var s plan.Step
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if err := k.Do(full); err != nil {
		t.Fatal(err)
	}
	before := observe(t, k, state.State{})
	for _, to := range []state.Ruleset{
		s.Change.(plan.LoadRuleset).To,
		{Table: &nft.Table{Name: state.TableName}, Digest: "abc"}, // as observed after a restart
		{Table: &nft.Table{Name: state.TableName}, Foreign: true},
	} {
		if err := k.Do(step(plan.LoadRuleset{To: to})); err == nil {
			t.Errorf("%+v: got no error", to)
		}
	}
	if diff := cmp.Diff(before, observe(t, k, state.State{}), values); diff != "" {
		t.Errorf("state differs (-before +after):\n%s", diff)
	}
}
