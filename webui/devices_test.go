//go:build linux

package webui_test

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
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
	}, []string{"203.0.113.9", "This device is new"})
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
	const path = "/devices/da:a1:19:4e:10:02"
	lists(t, w.get(path), []string{`id="adopt"`, `name="name" value="pixel-9"`, "<option selected>guest"}, nil)
	form := url.Values{"name": {"phone-anna"}, "zone": {"guest"}, "address": {""}, "owner": {"anna"}, "purpose": {"hers: <b>calls</b>"}, "note": {`„für Gäste“ "too"`}, "critical": {"on"}}
	v := w.post(path+"/adopt", form)
	want := []string{`  phone-anna: {zone: guest, mac: "da:a1:19:4e:10:02", owner: anna, purpose: "hers: <b>calls</b>", note: "„für Gäste“ \"too\"", critical: true}`}
	if got := added(v); v.StatusCode != http.StatusOK || !slices.Equal(got, want) {
		t.Errorf("got %d, %q, want %q", v.StatusCode, got, want)
	}
	lists(t, v, []string{`value="adopt phone-anna"`, "Try for 2 minutes"}, nil)
	for says, wrong := range map[string]url.Values{
		"is there already":       {"name": {"nas"}},
		"give the device a name": {"name": {" "}},
		"&#34;nowhere&#34;":      {"name": {"phone"}, "zone": {"nowhere"}},
		"phone&lt;script&gt;":    {"name": {"phone<script>"}},
		"10.1.2.3":               {"address": {"10.1.2.3"}},
		"without double quotes":  {"owner": {`an"na`}},
	} {
		bad := maps.Clone(form)
		maps.Copy(bad, wrong)
		v := w.post(path+"/adopt", bad)
		if v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, says) || !strings.Contains(v.body, `value="hers: &lt;b&gt;calls&lt;/b&gt;"`) || !strings.Contains(v.body, `name="critical" checked`) || strings.Contains(v.body, "<script>") {
			t.Errorf("%v: got %d\n%s", wrong, v.StatusCode, v.body)
		}
	}
	if v := w.post("/devices/nas/adopt", form); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "in the file already") {
		t.Errorf("a second time: %d", v.StatusCode)
	}
	lists(t, w.as("kim", "operator").get(path), []string{"This device is new"}, []string{`id="adopt"`})
}

func TestDeviceIsRenamedWhereverItIsNamed(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	lists(t, w.get("/devices/tv"), []string{`name="name" value="tv"`, `name="purpose" value="television"`, `name="address" value=""`}, nil)
	form := url.Values{"name": {"television"}, "zone": {"iot"}, "owner": {"kim"}, "purpose": {"television"}}
	v := w.post("/devices/tv/entry", form)
	got := strings.Join(added(v), "\n")
	for _, line := range []string{`  television:`, `players: [television]`, `{from: television, to: internet, protocols: https, expect: deny}`} {
		if !strings.Contains(got, line) {
			t.Errorf("lacks %q:\n%s", line, got)
		}
	}
	lists(t, v, []string{`value="rename tv to television"`}, nil)
	form.Set("name", "tv")
	form.Set("purpose", "for the children")
	if got := added(w.post("/devices/tv/entry", form)); len(got) != 1 || !strings.Contains(got[0], "owner: kim, purpose: for the children}") {
		t.Errorf("got %q", got)
	}
	form.Set("name", "nas")
	if v := w.post("/devices/tv/entry", form); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, `name="name" value="nas"`) {
		t.Errorf("a name that is taken: %d\n%s", v.StatusCode, v.body)
	}
	if v := w.post("/devices/da:a1:19:4e:10:02/entry", form); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "it is not in the file") {
		t.Errorf("a new device: %d\n%s", v.StatusCode, v.body)
	}
}
