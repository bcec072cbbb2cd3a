//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/impact"
	auth "bulkhead/services/auth/api"
)

func TestZonesAreAMatrixOfWords(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	admin := b.owner()
	w := admin.as("vi", "viewer")
	for path, words := range map[string][]string{
		"/zones": {
			`<a href="/zones/services/storage">nfs from nextcloud to nas</a>`, `<a href="/zones/guest/internet">all</a>`, "14 refused in the last hour", "31 more packets were refused",
			`<a href="/zones/storage/internet">nothing</a>`, "not through the box",
		},
		"/zones/services/storage": {
			"nextcloud-data", "nextcloud → nas", "nfs", "Nextcloud keeps its files on the NAS", "bulkhead.yaml:", "/zones/services/storage/nft", "88 connections",
		},
		"/zones/internet/services":    {"wireguard-lab", "forward", "owner alex", "until "},
		"/zones/services/storage/nft": {"chain services_storage {", "nextcloud-data"},
		"/zones/iot/storage":          {"everything is refused", "14 packets were refused"},
		"/zones/iot/storage?q=x":      {"No rule is like that"},
		"/zones/iot/internet":         {"tv-stays-home", ">120 refused<br>"},
		"/zones/iot/box":              {"the box’s own", "box:dns"},
		"/why":                        {`value="any"`},
		"/why?from=tv&to=nas&protocol=smb": {
			"tv → nas: denied", "no rule allows it", "A rule under allow would have to name it", "12 refused: policy",
		},
		"/why?from=tv&to=internet&protocol=https": {"&lt;script&gt;.example", "12 refused by tv-stays-home"},
	} {
		v := w.get(path)
		if v.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d\n%s", path, v.StatusCode, v.body)
		}
		for _, word := range words {
			if !strings.Contains(v.body, word) {
				t.Errorf("%s has no %q:\n%s", path, word, v.body)
			}
		}
		if strings.Contains(v.body, "<script>.example") {
			t.Errorf("%s has a script of a stranger", path)
		}
	}
	for path, status := range map[string]int{"/zones/iot/nowhere": 404, "/zones/%3Cscript%3E/iot": 404, "/why?from=tv&to=%22%3E%3Cscript%3E&protocol=smb": 422} {
		v := w.get(path)
		if v.StatusCode != status || strings.Contains(v.body, "<script>") {
			t.Errorf("%s: got %d\n%s", path, v.StatusCode, v.body)
		}
	}
	if v := w.get("/why?from=tv&to=nowhere&protocol=tcp/1"); !strings.Contains(v.body, `value="nowhere"`) || !strings.Contains(v.body, `value="tcp/1"`) || !strings.Contains(v.body, "the names are internet, box") {
		t.Errorf("what was typed is lost:\n%s", v.body)
	}
}

// TestFlowsAreOfTheKindThatWasAskedAbout asks about what has one port, many, none and all.
func TestFlowsAreOfTheKindThatWasAskedAbout(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	for protocol, want := range map[string]string{
		"smb": "smb", "tcp/400-500": "smb", "tcp": "smb", "ping": "ping", "icmp": "ping", "any": "smb ping", "https": "", "tcp/446-500": "", "udp/445": "", "dns": "", "gre": "", "proto/99": "",
	} {
		v := w.get("/why?from=tv&to=nas&protocol=" + url.QueryEscape(protocol))
		var got []string
		for _, app := range []string{"smb", "ping"} {
			if strings.Contains(v.body, `>nas</td><td role="cell" data-h="Service">`+app+"</td>") {
				got = append(got, app)
			}
		}
		if none := strings.Contains(v.body, "None is recorded."); v.StatusCode != http.StatusOK || strings.Join(got, " ") != want || none != (want == "") {
			t.Errorf("%s: got %d with %q, want %q:\n%s", protocol, v.StatusCode, got, want, v.body)
		}
	}
}

// largeHome has 200 devices in five zones, and 5,000 rules.
func largeHome() []byte {
	var b strings.Builder
	b.WriteString("ports: {wan: {mac: \"52:54:00:10:00:01\"}, trunk: {mac: \"52:54:00:10:00:02\"}}\ninternet: {port: wan}\nzones:\n")
	for z := range 5 {
		fmt.Fprintf(&b, "  zone%d: {port: trunk, vlan: %d, subnet: 10.0.%d.0/24, admin: %t}\n", z, 10+z, z, z == 0)
	}
	b.WriteString("devices:\n")
	for d := range 200 {
		fmt.Fprintf(&b, "  device-%d: {zone: zone%d, mac: \"02:00:00:00:%02x:%02x\", address: 10.0.%d.%d, owner: alex, purpose: number %d}\n", d, d%5, d>>8, d&255, d%5, 10+d/5, d)
	}
	b.WriteString("allow:\n")
	for r := range 5000 {
		from := r % 200
		to := (from + 1 + r/200) % 200
		if from%5 == to%5 {
			to = (to + 1) % 200
		}
		fmt.Fprintf(&b, "  - {name: rule-%d, from: device-%d, to: device-%d, protocols: tcp/%d, why: because of the number %d, owner: kim}\n", r, from, to, 1024+r, r)
	}
	return []byte(b.String())
}

// large is the sample with a large configuration.
type large struct {
	sample
	result   *compile.Result
	proposed *compile.Result // with all 5,000 rules changed
}

// Plan says how the rules become those that are proposed, whatever the file says.
func (l large) Plan(ctx context.Context, p api.Proposal) (*api.Plan, error) {
	plan, err := l.sample.Plan(ctx, p)
	if err == nil && p.Ruleset {
		plan.Ruleset = api.RulesetDiffOf(impact.Change{Old: impact.Side{State: l.result.State}, New: impact.Side{State: l.proposed.State}})
	}
	return plan, err
}

func (l large) Matrix(context.Context) (*api.Matrix, error) {
	return api.MatrixOf(l.result.Policy), nil
}

func (l large) CellRules(_ context.Context, from, to string) (*api.CellRules, error) {
	c, _ := api.CellOf(l.result.Policy, from, to)
	return c, nil
}

func newLargeBox(t testing.TB) *box {
	t.Helper()
	b := newEmptyBox(t)
	b.answerAt(b.o.Flowd, sampleFlowd())
	moved := bytes.ReplaceAll(largeHome(), []byte("protocols: tcp/"), []byte("protocols: udp/"))
	b.netcfgd(api.NewServer(large{sample{newTrials(b), newQuarantine()}, compiled(largeHome()), compiled(moved)}, auth.NewClient(b.o.Authd), slog.New(slog.DiscardHandler)))
	return b
}

// The first view of a page is small, however large the network is.
func TestPagesOfALargeNetworkAreSmall(t *testing.T) {
	b := newLargeBox(t)
	b.start(conf1)
	w := b.owner()
	for _, path := range []string{"/zones", "/zones/zone0/zone1", "/zones/zone1/zone2?q=because"} {
		began := time.Now()
		v := w.get(path)
		t.Logf("%s: %d bytes in %v, with a TLS handshake", path, len(v.body), time.Since(began))
		if v.StatusCode != http.StatusOK || len(v.body) > 100<<10 {
			t.Errorf("%s: got %d, %d bytes", path, v.StatusCode, len(v.body))
		}
	}
	v := w.post("/change/plan", url.Values{"file": {"a: small file\n"}})
	t.Logf("the plan: %d bytes", len(v.body))
	if v.StatusCode != http.StatusOK || len(v.body) > 100<<10 || !strings.Contains(v.body, "Rules of the packet filter that change") {
		t.Errorf("the plan: got %d, %d bytes", v.StatusCode, len(v.body))
	}
	v = w.get("/zones/zone0/zone1")
	found := strings.Contains(v.body, "More rules")
	seen := strings.Count(v.body, `role="rowheader">rule-`)
	for i := 0; found && i < 100; i++ {
		_, rest, _ := strings.Cut(v.body, `/zones/zone0/zone1?after=`)
		next, _, _ := strings.Cut(rest, `"`)
		v = w.get("/zones/zone0/zone1?after=" + strings.ReplaceAll(next, "&amp;", "&"))
		seen += strings.Count(v.body, `role="rowheader">rule-`)
		found = strings.Contains(v.body, "More rules")
	}
	c, _ := large{result: compiled(largeHome())}.CellRules(t.Context(), "zone0", "zone1")
	if seen != len(c.Rules) || seen < 100 {
		t.Errorf("%d rules are on the pages, of %d", seen, len(c.Rules))
	}
}

// BenchmarkPagesOfALargeNetwork asks over one connection, as a browser does, for pages about
// 200 devices and 5,000 rules. flowd is made up.
func BenchmarkPagesOfALargeNetwork(b *testing.B) {
	x := newLargeBox(b)
	x.start(conf1)
	w := x.owner()
	w.client.Transport.(*http.Transport).DisableKeepAlives = false
	b.Cleanup(w.client.CloseIdleConnections)
	for _, path := range []string{"/zones", "/zones/zone0/zone1", "/zones/zone1/zone2?q=because"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				if v := w.get(path); v.StatusCode != http.StatusOK {
					b.Fatalf("got %d", v.StatusCode)
				}
			}
		})
	}
	b.Run("/change/plan", func(b *testing.B) {
		for b.Loop() {
			if v := w.post("/change/plan", url.Values{"file": {"a: small file\n"}}); v.StatusCode != http.StatusOK {
				b.Fatalf("got %d", v.StatusCode)
			}
		}
	})
}

// However many rules a cell has, flowd looks through its records for them as often.
func TestCellAsksFlowdOnceForAllRules(t *testing.T) {
	b := newSampleBox(t)
	if err := os.Remove(b.o.Flowd); err != nil {
		t.Fatal(err)
	}
	var asked sync.Map
	flowd := sampleFlowd()
	b.answerAt(b.o.Flowd, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, twice := asked.LoadOrStore(r.URL.Path+" "+r.URL.Query().Get("verdict"), true); twice {
			t.Errorf("asked again: %s", r.URL)
		}
		flowd.ServeHTTP(w, r)
	}))
	b.start(conf1)
	contains(t, b.owner().get("/zones/services/storage"), http.StatusOK, "88 connections", "22 MB, last <time", ">2026-11-27 18:58 CET<")
	want := []string{"/v1/flows/talks refused", "/v1/flows/top allowed", "/v1/flows/top refused"}
	var got []string
	asked.Range(func(what, _ any) bool { got = append(got, what.(string)); return true })
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
