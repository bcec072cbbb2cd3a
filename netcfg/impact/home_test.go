package impact_test

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// home is what the changes in these tests start from.
const home = `
ports:
  wan:   {mac: "52:54:00:10:00:01"}
  trunk: {mac: "52:54:00:10:00:02"}
  desk:  {mac: "52:54:00:10:00:03"}
  spare: {mac: "52:54:00:10:00:04"}
internet: {port: wan, ipv4: dhcp, ipv6: none}
zones:
  management: {port: trunk, vlan: 10, subnet: 192.168.10.0/24, admin: true}
  iot:        {port: trunk, vlan: 40, subnet: 192.168.40.0/24, dhcp: {lease: 12h}}
  storage:    {port: trunk, vlan: 30, subnet: 192.168.30.0/24, dhcp: false}
  office:     {port: desk, subnet: 192.168.60.0/24, admin: true}
devices:
  laptop: {zone: management, mac: "52:54:00:10:00:20", owner: alex, purpose: work}
  tv:     {zone: iot, mac: "52:54:00:40:00:12", address: 192.168.40.20, owner: kim, purpose: television}
  nas:    {zone: storage, mac: "52:54:00:30:00:10", address: 192.168.30.10, owner: alex, purpose: backups}
allow:
  - {name: films, from: tv, to: nas, protocols: [tcp/8096], why: films}
  - {name: browsing, from: [management, iot], to: internet, protocols: any, why: outbound}
block:
  - {name: quiet, from: tv, to: internet, why: no telemetry}
`

// laptop is the address that the laptop was given.
var laptop = netip.MustParseAddr("192.168.10.200")

// edit replaces parts of the file home: each from, then what it becomes.
func edit(t *testing.T, pairs ...string) string {
	t.Helper()
	file := home
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(file, pairs[i]) {
			t.Fatalf("%q is not in the file", pairs[i])
		}
		file = strings.Replace(file, pairs[i], pairs[i+1], 1)
	}
	return file
}

func parse(t *testing.T, file string) *model.Config {
	t.Helper()
	cfg, problems := conf.Parse("home.yaml", []byte(file), today)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return cfg
}

// side compiles a file for a box with four network cards, less those that are absent.
func side(t *testing.T, file string, absent ...string) impact.Side {
	t.Helper()
	cfg := parse(t, file)
	f := facts.Facts{Now: today, Kernel: facts.Kernel{VLAN: true}}
	for name, mac := range map[string]string{"eth0": "52:54:00:10:00:01", "eth1": "52:54:00:10:00:02", "eth2": "52:54:00:10:00:03", "eth3": "52:54:00:10:00:04"} {
		if !strings.Contains(strings.Join(absent, " "), name) {
			f.Links = append(f.Links, facts.Link{Name: name, MAC: mac})
		}
	}
	f.Devices = compile.Pin(cfg, map[string]netip.Addr{"laptop": laptop}, func(netip.Addr) bool { return false })
	r := compile.Compile(cfg, f)
	return impact.Side{Policy: r.Policy, State: r.State, Missing: r.Missing}
}

// golden compares with a file of testdata, whose first paragraph says what it holds.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, want, _ := strings.Cut(string(data), "\n\n")
	if *update {
		if err := os.WriteFile(path, []byte(head+"\n\n"+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}
