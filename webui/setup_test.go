//go:build linux

package webui_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/webui"
)

var setupPorts = []api.Port{
	{Name: "enp1s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 1}, Carrier: true},
	{Name: "enp2s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 2}},
	{Name: "enp3s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 3}},
}

// Whatever is answered, the file means that and nothing else, or there is none.
func TestFirstFileMeansWhatWasAnswered(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	// pick is mostly one of the first good ones.
	pick := func(good int, list ...string) string {
		if g.IntN(16) > 0 {
			list = list[:good]
		}
		return list[g.IntN(len(list))]
	}
	macs := []string{setupPorts[0].MAC.String(), setupPorts[1].MAC.String(), setupPorts[2].MAC.String()}
	files := 0
	for range 20_000 {
		form := url.Values{"name": {pick(2, "gw", "box-1", "Gw", "a: b", "", "x}")}, "timezone": {pick(2, "UTC", "Europe/Berlin", "UTC}", "")}, "internet": {pick(2, macs[0], "", "x", macs[1])}}
		for i := range 3 {
			n := fmt.Sprint(i)
			form.Set("zone"+n, pick(6, fmt.Sprint("home", i), "guest", "iot", "wan", "trunk", "", "internet", "h: {}", "a #b", "x\n", "ä"))
			form.Set("port"+n, pick(2, macs[1], macs[2], "", macs[0]))
			form.Set("vlan"+n, pick(4, "", "10", "20", "30", "0", "4095", "1e1", "-1", "x"))
			form.Set("subnet"+n, pick(2, fmt.Sprintf("192.168.%d.0/24", 10*(i+1)), fmt.Sprintf("10.%d.0.0/16", i), "192.168.1.1/24", "", "fd00::/64", "0.0.0.0/0}"))
			if g.IntN(2) == 0 {
				form.Set("web"+n, "on")
			}
		}
		text, problems := webui.FirstFile(setupPorts, form)
		if problems != nil {
			if text != "" {
				t.Fatalf("a file in spite of %q", problems)
			}
			continue
		}
		cfg, ps := conf.Parse("first.yaml", []byte(text), time.Now())
		if cfg == nil {
			// What the form leaves to netcfgd: words that are taken.
			if err := ps.Err().Error(); strings.Contains(err, "internet") || strings.Contains(err, "no time zone") || strings.Contains(err, "overlap") {
				continue
			}
			t.Fatalf("%v\n%v\n%s", form, ps.Err(), text)
		}
		files++
		if cfg.System.Name != form.Get("name") || (cfg.Uplink != nil) != (form.Get("internet") != "") || !cfg.Zones[0].Admin {
			t.Fatalf("%v\n%s", form, text)
		}
		at := 0
		for i := range 3 {
			n := fmt.Sprint(i)
			if form.Get("zone"+n) == "" && form.Get("vlan"+n) == "" {
				continue
			}
			z := cfg.Zones[at]
			at++
			vlan := ""
			if z.VLAN != 0 {
				vlan = fmt.Sprint(z.VLAN)
			}
			if z.Name != strings.TrimSpace(form.Get("zone"+n)) || z.Port.MAC.String() != form.Get("port"+n) || vlan != form.Get("vlan"+n) || z.Subnet != netip.MustParsePrefix(form.Get("subnet"+n)) || z.Admin != (at == 1) {
				t.Fatalf("zone %s: %v\n%s", n, form, text)
			}
		}
		if at != len(cfg.Zones) || len(cfg.Allow) > 1 {
			t.Fatalf("%v\n%s", form, text)
		}
	}
	if files < 50 {
		t.Errorf("only %d answers made a file", files)
	}
}
