//go:build linux

package webui_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/services/auth/access"
)

// field is the value of a hidden field of a page.
func field(t testing.TB, page, name string) string {
	t.Helper()
	found := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no field %q in\n%s", name, page)
	}
	return found[1]
}

// packed is a file as forms carry it.
func packed(t *testing.T, file string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(file)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// tries tries a file, as a form of a page would have it.
func (w *browser) tries(file string) view {
	w.b.t.Helper()
	plan := w.post("/change/plan", url.Values{"file": {file}})
	if plan.StatusCode != http.StatusOK {
		w.b.t.Fatalf("plan: got %d\n%s", plan.StatusCode, plan.body)
	}
	v := w.post("/change/try", url.Values{"base": {field(w.b.t, plan.body, "base")}, "name": {field(w.b.t, plan.body, "name")}, "data": {field(w.b.t, plan.body, "data")}, "why": {"films"}, "minutes": {"2"}})
	return w.leads(v, "/pending")
}

func contains(t *testing.T, v view, status int, texts ...string) {
	t.Helper()
	if v.StatusCode != status {
		t.Errorf("got %d, want %d", v.StatusCode, status)
	}
	for _, text := range texts {
		if !strings.Contains(v.body, text) {
			t.Errorf("the page lacks %q:\n%s", text, v.body)
		}
	}
}

func TestPlanSaysWhatAChangeWouldDo(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.post("/change/plan", url.Values{"file": {strings.ReplaceAll(string(s.file)+"# <b>films</b>\n", "\n", "\r\n")}, "why": {`"films"`}})
	contains(t, v, http.StatusOK, "no longer", "zone iot moves from VLAN 40", "3 open connections end", "holds now, and did not before", "still reach the box",
		"<code># &lt;b&gt;films&lt;/b&gt;</code>", "create VLAN 41", `value="&#34;films&#34;"`, `name="minutes" value="2" class="main">Try for 2 minutes</button>`, "Try for</span> 10 minutes")
	contains(t, v, http.StatusOK, " @@ map guest_internet.allow.zone.port {", "\n&#43;\t\t\t     udp . 443 comment &#34;&lt;script&gt;&#34;", "And 12 more.")
	if n := strings.Count(v.body, `<tr class="added"><td>`) + strings.Count(v.body, `<tr class="removed"><td>`); n != 1 {
		t.Errorf("%d lines of the file change, want 1\n%s", n, v.body)
	}
	v = w.post("/change/plan", url.Values{"file": {"moves the box\n"}})
	contains(t, v, http.StatusOK, `<a href="https://192.168.99.1:`, "VLAN 10 of port trunk", `name="minutes" value="5" class="main">`)
	v = w.post("/change/plan", url.Values{"file": {"one:\n  <i>broken\n"}})
	contains(t, v, http.StatusUnprocessableEntity, "Error, line 2:", `<pre>  &lt;i&gt;broken</pre>`, "Warning, line 1:", "Use the name of a zone")
	if strings.Contains(v.body, "/change/try") {
		t.Error("what cannot be used can be tried")
	}
	contains(t, v, v.StatusCode, `formaction="/edit"`, "Edit the text</button>")
	contains(t, w.post("/edit", url.Values{"data": {field(t, v.body, "data")}, "why": {"films"}, "then": {"check"}}), http.StatusUnprocessableEntity, "one:\n  &lt;i&gt;broken", `value="films"`)
	v = w.post("/change/plan", url.Values{"file": {"locks out\n"}})
	contains(t, v, http.StatusOK, "this would lock you out: no admin zone reaches the box", "--accept-lockout")
	if strings.Contains(v.body, "/change/try") {
		t.Error("what locks out can be tried")
	}
	v = w.post("/change/plan", url.Values{"file": {"fails a test\n"}})
	contains(t, v, http.StatusUnprocessableEntity, "Tests that do not hold", "home.yaml:1:1: tests: expected deny")
	v = w.as("op", access.Operator).post("/change/plan", url.Values{"file": {"x"}})
	contains(t, v, http.StatusOK, "Trying a change is for administrators")
	if strings.Contains(v.body, "/change/try") {
		t.Error("an operator may try")
	}
}

func TestChangeIsKeptByWhoTriedItFromAnySession(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	kim := w.as("kim", access.Administrator)
	page := w.tries("new\n")
	contains(t, page, http.StatusOK, "alex is trying a change: “films”", `data-deadline="1`, "Keep</button>", "Undo now</button>", "the box answers 127.0.0.1 over a new connection", "203.0.113.7/24", "DNS in zone admin, DNS in zone iot", `<noscript><meta http-equiv="refresh"`)
	id := url.Values{"id": {field(t, page.body, "id")}}

	s.silent = "<b>SERVFAIL</b>"
	contains(t, w.get("/pending"), http.StatusOK, "<strong>DNS in zone iot</strong>", "not in order", "there is no answer: &lt;b&gt;SERVFAIL")

	// Somebody else sees whose it is, may undo it, and may not keep it.
	theirs := kim.get("/pending")
	contains(t, theirs, http.StatusOK, "Only alex can keep it", "Undo now</button>")
	if strings.Contains(theirs.body, "Keep</button>") {
		t.Error("kim may keep what alex has tried")
	}
	kim.leads(kim.post("/pending/keep", id), "/pending")
	contains(t, kim.post("/change/plan", url.Values{"file": {"other\n"}}), http.StatusOK, "A change by alex is being tried", "There is only one at a time", "Look again</button>")
	v := kim.post("/change/try", url.Values{"base": {"7"}, "file": {"other\n"}, "why": {"mine"}, "minutes": {"2"}})
	contains(t, v, http.StatusConflict, "A change by alex is being tried")
	if n := len(s.history); n != 7 {
		t.Fatalf("it was kept: %d", n)
	}

	// The box has moved: the session is another one, the user is the same.
	secret := w.setPassword()
	other := b.browser()
	other.leads(other.post("/login", url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(30 * time.Second))}, "next": {"/pending"}}), "/pending")
	v = other.leads(other.post("/pending/keep", id), "/pending?done=kept")
	contains(t, v, http.StatusOK, "The change is kept", "the one that the box starts with")
	contains(t, other.get("/history"), http.StatusOK, `<a href="/history/8">8</a>`)
	other.leads(other.post("/pending/undo", id), "/pending")
	if s.history[7].Author != "alex" || string(s.history[7].Data) != "new\n" {
		t.Errorf("got %+v", s.history[7])
	}
}

// TestOldConnectionsKeepNothing has a client that holds on to its connections, as browsers
// do: each is used up until there is a new one.
func TestOldConnectionsKeepNothing(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			b, s := newTrialBox(t)
			b.start(conf1)
			w := b.owner()
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: 8}
			t.Cleanup(transport.CloseIdleConnections)
			w.client.Transport = transport
			var open sync.WaitGroup
			for range 4 { // connections, over HTTP/1.1
				open.Go(func() { w.get("/account") })
			}
			open.Wait()
			other := w.b.browser()
			other.client.Jar = w.client.Jar
			page := other.tries("new\n")
			form := url.Values{"id": {field(t, page.body, "id")}}
			v, sent := w.post("/pending/keep", form), 1
			for ; v.StatusCode == http.StatusTemporaryRedirect && sent < 20; sent++ {
				if len(s.history) != 7 {
					t.Fatal("an old connection has kept it")
				}
				v = w.post(v.Header.Get("Location"), form)
			}
			w.leads(v, "/pending?done=kept")
			if sent < 2 || sent > 5 {
				t.Errorf("sent %d times", sent)
			}
			if len(s.history) != 8 {
				t.Error("it is not kept")
			}
		})
	}
}

func TestChangeIsUndoneAtOnceOrWhenItsTimeIsOver(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	page := w.tries("new\n")
	id := url.Values{"id": {field(t, page.body, "id")}}
	v := w.leads(w.post("/pending/undo", id), "/pending")
	contains(t, v, http.StatusOK, "The change is undone", "It was undone: alex canceled it.", "in force again")
	s.speed = 1000
	w.tries("new\n")
	b.eventually("its time is over", func() bool {
		return strings.Contains(w.get("/pending").body, "It was undone: nobody confirmed it in time.")
	})
	contains(t, w.get("/history"), http.StatusOK, "was not kept", "nobody confirmed it in time")
}

func TestFormOfAChangeKeepsWhatWasTyped(t *testing.T) {
	b, _ := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.post("/change/try", url.Values{"base": {"7"}, "file": {"new\n"}, "why": {"films"}, "minutes": {"11"}})
	contains(t, v, http.StatusUnprocessableEntity, "from 1 to 10 minutes", `value="films"`)
	v = w.post("/change/try", url.Values{"base": {"7"}, "file": {"new\n"}, "why": {" "}, "minutes": {"3"}})
	contains(t, v, http.StatusUnprocessableEntity, "Say why")
	v = w.post("/change/try", url.Values{"base": {"7"}, "file": {"no service takes it\n"}, "why": {"films"}, "minutes": {"3"}})
	contains(t, v, http.StatusConflict, "all is as before: dnsd did not take", `value="films"`)
	contains(t, w.post("/change/plan", url.Values{"why": {"x"}}), http.StatusBadRequest)
	for _, data := range []string{"%", "", "AAAA", packed(t, strings.Repeat("a", 5<<20))} {
		contains(t, w.post("/change/plan", url.Values{"data": {data}}), http.StatusBadRequest)
	}
	contains(t, w.post("/pending/undo", nil), http.StatusBadRequest)
}

func TestWordsOfOthersAreNoMarkupInAChange(t *testing.T) {
	const evil = `<script>alert(1)</script>"' onload=x`
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	s.history[2].Author, s.history[2].Why, s.history[2].Name, s.history[2].Reach = evil, evil, evil, []string{evil}
	s.history[6].Name = evil
	plan := w.post("/change/plan", url.Values{"file": {evil + "\n"}, "why": {evil}, "name": {evil}})
	page := w.leads(w.post("/change/try", url.Values{"base": {"7"}, "file": {evil + "\n"}, "why": {evil}, "name": {evil}, "minutes": {"2"}}), "/pending")
	for _, v := range []view{plan, page, w.get("/account"), w.get("/history"), w.get("/history?q=" + url.QueryEscape(evil)), w.get("/history/3"), w.get("/history/3/again")} {
		contains(t, v, http.StatusOK, "&lt;script&gt;")
		if strings.Contains(v.body, "<script>") || strings.Contains(v.body, `" onload`) {
			t.Errorf("a stranger writes the page:\n%s", v.body)
		}
	}
}

// rules is so many rules, of which no two are the same.
func rules(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {name: rule-%d, from: zone-%d, to: device-%d, protocols: [https, tcp/%d], why: somebody needs that}\n", i, i%40, i%200, i)
	}
	return b.String()
}

func TestLongPlansAreCutShort(t *testing.T) {
	b, _ := newTrialBox(t)
	b.start(conf1)
	v := b.owner().post("/change/plan", url.Values{"file": {rules(5000)}})
	contains(t, v, http.StatusOK, "And 4", " more.")
	if len(v.body) > 100<<10 {
		t.Errorf("the page has %d bytes", len(v.body))
	}
	if n := strings.Count(v.body, `<tr class="`); n > 350 {
		t.Errorf("%d rows", n)
	}
}

func TestChangeOfAnotherIsNotTakenBackUnseen(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	plan := w.post("/change/plan", url.Values{"file": {string(s.file) + "# alex\n"}})
	form := url.Values{"base": {field(t, plan.body, "base")}, "data": {field(t, plan.body, "data")}, "why": {"mine"}, "minutes": {"2"}}
	kim := w.as("kim", access.Administrator)
	page := kim.tries(string(s.file) + "# kim\n")
	kim.leads(kim.post("/pending/keep", url.Values{"id": {field(t, page.body, "id")}}), "/pending?done=kept")
	v := w.post("/change/try", form)
	contains(t, v, http.StatusUnprocessableEntity, "Change 8 by kim was kept since you looked", "<code># kim</code>", `value="mine"`)
	form.Set("base", field(t, v.body, "base"))
	w.leads(w.post("/change/try", form), "/pending")
}

func TestHistoryIsSearchedAndGoneBackIn(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.get("/history?q=KIM+printer")
	contains(t, v, http.StatusOK, `<a href="/history/3">3</a>`, "the printer moves", `value="KIM printer"`)
	if strings.Contains(v.body, `/history/2"`) {
		t.Errorf("change 2 is listed:\n%s", v.body)
	}
	contains(t, w.get("/history?q=%3Cscript%3E"), http.StatusOK, "None of 7 changes", "&lt;script&gt;")
	contains(t, w.get("/history/7"), http.StatusOK, "is in force", "Compared with", "camera-door → nas: rtsp becomes possible")
	v = w.get("/history/6")
	contains(t, v, http.StatusOK, "jellyfin: [tcp/8096", "until <a href=\"/history/7\">", "Go back to this")
	contains(t, w.get("/history/6/again"), http.StatusOK, "go back to change 6", "expect: deny}", "Try for 2 minutes</button>")
	if v := w.get("/history/6/file"); !strings.HasPrefix(v.Header.Get("Content-Type"), "text/plain") || v.body != string(s.history[5].Data) {
		t.Errorf("got %s\n%s", v.Header, v.body)
	}
	contains(t, w.get("/history/99"), http.StatusNotFound)
	contains(t, w.get("/history/x"), http.StatusNotFound)
	vi := w.as("vi", access.Viewer)
	if v := vi.get("/history/6"); strings.Contains(v.body, "Go back") {
		t.Error("a viewer may go back")
	}
}
