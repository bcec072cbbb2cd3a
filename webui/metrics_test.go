//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/metrics"
	"bulkhead/webui/remote"
)

// page serves a service's metrics until the test ends.
func (b *box) page(name string, fill func(*metrics.Page)) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Join(metrics.Dir(b.o.Base), name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = metrics.Serve(ctx, slog.New(slog.DiscardHandler), b.o.Base, name, fill) })
	b.t.Cleanup(func() { cancel(); wg.Wait() })
	socket := filepath.Join(metrics.Dir(b.o.Base), name, "metrics.sock")
	b.eventually(name+" has metrics", func() bool { _, err := os.Stat(socket); return err == nil })
}

// reader makes a token that may read.
func (b *box) reader() string {
	b.t.Helper()
	owner := b.claimed()
	var made access.TokenAnswer
	in := access.TokenRequest{Name: "prometheus", Scopes: []access.Scope{access.Read}, Expires: time.Now().Add(time.Hour)}
	if err := remote.New(owner).Call(b.t.Context(), "POST", "/v1/tokens", in, &made); err != nil {
		b.t.Fatal(err)
	}
	return made.Secret
}

// scrape returns the metrics as whoever has the token sees them.
func (b *box) scrape(token string) (*http.Response, string) {
	return b.raw("GET", b.url("127.0.0.1")+"/metrics", "", http.Header{"Authorization": {"Bearer " + token}}, "")
}

func names(p *metrics.Page) {
	p.Counter("messages_total", "Messages.", metrics.Of(3, "name", "a\"} 1\nbulkhead_up{service=\"netcfgd\"} 1\n"))
}

func TestMetricsOfAllServicesAreAtOneAddress(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	b.page("dhcpd", names)
	b.page("dnsd", names)
	token := b.reader()
	if resp, _ := b.raw("GET", b.url("127.0.0.1")+"/metrics", "", nil, ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %s", resp.Status)
	}
	resp, body := b.scrape(token)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	for _, want := range []string{
		"\nbulkhead_up{service=\"dhcpd\"} 1\n", "\nbulkhead_up{service=\"dnsd\"} 1\n", "\nbulkhead_up{service=\"netcfgd\"} 0\n",
		"\nbulkhead_web_requests_total{outcome=\"no token\"} 1\n", `bulkhead_web_box_info{name="gw"`,
		`bulkhead_dhcp_messages_total{name="a\"} 1\nbulkhead_up{service=\"netcfgd\"} 1\n"} 3` + "\n", "\nbulkhead_dns_messages_total{",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

// TestServiceThatLiesOrHangsSpoilsNothing: a service may have been taken over.
func TestServiceThatLiesOrHangsSpoilsNothing(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	b.page("dhcpd", names)
	token := b.reader()
	for name, say := range map[string]func(net.Conn){
		"dnsd": func(c net.Conn) { // in another's name
			fmt.Fprint(c, "# HELP bulkhead_up A.\n# TYPE bulkhead_up gauge\nbulkhead_up{service=\"dnsd\"} 1\n")
			c.Close()
		},
		"wand": func(net.Conn) {}, // nothing, for ever
		"pushd": func(c net.Conn) { // without end
			_, _ = io.Copy(c, &endless{})
			c.Close()
		},
	} {
		dir := filepath.Join(metrics.Dir(b.o.Base), name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", filepath.Join(dir, "metrics.sock"))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				say(c)
			}
		})
		t.Cleanup(func() { l.Close(); wg.Wait() })
	}
	_, body := b.scrape(token)
	for service, up := range map[string]int{"dhcpd": 1, "dnsd": 0, "wand": 0, "pushd": 0} {
		if want := fmt.Sprintf("\nbulkhead_up{service=%q} %d\n", service, up); strings.Count(body, want) != 1 {
			t.Errorf("no %q in\n%.3000s", want, body)
		}
	}
}

// endless is lines that never end.
type endless struct{}

func (*endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

// TestPrometheusScrapesTheBox has the real one do it, configured as the README says.
func TestPrometheusScrapesTheBox(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed: .ci/deps test")
	}
	b := newBox(t)
	b.start(conf1)
	b.page("dhcpd", names)
	token := b.reader()
	_, body := b.scrape(token)
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(body)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	dir, port := t.TempDir(), freePort(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", token)
	write("box.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.certificate("127.0.0.1")})))
	write("prometheus.yml", fmt.Sprintf(`
scrape_configs:
  - job_name: bulkhead
    scheme: https
    scrape_interval: 1s
    authorization: {credentials_file: token}
    tls_config: {ca_file: box.pem}
    static_configs: [{targets: ["127.0.0.1:%d"]}]
`, b.o.HTTPS))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data", fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("prometheus:\n%s", &log)
		}
	}()
	value := func(query string) string { return ask(port, query) }
	b.eventually("prometheus has scraped", func() bool { return value(`up{job="bulkhead"}`) == "1" })
	for query, want := range map[string]string{
		`bulkhead_up{service="dhcpd"}`: "1", `bulkhead_up{service="netcfgd"}`: "0", "bulkhead_dhcp_messages_total": "3",
	} {
		if got := value(query); got != want {
			t.Errorf("%s is %q, want %q", query, got, want)
		}
	}
}

// ask returns the value that a Prometheus has for a query, "" if it has none.
func ask(port uint16, query string) string {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=%s", port, url.QueryEscape(query)))
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil || len(answer.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// certificate returns the one that the box has at an address.
func (b *box) certificate(host string) []byte {
	b.t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", host, b.o.HTTPS), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Raw
}
