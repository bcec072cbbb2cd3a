package conf_test

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/netcfg/conf"
)

// large returns a file with devices in eight zones and rules between them.
func large(devices, rules int) []byte {
	var b strings.Builder
	b.WriteString("ports:\n  wan: {mac: \"52:54:00:10:00:01\"}\n  trunk: {mac: \"52:54:00:10:00:02\"}\ninternet: {port: wan}\nzones:\n")
	const zones = 8
	for i := range zones {
		fmt.Fprintf(&b, "  zone-%d: {port: trunk, vlan: %d, subnet: 10.0.%d.0/24, admin: %v}\n", i, 10+i, i, i == 0)
	}
	b.WriteString("devices:\n")
	for i := range devices {
		fmt.Fprintf(&b, "  device-%d: {zone: zone-%d, mac: \"52:54:00:20:%02x:%02x\", address: 10.0.%d.%d, owner: alex, purpose: number %d}\n",
			i, i%zones, i>>8, i&255, i%zones, 2+i/zones, i)
	}
	b.WriteString("groups:\n")
	for i := range 20 {
		fmt.Fprintf(&b, "  group-%d: [device-%d, device-%d, zone-%d]\n", i, i, i+20, i%zones)
	}
	b.WriteString("allow:\n")
	for i := range rules {
		from, to := i%devices, (i+1+i/devices)%devices
		if from%zones == to%zones {
			to = (to + 1) % devices
		}
		fmt.Fprintf(&b, "  - name: rule-%d\n    from: [device-%d, group-%d]\n    to: device-%d\n    protocols: [https, tcp/%d]\n    why: reason %d\n", i, from, i%20, to, 1000+i, i)
	}
	return []byte(b.String())
}

func TestLargeFileIsAccepted(t *testing.T) {
	cfg, list := conf.Parse("large.yaml", large(200, 5000), now)
	if cfg == nil {
		t.Fatal(list.Err())
	}
	if len(cfg.Devices) != 200 || len(cfg.Allow) != 5000 {
		t.Errorf("%d devices and %d rules", len(cfg.Devices), len(cfg.Allow))
	}
}

func BenchmarkParse(b *testing.B) {
	data := large(200, 5000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if cfg, list := conf.Parse("large.yaml", data, now); cfg == nil {
			b.Fatal(list.Err())
		}
	}
}
