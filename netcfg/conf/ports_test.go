package conf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
)

const zonesOfPorts = `
zones:
  a: {port: lan, subnet: 192.168.1.0/24, admin: true}
  b: {port: wan, subnet: 192.168.2.0/24}
`

func TestPortsMoveAndNothingElse(t *testing.T) {
	for name, text := range map[string]string{
		"flow":      `ports: {lan: {mac: "52:54:00:00:00:01"}, wan: {mac: '52:54:00:00:00:02'}} # ö 52:54:00:00:00:01` + "\n",
		"block":     "# 52:54:00:00:00:01\nports:\n  lan:   # die Küche\n    mac: 52:54:00:00:00:01   # here\n  wan:\n    mac:   \"52:54:00:00:00:02\"\n",
		"lines":     "ports:\n  wan:\n    mac: 52:54:00:00:00:02\n  lan: {\n    mac: \"52:54:00:00:00:01\" }\n",
		"CRLF":      "ports:\r\n  lan: {mac: \"52:54:00:00:00:01\"}\r\n  wan: {mac: \"52:54:00:00:00:02\"}\r\n",
		"BOM":       "\ufeffports: {lan: {mac: \"52:54:00:00:00:01\"}, wan: {mac: \"52:54:00:00:00:02\"}}\n",
		"upper":     `"ports": {"lan": {"mac": "52:54:00:00:00:01"}, "wan": {mac: "52:54:00:00:00:02"}}` + "\n",
		"last line": zonesOfPorts + "ports: {lan: {mac: \"52:54:00:00:00:01\"}, wan: {mac: \"52:54:00:00:00:02\"}}",
	} {
		if name != "last line" {
			text += zonesOfPorts
		}
		if cfg, list := conf.Parse("f", []byte(text), now); cfg == nil {
			t.Errorf("%s: %v", name, list)
			continue
		}
		// They change places, and one of them back.
		swap := map[string]model.MAC{"lan": {0x52, 0x54, 0, 0, 0, 2}, "wan": {0x52, 0x54, 0, 0, 0, 1}}
		got, err := conf.MovePorts("f", []byte(text), swap, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back := map[string]model.MAC{"lan": swap["wan"], "wan": swap["lan"]}
		again, err := conf.MovePorts("f", got, back, now)
		if err != nil || string(again) != text || string(got) == text {
			t.Errorf("%s: %v\nto\n%s\nand back\n%s", name, err, got, again)
		}
		comments := func(s string) int {
			return strings.Count(s, "# 52:54:00:00:00:01") + strings.Count(s, "# ö 52:54:00:00:00:01")
		}
		if comments(string(got)) != comments(text) {
			t.Errorf("%s: a comment was changed:\n%s", name, got)
		}
	}
}

func TestExamplesMoveToOtherHardware(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || files == nil {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, list := conf.Parse(name, data, now)
		if cfg == nil {
			t.Fatal(list)
		}
		macs := map[string]model.MAC{}
		for i, p := range cfg.Ports {
			macs[p.Name] = model.MAC{2, 0, 0, 0, 1, byte(i)}
		}
		got, err := conf.MovePorts(name, data, macs, now)
		if err != nil || len(got) != len(data) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		differ := 0
		for i := range got {
			if got[i] != data[i] {
				differ++
			}
		}
		if differ > 12*len(macs) {
			t.Errorf("%s: %d bytes differ for %d ports", name, differ, len(macs))
		}
	}
}

func TestPortsThatCannotMove(t *testing.T) {
	good := `ports: {lan: {mac: "52:54:00:00:00:01"}, wan: {mac: "52:54:00:00:00:02"}}` + zonesOfPorts
	other := model.MAC{0x52, 0x54, 0, 0, 0, 3}
	for name, tt := range map[string]struct {
		text string
		macs map[string]model.MAC
		want string
	}{
		"no such port":     {good, map[string]model.MAC{"dmz": other}, "no port dmz"},
		"two of one":       {good, map[string]model.MAC{"lan": other, "wan": other}, "52:54:00:00:00:03"},
		"multicast":        {good, map[string]model.MAC{"lan": {1, 0, 0, 0, 0, 1}}, "01:00:00:00:00:01"},
		"not YAML":         {"ports: {", map[string]model.MAC{"lan": other}, "f:1:"},
		"no configuration": {"ports: {lan: {mac: \"52:54:00:00:00:01\"}}", map[string]model.MAC{"lan": other}, "zones"},
		"escaped":          {strings.Replace(good, `"52:54:00:00:00:01"`, `"\x352:54:00:00:00:01"`, 1), map[string]model.MAC{"lan": other}, ""},
	} {
		if got, err := conf.MovePorts("f", []byte(tt.text), tt.macs, now); err == nil || got != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
