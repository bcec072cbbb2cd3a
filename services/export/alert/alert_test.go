package alert_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/export/alert"
	"bulkhead/services/flow/record"
)

var (
	berlin = func() *time.Location {
		l, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			panic(err)
		}
		return l
	}()
	noon  = time.Date(2026, 11, 27, 12, 0, 0, 0, berlin)
	rules = alert.Rules{Again: time.Hour, Limit: 3, QuietFrom: 22 * 60, QuietTo: 7*60 + 30, Zone: berlin}
)

func event(kind record.Kind, key string) record.Event {
	return record.Event{Time: noon, Kind: kind, Key: key, Text: "event " + key}
}

// keys are the keys of the events that a gate tells now.
func keys(t *testing.T, g *alert.Gate, now time.Time) string {
	t.Helper()
	n, _ := g.Take(now)
	if n == nil {
		return ""
	}
	var list []string
	for _, e := range n.Events {
		list = append(list, e.Key)
	}
	if n.More > 0 {
		list = append(list, fmt.Sprintf("+%d", n.More))
	}
	return strings.Join(list, " ")
}

func TestTheSameIsNoNewsForAWhile(t *testing.T) {
	g := alert.NewGate(rules)
	for i, test := range []struct {
		after time.Duration
		kind  record.Kind
		key   string
		news  bool
	}{
		{0, record.PortScan, "tv", true},
		{time.Minute, record.PortScan, "tv", false},
		{time.Minute, record.PortScan, "nas", true},
		{time.Minute, record.NewDevice, "tv", true},
		{59 * time.Minute, record.PortScan, "tv", false},
		{time.Hour, record.PortScan, "tv", true},
		{time.Hour + time.Minute, record.PortScan, "tv", false},
	} {
		if got := g.Add(noon.Add(test.after), event(test.kind, test.key)); got != test.news {
			t.Errorf("%d: got %v, want %v", i, got, test.news)
		}
	}
}

func TestOnlyTheKindsThatAreWanted(t *testing.T) {
	r := rules
	r.Kinds = []record.Kind{record.PortScan}
	g := alert.NewGate(r)
	if g.Add(noon, event(record.NewDevice, "a")) || !g.Add(noon, event(record.PortScan, "b")) {
		t.Error("the wrong ones")
	}
	if got := keys(t, g, noon); got != "b" {
		t.Errorf("got %q", got)
	}
}

func TestNothingIsSentInQuietHoursAndAllOfItAfterwards(t *testing.T) {
	for _, test := range []struct{ at, end string }{
		{"2026-11-27 21:59", ""}, {"2026-11-27 22:00", "2026-11-28 07:30"}, {"2026-11-27 23:59", "2026-11-28 07:30"},
		{"2026-11-28 00:00", "2026-11-28 07:30"}, {"2026-11-28 07:29", "2026-11-28 07:30"}, {"2026-11-28 07:30", ""},
		{"2026-12-31 23:00", "2027-01-01 07:30"},
		{"2027-03-27 23:00", "2027-03-28 07:30"}, // the clocks go forward at 2
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", test.at, berlin)
		if err != nil {
			t.Fatal(err)
		}
		g := alert.NewGate(rules)
		g.Add(at, event(record.PortScan, "a"))
		g.Add(at, event(record.PortScan, "b"))
		n, next := g.Take(at.UTC())
		end := ""
		if !next.IsZero() {
			end = next.Format("2006-01-02 15:04")
		}
		if end != test.end || (n == nil) != (test.end != "") {
			t.Errorf("at %s: told %v, next %s, want %s", test.at, n, end, test.end)
		}
		if n == nil {
			if got := keys(t, g, next); got != "a b" {
				t.Errorf("at %s: told %q", test.end, got)
			}
		}
	}
	r := rules
	r.QuietFrom, r.QuietTo = 12*60, 13*60
	for minute, quiet := range map[int]bool{-1: false, 0: true, 59: true, 60: false} {
		g := alert.NewGate(r)
		g.Add(noon, event(record.PortScan, "a"))
		if got := keys(t, g, noon.Add(time.Duration(minute)*time.Minute)); (got == "") != quiet {
			t.Errorf("%d minutes past noon: told %q", minute, got)
		}
	}
}

func TestWhatIsTooMuchForAnHourComesTogether(t *testing.T) {
	g := alert.NewGate(rules)
	for i := range 3 {
		now := noon.Add(time.Duration(i) * time.Minute)
		g.Add(now, event(record.PortScan, fmt.Sprint(i)))
		if got := keys(t, g, now); got != fmt.Sprint(i) {
			t.Errorf("told %q", got)
		}
	}
	for i := range 100 {
		g.Add(noon.Add(10*time.Minute), event(record.NewDevice, fmt.Sprint(i)))
	}
	n, next := g.Take(noon.Add(10 * time.Minute))
	if n != nil || !next.Equal(noon.Add(time.Hour)) {
		t.Fatalf("told %v, next %s", n, next)
	}
	n, _ = g.Take(next)
	if n == nil || len(n.Events) != 64 || n.More != 36 || n.Title("gw") != "gw: 100 events" || !strings.HasSuffix(n.Text(berlin), "\nand 36 more\n") {
		t.Errorf("told %v", n)
	}
	if g.Waiting() != 0 {
		t.Errorf("%d wait", g.Waiting())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	g := alert.NewGate(rules)
	for i := range 10_000 {
		if !g.Add(noon.Add(time.Duration(i)*time.Microsecond), event(record.PortScan, fmt.Sprint(i))) {
			t.Fatal("no news")
		}
	}
	if g.Add(noon.Add(time.Second), event(record.PortScan, "9999")) || !g.Add(noon.Add(time.Second), event(record.PortScan, "0")) {
		t.Error("the oldest is not what was forgotten")
	}
}

func TestMail(t *testing.T) {
	n := &alert.Notice{Events: []record.Event{event(record.NewDevice, "a")}}
	got := string(n.Mail("gw", "box@example.com", []string{"alex@example.com", "kim@example.com"}, noon, berlin, "id"))
	want := strings.ReplaceAll(`From: "gw" <box@example.com>
To: alex@example.com, kim@example.com
Subject: gw: new device
Date: Fri, 27 Nov 2026 12:00:00 +0100
Message-ID: <id@example.com>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

2026-11-27 12:00:00 event a
`, "\n", "\r\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// FuzzStrangers holds that no name begins a header, a line or an event.
func FuzzStrangers(f *testing.F) {
	f.Add("films", "new-device")
	f.Add("a\r\nBcc: x@example.com\r\n\r\n.\r\nü\x00\xff\u2028", "port-scan\r\nX: y")
	f.Add(strings.Repeat("ü", 600), "")
	f.Fuzz(func(t *testing.T, text, kind string) {
		n := &alert.Notice{Events: []record.Event{{Time: noon, Kind: record.Kind(kind), Text: text, Key: text}}}
		if lines := strings.Count(n.Text(berlin), "\n"); lines != 1 {
			t.Errorf("%d lines", lines)
		}
		if strings.ContainsFunc(n.Title("gw"), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("title %q", n.Title("gw"))
		}
		data := n.Mail("gw", "box@example.com", []string{"alex@example.com"}, noon, berlin, "id")
		m, err := mail.ReadMessage(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil || len(m.Header) != 9 || strings.ReplaceAll(string(body), "\r\n", "\n") != n.Text(berlin) {
			t.Errorf("%d headers, body %q, %v", len(m.Header), body, err)
		}
		hook, err := n.Webhook("gw", berlin)
		if err != nil || !json.Valid(hook) {
			t.Errorf("%s, %v", hook, err)
		}
	})
}
