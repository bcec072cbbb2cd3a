package metrics_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/metrics"
)

func TestPage(t *testing.T) {
	p := metrics.NewPage("dhcp")
	p.Counter("messages_total", "Messages by type.", metrics.Of(uint64(3), "type", "discover"), metrics.Of(1, "type", "inform", "zone", "iot"))
	p.Gauge("age_seconds", "Back\\slash and\nline.", metrics.Of(1.5))
	p.Gauge("nothing", "A family without samples is not there.")
	want := `# HELP bulkhead_dhcp_messages_total Messages by type.
# TYPE bulkhead_dhcp_messages_total counter
bulkhead_dhcp_messages_total{type="discover"} 3
bulkhead_dhcp_messages_total{type="inform",zone="iot"} 1
# HELP bulkhead_dhcp_age_seconds Back\\slash and\nline.
# TYPE bulkhead_dhcp_age_seconds gauge
bulkhead_dhcp_age_seconds 1.5
`
	if diff := cmp.Diff(want, string(p.Bytes())); diff != "" {
		t.Errorf("page differs (-want +got):\n%s", diff)
	}
}

func TestFamilyIsBounded(t *testing.T) {
	var samples []metrics.Sample
	for i := range 5000 {
		samples = append(samples, metrics.Of(i, "zone", fmt.Sprint(i)))
	}
	p := metrics.NewPage("dhcp")
	p.Gauge("leases", "Leases.", samples...)
	page := string(p.Bytes())
	if n := strings.Count(page, "bulkhead_dhcp_leases{"); n != 1000 {
		t.Errorf("%d samples", n)
	}
	if !strings.Contains(page, "\nbulkhead_dhcp_samples_left_out 4000\n") {
		t.Error("nothing says that some were left out")
	}
}

// FuzzPage holds that no label value breaks a page, nor says anything else in it.
func FuzzPage(f *testing.F) {
	for _, s := range []string{"iot", "a\"} 1\nbulkhead_up 0\n", `\`, `\"`, "\xff", strings.Repeat("ä", 100), "\u2028\r\x00"} {
		f.Add(s, 1.0)
	}
	f.Fuzz(func(t *testing.T, s string, v float64) {
		p := metrics.NewPage("dns")
		p.Gauge("names", s, metrics.Of(v, "name", s, "other", s))
		page := p.Bytes()
		if err := metrics.Check(page, "dns"); err != nil {
			t.Errorf("%v:\n%s", err, page)
		}
		if bytes.Count(page, []byte("\n")) != 3 {
			t.Errorf("not three lines:\n%s", page)
		}
	})
}

func TestCheckRefusesWhatADaemonMayNotSay(t *testing.T) {
	head := "# HELP bulkhead_dns_a A.\n# TYPE bulkhead_dns_a gauge\n"
	if err := metrics.Check([]byte(head+"bulkhead_dns_a 1\nbulkhead_dns_a{x=\"1\"} NaN\n"), "dns"); err != nil {
		t.Error(err)
	}
	for name, page := range map[string]string{
		"another's name":      "# HELP bulkhead_up A.\n# TYPE bulkhead_up gauge\nbulkhead_up 1\n",
		"sample of another":   head + "bulkhead_up{service=\"netcfgd\"} 1\n",
		"longer name":         head + "bulkhead_dns_ab 1\n",
		"no type":             "# HELP bulkhead_dns_a A.\nbulkhead_dns_a 1\n",
		"family twice":        head + head,
		"comment":             head + "# EOF\n",
		"time":                head + "bulkhead_dns_a 1 1700000000\n",
		"cut off":             head + "bulkhead_dns_a 1",
		"open label":          head + "bulkhead_dns_a{x=\"1\n",
		"escape":              head + "bulkhead_dns_a{x=\"\\x\"} 1\n",
		"label without value": head + "bulkhead_dns_a{x} 1\n",
		"no value":            head + "bulkhead_dns_a\n",
		"strange value":       head + "bulkhead_dns_a 0x1p3\n",
		"empty line":          head + "\n",
		"not UTF-8":           head + "bulkhead_dns_a{x=\"\xff\"} 1\n",
		"too many lines":      head + strings.Repeat("bulkhead_dns_a 1\n", 30000),
		"too large":           strings.Repeat("x", metrics.MaxPage+1),
	} {
		if err := metrics.Check([]byte(page), "dns"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("# HELP bulkhead_dns_a A.\n# TYPE bulkhead_dns_a gauge\nbulkhead_dns_a{x=\"1\",y=\"\\n\"} 1\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if metrics.Check(page, "dns") != nil {
			return
		}
		for line := range bytes.Lines(page) {
			line = bytes.TrimPrefix(bytes.TrimPrefix(line, []byte("# HELP ")), []byte("# TYPE "))
			if !bytes.HasPrefix(line, []byte("bulkhead_dns_")) {
				t.Errorf("another's name is taken: %q", line)
			}
		}
	})
}

// TestCollect reads a page as webuid does.
func TestCollect(t *testing.T) {
	run := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- metrics.Serve(ctx, slog.New(slog.DiscardHandler), run, "dhcpd", func(p *metrics.Page) {
			p.Counter("messages_total", "Messages by type.", metrics.Of(3, "type", "discover"))
		})
	}()
	dhcpd := metrics.Services[2]
	if _, err := dhcpd.Collect(ctx, run); err == nil {
		t.Error("there is a page of a daemon that has no socket")
	}
	if err := os.MkdirAll(filepath.Join(metrics.Dir(run), "dhcpd"), 0o755); err != nil {
		t.Fatal(err)
	}
	var page []byte
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if page, err = dhcpd.Collect(ctx, run); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for _, want := range []string{`bulkhead_dhcp_messages_total{type="discover"} 3`, "bulkhead_dhcp_process_resident_memory_bytes"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	cancel()
	<-done
}

// TestEveryServiceIsThere finds services without a program: they would be down for ever.
func TestEveryServiceIsThere(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range metrics.Services {
		if _, err := os.Stat(filepath.Join("../../cmd", s.Name, "main.go")); err != nil {
			t.Error(err)
		}
		if seen[s.Prefix] {
			t.Errorf("two have the prefix %s", s.Prefix)
		}
		seen[s.Prefix] = true
	}
}

// TestPromtoolTakesPages asks the one who is to read them, where it is installed.
func TestPromtoolTakesPages(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: .ci/deps test")
	}
	p := metrics.NewPage("dns")
	p.Counter("names_total", "Names.", metrics.Of(1, "name", "a\"} 1\nbulkhead_up 0\n\\\xff\u2028"))
	metrics.Process(p)
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(p.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s\n%s", err, out, p.Bytes())
	}
}
