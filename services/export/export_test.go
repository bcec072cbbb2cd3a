//go:build linux

package export_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export"
	"bulkhead/services/file"
	"bulkhead/services/flow/record"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

var (
	noon  = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	films = record.Record{
		Start: noon.Add(-time.Minute), End: noon, Began: noon.Add(-time.Minute),
		Src: record.Side{Zone: "iot", Device: "tv", Addr: netip.MustParseAddr("192.168.40.100"), Port: 40000},
		Dst: record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.9"), Port: 443}, Proto: model.ProtoTCP,
		Out: record.Count{Packets: 5, Bytes: 900}, In: record.Count{Packets: 7, Bytes: 9000}, Verdict: record.Allowed, Rule: "browsing",
	}
	refused = func() record.Record {
		r := films
		r.Verdict, r.Rule, r.Reason, r.In = record.Refused, "", "no-rule", record.Count{}
		return r
	}()
	scan = record.Event{Time: noon, Kind: record.PortScan, Side: films.Src, Text: `"tv" tried 100 ports`, Key: "tv"}
)

// box is an exportd between a flowd that says what the test says, and its peers.
type box struct {
	t             *testing.T
	dirs          run.Dirs
	flows, events chan any // what flowd says: a value, or a line
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "x") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &box{t: t, dirs: run.Dirs{Run: dir, State: t.TempDir()}, flows: make(chan any), events: make(chan any)}
	for _, name := range []string{svcconf.Exportd.Name, svcconf.FeedDir} {
		if err := os.Mkdir(b.dirs.RunDir(name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	b.flowd()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- export.Serve(ctx, slog.New(slog.DiscardHandler), b.dirs) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("served until %v", err)
		}
	})
	return b
}

// flowd serves the live streams.
func (b *box) flowd() {
	l, err := sock.Listen(filepath.Join(b.dirs.RunDir(svcconf.FeedDir), svcconf.FlowsSocket), -1)
	if err != nil {
		b.t.Fatal(err)
	}
	stream := func(c chan any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "\n")
			for http.NewResponseController(w).Flush() == nil {
				select {
				case <-r.Context().Done():
					return
				case v := <-c:
					line, is := v.(string)
					if !is {
						data, _ := json.Marshal(v)
						line = string(data)
					}
					_, _ = io.WriteString(w, line+"\n")
				}
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows/live", stream(b.flows))
	mux.HandleFunc("GET /v1/events/live", stream(b.events))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	b.t.Cleanup(func() { srv.Close() })
}

func (b *box) configure(c svcconf.Export) {
	b.t.Helper()
	c.Box, c.Timezone, c.Zones = "gw", "Europe/Berlin", []string{"internet", "iot"}
	for i := range c.Alerts {
		c.Alerts[i].Again, c.Alerts[i].Limit = svcconf.Duration(time.Hour), 100
	}
	data, err := json.Marshal(c)
	if err == nil {
		err = file.Replace(b.dirs.Config(svcconf.Exportd.Name), data, 0o640, -1)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// await waits until the status of a target is what is wanted.
func (b *box) await(what string, i int, ok func(svcconf.TargetStatus) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 60*time.Second)
	defer cancel()
	path := filepath.Join(b.dirs.RunDir(svcconf.Exportd.Name), svcconf.StatusFile)
	changes, err := file.Watch(ctx, path)
	if err != nil {
		b.t.Fatal(err)
	}
	var s svcconf.ExportStatus
	for {
		if data, err := os.ReadFile(path); err == nil {
			s = svcconf.ExportStatus{}
			if err := json.Unmarshal(data, &s); err != nil {
				b.t.Fatal(err)
			}
			if i < len(s.Targets) && ok(s.Targets[i]) {
				return
			}
		}
		if _, more := <-changes; !more {
			b.t.Fatalf("waited for %s, status is %+v", what, s)
		}
	}
}

func (b *box) sent(i int, n uint64) {
	b.t.Helper()
	b.await(fmt.Sprintf("%d to be sent", n), i, func(s svcconf.TargetStatus) bool { return s.Sent == n && s.Error == "" })
}

func (b *box) fails(i int, why string) {
	b.t.Helper()
	b.await("the error "+why, i, func(s svcconf.TargetStatus) bool { return strings.Contains(s.Error, why) && !s.Failing.IsZero() })
}

func to(scheme, addr string) svcconf.Peer {
	return svcconf.Peer{Scheme: scheme, Address: netip.MustParseAddrPort(addr)}
}

func everything(format string, p svcconf.Peer) svcconf.ExportTarget {
	return svcconf.ExportTarget{Name: format, Format: format, To: p, Flows: true, Refusals: true, Events: format != model.FormatIPFIX}
}

// request is what a web server was asked.
type request struct {
	path, body string
	header     http.Header
}

// web is a web server that notes what it is sent, and what it answers.
func web(t *testing.T, answer http.HandlerFunc) (svcconf.Peer, chan request) {
	t.Helper()
	got := make(chan request, 100)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.URL.Path, string(body), r.Header}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	p := to("https", srv.Listener.Addr().String())
	p.Name, p.CA = "example.com", []string{base64.StdEncoding.EncodeToString(srv.Certificate().Raw)}
	return p, got
}

func TestRecordsAndEventsArriveOverHTTPS(t *testing.T) {
	p, got := web(t, nil)
	loki, ndjson := everything(model.FormatLoki, p), everything(model.FormatJSON, p)
	ndjson.To.Path, ndjson.Flows, ndjson.Token = "/in", false, "let-me-in"
	b := newBox(t)
	b.configure(svcconf.Export{Exports: []svcconf.ExportTarget{loki, ndjson}})
	b.flows <- films
	b.flows <- refused
	b.flows <- `{"skipped": 4}`
	b.flows <- `{"verdict": "allowed"}`
	b.events <- scan
	b.events <- `{"kind": "made-up", "time": "2026-11-27T12:00:00Z"}`
	b.sent(0, 3)
	b.sent(1, 2)
	for len(got) > 0 {
		switch r := <-got; r.path {
		case "/loki/api/v1/push":
			if !json.Valid([]byte(r.body)) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Authorization") != "" {
				t.Errorf("got %+v", r)
			}
		case "/in":
			if strings.Contains(r.body, `"allowed"`) || r.header.Get("Authorization") != "Bearer let-me-in" || !strings.HasSuffix(r.body, "}\n") {
				t.Errorf("got %+v", r)
			}
		default:
			t.Errorf("got %+v", r)
		}
	}
	data, err := os.ReadFile(filepath.Join(b.dirs.RunDir(svcconf.Exportd.Name), svcconf.StatusFile))
	if err != nil || !strings.Contains(string(data), `"missed": 6`) || strings.Contains(string(data), "let-me-in") {
		t.Errorf("the status is %s, %v", data, err)
	}
}

// collector takes lines, or what else comes, at an address.
func collector(t *testing.T, addr string) (net.Listener, chan string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan string, 20_000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for in := bufio.NewScanner(c); in.Scan(); {
				got <- in.Text()
				if strings.Contains(in.Text(), "hang-up") {
					break
				}
			}
			c.Close()
		}
	}()
	return l, got
}

func TestCollectorThatIsAwayHarmsNobodyAndGetsAllOnceItIsBack(t *testing.T) {
	l, _ := collector(t, "127.0.0.1:0")
	away := l.Addr().String()
	l.Close()
	here, got := collector(t, "127.0.0.1:0")
	b := newBox(t)
	c := svcconf.Export{Exports: []svcconf.ExportTarget{everything(model.FormatJSON, to("tcp", away)), everything(model.FormatJSON, to("tcp", here.Addr().String()))}}
	c.Exports[1].Name = "here"
	b.configure(c)
	for range 3 {
		b.flows <- films
	}
	b.sent(1, 3)
	b.fails(0, "connection refused")
	_, late := collector(t, away)
	b.sent(0, 3)
	for range 3 {
		if a, b := <-got, <-late; a != b || !strings.Contains(a, `"browsing"`) {
			t.Errorf("got %s and %s", a, b)
		}
	}
	// One that hangs up is called again. What another configuration changes of one target
	// is nothing to the other.
	hang := films
	hang.Rule = "hang-up"
	b.flows <- hang
	b.sent(1, 4)
	<-got
	c.Exports = c.Exports[1:]
	b.configure(c)
	b.await("the other to be gone", 0, func(s svcconf.TargetStatus) bool { return s.Name == "here" && s.Sent == 4 })
	b.flows <- films
	if line := <-got; !strings.Contains(line, `"browsing"`) {
		t.Errorf("got %s", line)
	}
	b.sent(0, 5)
}

func TestWhatThereIsNoRoomForIsCounted(t *testing.T) {
	l, _ := collector(t, "127.0.0.1:0")
	l.Close()
	b := newBox(t)
	b.configure(svcconf.Export{Exports: []svcconf.ExportTarget{everything(model.FormatSyslog, to("tcp", l.Addr().String()))}})
	const n = 10_000
	for range n {
		b.flows <- films
	}
	b.await("loss", 0, func(s svcconf.TargetStatus) bool { return s.Queued > 8000 && s.Queued < 8300 && s.Lost > n-8192-500-1 })
}

func TestPeersAreNotBelieved(t *testing.T) {
	elsewhere, never := web(t, nil)
	redirect, _ := web(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+elsewhere.Address.String()+"/", http.StatusTemporaryRedirect)
	})
	parrot, _ := web(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "\x1b[2J%s %s", r.Header.Get("Authorization"), strings.Repeat("x", 1<<20))
	})
	picky, _ := web(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	stranger, _ := web(t, nil)
	stranger.CA = []string{otherCA} // all servers of tests have one certificate
	other, _ := web(t, nil)
	other.Name = "other.example.net"
	var c svcconf.Export
	for i, p := range []svcconf.Peer{redirect, parrot, picky, stranger, other} {
		target := everything(model.FormatJSON, p)
		target.Name, target.Token = fmt.Sprint("t", i), "let-me-in"
		c.Exports = append(c.Exports, target)
	}
	b := newBox(t)
	b.configure(c)
	b.flows <- films
	b.fails(0, "the answer is 307")
	b.fails(1, "the answer is 403")
	b.await("what is refused to be given up", 2, func(s svcconf.TargetStatus) bool {
		return s.Lost == 1 && strings.Contains(s.Error, "refused: 400")
	})
	b.fails(3, "certificate signed by unknown authority")
	b.fails(4, "not other.example.net")
	if len(never) > 0 {
		t.Error("the box was led astray")
	}
	data, err := os.ReadFile(filepath.Join(b.dirs.RunDir(svcconf.Exportd.Name), svcconf.StatusFile))
	if err != nil || strings.Contains(string(data), "let-me-in") || strings.Contains(string(data), `\u001b`) || len(data) > 4<<10 {
		t.Errorf("the status is %s, %v", data, err)
	}
}

// otherCA is the certificate of nobody here.
const otherCA = "MIIBcjCCARmgAwIBAgIUK3BDeiXRH7TFdt68z14OpDd4dIkwCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDbGFiMCAXDTI2MTEyNzEzMTM1NFoYDzIxMjYxMTAzMTMxMzU0WjAOMQwwCgYDVQQDDANsYWIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS1/dkF6AvKNDxxso34DJYVAqeIJGRcseEaWXsBsLqB0vXWp3pOaz2USK4oV2YM+9lSadIzonkx//BaqF18qpX6o1MwUTAdBgNVHQ4EFgQUkfBO8cx+0CaSx1Iip1Q8EVz3fYUwHwYDVR0jBBgwFoAUkfBO8cx+0CaSx1Iip1Q8EVz3fYUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiAhrt+Jf56jrCRsuoH1v96utJ4148aVMDwVYoVmUTR2TAIgF7m98wf2TZ6Y16Oywj+VKytABCJEtPTZ+hz8pUHjEkI="

func alertTo(by string, p svcconf.Peer) svcconf.AlertTarget {
	return svcconf.AlertTarget{Name: by, By: by, To: p}
}

func TestEventsAreToldOnce(t *testing.T) {
	p, got := web(t, nil)
	hook, ntfy := alertTo(model.ByWebhook, p), alertTo(model.ByNtfy, p)
	hook.To.Path, hook.Events, hook.Token = "/services/hunter2", []string{"port-scan"}, "let-me-in"
	ntfy.To.Path = "/topic"
	b := newBox(t)
	b.configure(svcconf.Export{Alerts: []svcconf.AlertTarget{hook, ntfy}})
	b.events <- scan
	b.sent(0, 1)
	b.sent(1, 1)
	b.events <- scan // no news
	device := record.Event{Time: noon, Kind: record.NewDevice, Text: "a \"x\r\nPriority: max\" came", Key: "x"}
	b.events <- device
	b.sent(1, 2)
	b.sent(0, 1)
	var list []request
	for len(got) > 0 {
		list = append(list, <-got)
	}
	slices.SortStableFunc(list, func(a, b request) int { return strings.Compare(a.path, b.path) })
	if len(list) != 3 {
		t.Fatalf("got %+v", list)
	}
	var body struct {
		Box, Title, Text string
		Events           []record.Event
	}
	if err := json.Unmarshal([]byte(list[0].body), &body); err != nil || body.Box != "gw" || body.Title != "gw: port scan" || len(body.Events) != 1 ||
		body.Text != "gw: port scan\n2026-11-27 13:00:00 \"tv\" tried 100 ports\n" || list[0].header.Get("Authorization") != "Bearer let-me-in" {
		t.Errorf("the webhook got %+v, %v", list[0], err)
	}
	if r := list[1]; r.header.Get("Title") != "gw: port scan" || r.header.Get("Priority") != "high" || r.body != "2026-11-27 13:00:00 \"tv\" tried 100 ports\n" {
		t.Errorf("ntfy got %+v", r)
	}
	if r := list[2]; r.header.Get("Title") != "gw: new device" || r.header.Get("Priority") != "default" || strings.Count(r.body, "\n") != 1 {
		t.Errorf("ntfy got %+v", r)
	}
}

func TestAlertsAreTriedOut(t *testing.T) {
	good, got := web(t, nil)
	bad, _ := web(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no /services/hunter2 here", http.StatusNotFound)
	})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() { // a mail server without TLS, and one that never ends its sentence
		for i := 0; ; i++ {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			if i%2 == 1 {
				_, _ = io.WriteString(c, "220-"+strings.Repeat("x", 1<<20))
				continue
			}
			_, _ = io.WriteString(c, "220 hello\r\n")
			in := bufio.NewScanner(c)
			in.Scan()
			_, _ = io.WriteString(c, "250-hello\r\n250 AUTH PLAIN\r\n")
			in.Scan()
			c.Close()
		}
	}()
	hook := alertTo(model.ByWebhook, bad)
	hook.To.Path = "/services/hunter2"
	post := alertTo(model.ByMail, to("smtp", plain.Addr().String()))
	post.User, post.Password, post.From, post.Recipients = "box", "hunter2-password", "box@example.com", []string{"alex@example.com"}
	b := newBox(t)
	b.configure(svcconf.Export{Alerts: []svcconf.AlertTarget{alertTo(model.ByNtfy, good), hook, post}})
	ask := func() (list []svcconf.AlertAnswer) {
		t.Helper()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return sock.Dial(ctx, filepath.Join(b.dirs.RunDir(svcconf.Exportd.Name), svcconf.ExportSocket))
		}}}
		resp, err := client.Post("http://exportd/v1/alerts/test", "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	b.await("the configuration", 2, func(svcconf.TargetStatus) bool { return true })
	list := ask()
	if len(list) != 3 || list[0].Error != "" || list[0].Answer != "200 OK" || list[1].Error != "the answer is 404 Not Found no ... here" ||
		list[2].Error != "the mail server has no STARTTLS, and nothing is sent without" {
		t.Errorf("got %+v", list)
	}
	if r := <-got; r.header.Get("Title") != "gw: test" {
		t.Errorf("got %+v", r)
	}
	if list = ask(); !strings.Contains(list[2].Error, "more than anybody needs") {
		t.Errorf("got %+v", list)
	}
}

func TestTheConfigurationKnowsAllKindsOfEvents(t *testing.T) {
	var kinds []string
	for _, k := range record.Kinds {
		kinds = append(kinds, string(k))
	}
	if !slices.Equal(kinds, model.EventKinds) {
		t.Errorf("events are %q, and the configuration knows %q", kinds, model.EventKinds)
	}
}
