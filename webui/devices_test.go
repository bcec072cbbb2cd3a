//go:build linux

package webui_test

import (
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	auth "bulkhead/services/auth/api"
)

// lists checks what is in the content of a page, and what is not.
func lists(t *testing.T, v view, has, lacks []string) {
	t.Helper()
	_, main, _ := strings.Cut(v.body, "<main")
	if v.StatusCode != http.StatusOK {
		t.Errorf("got %d", v.StatusCode)
	}
	for _, s := range has {
		if !strings.Contains(main, s) {
			t.Errorf("%s lacks %q:\n%s", v.Request.URL, s, main)
		}
	}
	for _, s := range lacks {
		if strings.Contains(main, s) {
			t.Errorf("%s has %q:\n%s", v.Request.URL, s, main)
		}
	}
}

func TestDevicesAreListedAndSearched(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	lists(t, w.get("/devices"), []string{
		`href="/devices/nas"`, "critical", `href="/devices/da:a1:19:4e:10:02">“pixel-9”`, "private address", "Signify B.V.", "2026-11-27 18:59 CET",
		"&lt;script&gt;", "All <span", ">8<", `<svg class="spark" viewBox="0 0 23 20"`, "in the last 24 hours, at most", `href="/devices?show=new"`,
	}, []string{"<script", "onclick='"})
	lists(t, w.get("/devices?show=new"), []string{"pixel-9", "hue-bridge"}, []string{"/devices/nas", "laptop-anna"})
	lists(t, w.get("/devices?show=known"), []string{"/devices/nas", "laptop-anna"}, []string{"pixel-9"})
	lists(t, w.get("/devices?show=isolated"), []string{"52:54:00:99:00:07", `<input type="hidden" name="show" value="isolated">`}, []string{"/devices/nas"})
	lists(t, w.get("/devices?zone=iot&q=SONY"), []string{"/devices/tv", "<option selected>iot"}, []string{"camera-door"})
	lists(t, w.get("/devices?q="+url.QueryEscape("anna 192.168.10")), []string{"laptop-anna"}, []string{"/devices/nas"})
	lists(t, w.get("/devices?zone=nowhere&page=99"), []string{"No device is like that"}, nil)
	lists(t, w.get("/devices?page=99"), []string{"No device"}, nil)
	// Without flowd there is the file.
	if err := os.Remove(b.o.Flowd); err != nil {
		t.Fatal(err)
	}
	lists(t, w.get("/devices"), []string{"What was seen is missing", "/devices/nas", "pixel-9"}, []string{"hue-bridge"})
	lists(t, w.get("/devices/nas"), []string{"What it did is missing", "tv-films"}, nil)
	if v := w.get("/events"); v.StatusCode != http.StatusServiceUnavailable || !strings.Contains(v.body, "the service that records flows does not answer") {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
}

func TestDeviceHasItsOwnPage(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	lists(t, w.get("/devices/tv"), []string{
		"52:54:00:40:00:12", "“bravia”", "television", "kim", "no &lt;b&gt;updates&lt;/b&gt; since", "192.168.40.77", "2026-11-28 06:43 CET", // itself
		"streaming", `<strong>not</strong> tcp/80`, "administration", // what it may
		"smb (tcp/445)", `<a href="/devices/nas">nas</a>`, "18 GB", "198.51.100.7", // what it did
		"time.box.example", "New behaviour", `href="/flows?device=tv"`,
		"First given", "2026-11-24 21:00 CET", "“&lt;script&gt;alert(1)&lt;/script&gt;”", "none any more", // its leases
	}, []string{"203.0.113.9", "This device is new", "<script"})
	// Capital letters, and a device that has a name, by its MAC.
	lists(t, w.get("/devices/52:54:00:40:00:12"), []string{"television"}, nil)
	lists(t, w.get("/devices/DA:A1:19:4E:10:02"), []string{"This device is new", "a private address", "zone guest", "being learnt"}, nil)
	lists(t, w.get("/devices/52:54:00:99:00:07"), []string{"This device is isolated</strong> by kim", "it knocks at every door", "&lt;script&gt;"}, []string{"<script", "onclick='"})
	for _, path := range []string{"/devices/nobody", "/devices/52:54:00:00:00:00", "/devices/%3Cscript%3E"} {
		if v := w.get(path); v.StatusCode != http.StatusNotFound || strings.Contains(v.body, "<script>") {
			t.Errorf("%s: got %d\n%s", path, v.StatusCode, v.body)
		}
	}
}

func TestOperatorIsolatesAndReleases(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	admin := b.owner()
	viewer, kim := admin.as("vi", "viewer"), admin.as("kim", "operator")
	lists(t, viewer.get("/devices/tv"), nil, []string{"<button", "<form"})
	lists(t, viewer.get("/devices/52:54:00:99:00:07"), []string{"is isolated"}, []string{"<button", "<form"})
	if v := viewer.post("/devices/tv/isolate", url.Values{}); v.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer isolates: %d", v.StatusCode)
	}
	v := kim.post("/devices/tv/isolate", url.Values{"why": {"it watches <b>back</b>"}, "for": {"3 weeks"}})
	if v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "Choose how long") || !strings.Contains(v.body, `value="it watches &lt;b&gt;back&lt;/b&gt;"`) {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
	v = kim.post("/devices/nas/isolate", url.Values{"why": {"just so"}, "for": {"8h"}})
	if v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "would lock you out") || !strings.Contains(v.body, `value="just so"`) || !strings.Contains(v.body, `value="8h" selected`) {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
	v = kim.leads(kim.post("/devices/tv/isolate", url.Values{"why": {"it watches back"}, "for": {"1h"}}), "/devices/tv?done=isolate")
	lists(t, v, []string{"is isolated</strong> by kim", ", until <time", "“it watches back”", "/devices/tv/release"}, []string{"/devices/tv/isolate"})
	v = kim.leads(kim.post("/devices/tv/release", nil), "/devices/tv?done=release")
	lists(t, v, []string{"/devices/tv/isolate"}, []string{"is isolated</strong>"})
	if v := kim.post("/devices/tv/release", nil); v.StatusCode != http.StatusConflict || !strings.Contains(v.body, "tv is not isolated") {
		t.Errorf("a second time: %d\n%s", v.StatusCode, v.body)
	}
	if v := kim.post("/devices/nobody/isolate", url.Values{}); v.StatusCode != http.StatusNotFound {
		t.Errorf("nobody: %d", v.StatusCode)
	}
}

func TestEventsAreFiltered(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner().as("vi", "viewer")
	lists(t, w.get("/events"), []string{"Foreign DHCP server", "New behaviour", `<a href="/devices/nas">`, "&lt;script&gt;"}, []string{"<script>"})
	lists(t, w.get("/events?kind=port-scan"), []string{"was refused at 20 ports", `value="port-scan" selected`}, []string{"which it never did"})
	lists(t, w.get("/events?zone=guest"), []string{"192.168.50.66"}, []string{"20 ports"})
	lists(t, w.get("/events?device=tv"), []string{"which it never did"}, []string{"20 ports"})
	lists(t, w.get("/events?device=%22%3E%3Cscript%3E"), []string{"No event is like that", "&#34;&gt;&lt;script&gt;"}, nil)
	lists(t, w.get("/events?kind=nonsense"), []string{"20 ports"}, nil)
}

// added are the lines that a plan adds to the file, as they are in its page.
func added(v view) (lines []string) {
	for _, row := range regexp.MustCompile(`<tr class="added">.*?<code>(.*?)</code>`).FindAllStringSubmatch(v.body, -1) {
		lines = append(lines, html.UnescapeString(row[1]))
	}
	return lines
}

func TestNewDeviceIsAdopted(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	const path, form = "/devices/da:a1:19:4e:10:02", "/new/name?mac=da%3Aa1%3A19%3A4e%3A10%3A02&name=pixel-9&zone=guest"
	lists(t, w.get(path), []string{`href="` + html.EscapeString(form) + `">Adopt it`}, nil)
	lists(t, w.get(form), []string{`value="pixel-9"`, `value="da:a1:19:4e:10:02"`, "<option selected>guest"}, nil)
	v := w.post("/new/name", url.Values{
		"name": {"phone-anna"}, "zone": {"guest"}, "mac": {"da:a1:19:4e:10:02"}, "owner": {"anna"}, "purpose": {"hers: <b>calls</b>"}, "note": {`„für Gäste“ "too"`},
	})
	want := []string{`  phone-anna: {zone: guest, mac: "da:a1:19:4e:10:02", owner: anna, purpose: "hers: <b>calls</b>", note: "„für Gäste“ \"too\""}`}
	if got := added(v); v.StatusCode != http.StatusOK || !slices.Equal(got, want) {
		t.Errorf("got %d, %q, want %q", v.StatusCode, got, want)
	}
	// What strangers call themselves is no name yet.
	lists(t, w.get("/devices/52:54:00:99:00:07"), []string{"name=script-alert--x----script&amp;zone=iot"}, nil)
	lists(t, w.as("kim", "operator").get(path), []string{"This device is new"}, []string{"Adopt it"})
}

func TestDeviceIsRenamedWhereverItIsNamed(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	lists(t, w.get("/devices/tv"), []string{`href="/names/tv">Rename or describe it`}, nil)
	v := w.get("/names/tv")
	was := regexp.MustCompile(`name="was" value="([^"]*)"`).FindStringSubmatch(v.body)
	if was == nil {
		t.Fatalf("no form:\n%s", v.body)
	}
	v = w.post("/names/tv", url.Values{"was": {was[1]}, "name": {"television"}, "zone": {"iot"}, "mac": {"52:54:00:40:00:12"}, "owner": {"kim"}, "purpose": {"television"}, "note": {"in the hall"}})
	got := strings.Join(added(v), "\n")
	for _, line := range []string{`  television:`, "purpose: television, note: in the hall}", `players: [television]`, `{from: television, to: internet, protocols: https, expect: deny}`} {
		if !strings.Contains(got, line) {
			t.Errorf("lacks %q:\n%s", line, got)
		}
	}
	lists(t, w.as("kim", "operator").get("/devices/tv"), []string{"television"}, []string{"Rename or describe it"})
}

// TestManyDevicesComeInPieces has a network with more devices than one page lists.
func TestManyDevicesComeInPieces(t *testing.T) {
	const many = 250
	b := newEmptyBox(t)
	b.netcfgd(api.NewServer(sample{newTrials(b), newQuarantine()}, auth.NewClient(b.o.Authd), slog.New(slog.DiscardHandler)))
	flowd := http.NewServeMux()
	flowd.HandleFunc("GET /v1/devices/seen", func(w http.ResponseWriter, _ *http.Request) {
		list := sampleSeen()
		for i := range many - len(list) {
			d := list[i%5]
			d.MAC, d.Hostnames, d.Vendor = model.MAC{0, 0x16, 0x3e, 1, byte(i >> 8), byte(i)}, []string{fmt.Sprintf("living-room-speaker-%d", i)}, "A Maker With A Long Name, Incorporated"
			list = append(list, d)
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	b.answerAt(b.o.Flowd, flowd)
	b.start(conf1)
	w := b.owner()
	found := 0
	for path := "/devices"; path != ""; {
		v := w.get(path)
		if len(v.body) > 100<<10 {
			t.Errorf("%s has %d bytes", path, len(v.body))
		}
		found += strings.Count(v.body, `<th scope="row" role="rowheader"><a href="/devices/`)
		_, rest, _ := strings.Cut(v.body, `<p><a href="/devices?page=`)
		page, _, more := strings.Cut(rest, `">More devices`)
		path = ""
		if more {
			path = "/devices?page=" + page
		}
	}
	if found != many+1 { // the laptop was never seen
		t.Errorf("%d devices are listed, want %d", found, many+1)
	}
}
