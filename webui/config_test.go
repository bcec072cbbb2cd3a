//go:build linux

package webui_test

import (
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

// proposed is the file that a plan page carries.
func proposed(t *testing.T, v view) string {
	t.Helper()
	if v.StatusCode != http.StatusOK {
		t.Fatalf("got %d\n%s", v.StatusCode, v.body)
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(field(t, v.body, "data"))))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sent is the form of a page as a browser sends it: inputs, selects and text areas.
func sent(t *testing.T, v view) url.Values {
	t.Helper()
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input(?: id="[^"]*")?(?: type="hidden")? name="([a-z]+)" value="([^"]*)"`).FindAllStringSubmatch(v.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for _, m := range regexp.MustCompile(`<input type="checkbox" name="([a-z]+)" checked`).FindAllStringSubmatch(v.body, -1) {
		form.Set(m[1], "on")
	}
	for _, m := range regexp.MustCompile(`(?s)<select id="([a-z]+)".*?</select>`).FindAllStringSubmatch(v.body, -1) {
		if value := regexp.MustCompile(`<option selected>([^<]*)`).FindStringSubmatch(m[0]); value != nil {
			form.Set(m[1], value[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?s)<textarea id="[a-z]+" name="([a-z]+)"[^>]*>\n(.*?)</textarea>`).FindAllStringSubmatch(v.body, -1) {
		form.Set(m[1], strings.ReplaceAll(strings.ReplaceAll(html.UnescapeString(m[2]), "\r\n", "\n"), "\n", "\r\n"))
	}
	form.Del("q")
	return form
}

func TestListsSayWhatTheFileSays(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	for path, texts := range map[string][]string{
		"/rules":           {"players → nextcloud: jellyfin", ">films</td>", ">kim</td>", "2027-06-30", `href="/edit?line=89"`, `href="/rules/tv-films"`, ">block</td>", `href="/new/rule"`},
		"/forwards":        {"wireguard-lab", "udp/51999", `<a href="/devices/nextcloud">nextcloud</a>`, "trial of a tunnel", "2027-01-31"},
		"/names":           {"gw.home.arpa", "nas.home.arpa", "192.168.30.10", "out of the pool", "tracking.example", `href="/names/tv"`},
		"/dhcp":            {"52:54:00:30:00:10", "192.168.40.100 to 192.168.40.199", "12h", `href="/dhcp/iot"`},
		"/rules?q=FILMS+j": {"tv-films", `value="FILMS j"`, "Show all"},
		"/forwards?q=%3Cx": {"Nothing here has “&lt;x” in it"},
	} {
		contains(t, w.get(path), http.StatusOK, texts...)
	}
	if v := w.get("/rules?q=FILMS+j"); strings.Contains(v.body, "nextcloud-data") {
		t.Error("the search finds too much")
	}
	vi := w.as("vi", access.Viewer)
	for _, path := range []string{"/rules", "/forwards", "/names", "/dhcp"} {
		v := vi.get(path)
		contains(t, v, http.StatusOK)
		for _, door := range []string{"/edit", "/new/", `href="/rules/`, `href="/names/`, `href="/dhcp/`, `href="/forwards/`} {
			if strings.Contains(v.body, door) {
				t.Errorf("%s shows a viewer %s", path, door)
			}
		}
	}
	s.history[6].Data = []byte(strings.Replace(string(s.file), "why: films", "why: <script>alert(1)</script>", 1))
	contains(t, w.get("/rules"), http.StatusOK, "&lt;script&gt;alert(1)&lt;/script&gt;")
	s.history[6].Data = []byte(strings.Replace(string(s.file), "expires: 2027-06-30", "expires: 2026-01-31", 1))
	contains(t, w.get("/rules"), http.StatusOK, `2026-01-31 <strong class="expired">expired</strong>`)
	s.history[6].Data = []byte("ports: 1\n")
	contains(t, w.get("/rules"), http.StatusUnprocessableEntity, "cannot be read by this version")
	s.history = nil
	for _, path := range []string{"/rules", "/forwards", "/names", "/dhcp"} {
		contains(t, w.get(path), http.StatusOK, `<a href="/setup">`)
	}
	contains(t, w.get("/new/rule"), http.StatusNotFound)
	contains(t, w.get("/edit"), http.StatusOK, "<textarea")
}

func TestLongListsComeInPieces(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	var rules strings.Builder
	for i := range 250 {
		fmt.Fprintf(&rules, "  - {name: r%d, from: iot, to: storage, protocols: [tcp/%d], why: x}\n", i, i+1)
	}
	s.history[6].Data = []byte(strings.Replace(string(s.file), "block:\n", "block:\n"+rules.String(), 1))
	first := w.get("/rules?q=r")
	next := regexp.MustCompile(`<a href="([^"]*)">(\d+) more</a>`).FindStringSubmatch(first.body)
	if next == nil {
		t.Fatalf("there is no more:\n%s", first.body)
	}
	if len(first.body) > 100<<10 {
		t.Errorf("the first view has %d bytes", len(first.body))
	}
	v := w.get(html.UnescapeString(next[1]))
	contains(t, v, http.StatusOK, ">r150<", " more</a>")
	if strings.Contains(v.body, ">r5<") {
		t.Error("the next page repeats the first")
	}
}

// TestFormsChangeOneEntry sends each form of the file as it is, and with one value changed.
func TestFormsChangeOneEntry(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	for _, tt := range []struct{ path, field, value, before, after string }{
		{"/rules/tv-films", "why", "it's: # films", "    why: films\n", "    why: \"it's: # films\"\n"},
		{"/rules/browsing", "expires", "2028-02-29", "    why: outbound access\n", "    why: outbound access\n    expires: 2028-02-29\n"},
		{"/rules/admin", "to", "services,storage iot", "    to: [services, storage, iot, guest]\n", "    to: [services, storage, iot]\n"},
		{"/forwards/wireguard-lab", "protocols", "udp/51998", "protocols: udp/51999", "protocols: udp/51998"},
		{"/names/tv", "address", "192.168.40.9", "mac: \"52:54:00:40:00:12\", owner", "mac: \"52:54:00:40:00:12\", address: 192.168.40.9, owner"},
		{"/dhcp/iot", "lease", "1h", "lease: 12h}   #", "lease: 1h}   #"},
		{"/dhcp/storage", "block", "a.example\r\nb.example", "subnet: 192.168.30.0/24}", "subnet: 192.168.30.0/24, dns: {block: [a.example, b.example]}}"},
	} {
		form := sent(t, w.get(tt.path))
		if got := proposed(t, w.post(tt.path, form)); got != string(s.file) {
			t.Fatalf("%s, sent as it is, changes the file:\n%s", tt.path, got)
		}
		form.Set(tt.field, tt.value)
		want := strings.Replace(string(s.file), tt.before, tt.after, 1)
		if got := proposed(t, w.post(tt.path, form)); got != want || want == string(s.file) {
			t.Errorf("%s, %s: %s:\n%s", tt.path, tt.field, tt.value, got)
		}
	}
	noted := strings.Replace(string(s.file), "purpose: television", "purpose: television, note: in the hall", 1)
	s.history[6].Data = []byte(noted)
	form := sent(t, w.get("/names/tv"))
	if got := proposed(t, w.post("/names/tv", form)); got != noted {
		t.Errorf("a note is lost:\n%s", got)
	}
	s.history[6].Data = s.file
	form = sent(t, w.get("/names/tv"))
	form.Set("name", "screen")
	got := proposed(t, w.post("/names/tv", form))
	if strings.Contains(got, "[tv]") || !strings.Contains(got, "players: [screen]") || !strings.Contains(got, "    from: screen\n    to: internet") {
		t.Errorf("the name is not followed:\n%s", got)
	}
	form = sent(t, w.get("/dhcp/iot"))
	form.Del("dhcp")
	form.Set("address", "x")
	contains(t, w.post("/dhcp/iot", form), http.StatusUnprocessableEntity, "has no DHCP that could give the device one")
}

func TestFormsAddAndRemoveEntries(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.get("/new/rule?from=iot&to=nas&protocols=tcp%2F8080&list=block&why=%22%3E%3Cscript%3E")
	contains(t, v, http.StatusOK, `value="iot"`, `value="tcp/8080"`, "<option selected>block</option>", `value="&#34;&gt;&lt;script&gt;"`)
	form := url.Values{"list": {"allow"}, "name": {"camera"}, "from": {"iot"}, "to": {"nas"}, "protocols": {"smb, ssh"}, "why": {"recordings"}, "owner": {""}, "expires": {""}}
	got := proposed(t, w.post("/new/rule", form))
	if want := "  - name: camera\n    from: iot\n    to: nas\n    protocols: [smb, ssh]\n    why: recordings\n"; !strings.Contains(got, want) || strings.Replace(got, want, "", 1) != string(s.file) {
		t.Errorf("got\n%s", got)
	}
	form = url.Values{"name": {"web"}, "protocols": {"tcp/443"}, "to": {"nextcloud"}, "owner": {"kim"}, "why": {"photos"}, "expires": {"2027-05-01"}}
	if got := proposed(t, w.post("/new/forward", form)); !strings.Contains(got, "  - name: web\n    protocols: [tcp/443]\n    to: nextcloud\n") {
		t.Errorf("got\n%s", got)
	}
	form = url.Values{"name": {"door"}, "zone": {"iot"}, "mac": {"52:54:00:40:00:13"}, "critical": {"on"}}
	if got := proposed(t, w.post("/new/name", form)); !strings.Contains(got, "  door:      {zone: iot, mac: \"52:54:00:40:00:13\", critical: true}\n") {
		t.Errorf("got\n%s", got)
	}
	if got := proposed(t, w.post("/rules/browsing/remove", nil)); strings.Contains(got, "name: browsing") {
		t.Errorf("got\n%s", got)
	}
	if got := proposed(t, w.post("/forwards/wireguard-lab/remove", nil)); strings.Contains(got, "wireguard-lab") {
		t.Errorf("got\n%s", got)
	}
	contains(t, w.post("/names/nas/remove", nil), http.StatusUnprocessableEntity, "still named by allow.nextcloud-data", "Nothing was changed")
	for _, path := range []string{"/rules/none", "/forwards/none", "/names/none", "/dhcp/none"} {
		contains(t, w.get(path), http.StatusNotFound)
	}
}

func TestFormsSayWhatIsWrongAndKeepWhatWasTyped(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	form := url.Values{"list": {"block"}, "name": {`x" onload=y`}, "from": {"nobody"}, "to": {"nas"}, "protocols": {""}, "why": {"J\u00fcrgen\n- name: y"}, "expires": {"tomorrow"}}
	v := w.post("/new/rule", form)
	contains(t, v, http.StatusUnprocessableEntity, `value="x&#34; onload=y"`, `value="nobody"`, "<option selected>block</option>", `id="from-problem">No zone, device or group is called &#34;nobody&#34;`,
		`aria-invalid="true" aria-describedby="from-problem from-help"`, `is not a name`, `Character 2 is`, `is not a date`)
	form = sent(t, w.get("/names/tv"))
	form.Set("mac", "52:54:00:30:00:10")
	contains(t, w.post("/names/tv", form), http.StatusUnprocessableEntity, `already belongs to device`, `value="52:54:00:30:00:10"`)

	// Somebody else was faster.
	form = sent(t, w.get("/rules/tv-films"))
	form.Set("owner", "alex")
	s.history[6].Data = []byte(strings.Replace(string(s.file), "why: films", "why: theirs", 1))
	v = w.post("/rules/tv-films", form)
	contains(t, v, http.StatusConflict, "Somebody else has changed this rule", `value="alex"`)
	if got := proposed(t, w.post("/rules/tv-films", sent(t, v))); !strings.Contains(got, "    why: films\n    owner: alex\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestTextIsCheckedAndPlanned(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	form := sent(t, w.get("/edit"))
	if got := strings.ReplaceAll(form.Get("file"), "\r\n", "\n"); got != string(s.file) {
		t.Fatalf("the page has another text:\n%s", got)
	}
	contains(t, w.get("/edit?line=89"), http.StatusOK, `data-line="89"`, `class="asked" id="line-89"`, "<h2 id=\"lines\">Line 89</h2>")
	form.Set("then", "check")
	contains(t, w.post("/edit", form), http.StatusOK, "The file can be used")

	form.Set("file", "\n# </textarea><script>\r\n"+form.Get("file")+"broken\r\n")
	form.Set("why", `"quoted"`)
	for _, then := range []string{"check", "plan"} {
		form.Set("then", then)
		v := w.post("/edit", form)
		line := strings.Count(form.Get("file"), "\n")
		contains(t, v, http.StatusUnprocessableEntity, "cannot be used as it is", fmt.Sprintf(`<a href="#line-%d">Line %d</a>`, line, line), fmt.Sprintf(`class="blamed" id="line-%d"`, line),
			`&#34;broken&#34; is no zone`, "Use the name of a zone", `value="&#34;quoted&#34;"`)
		if got := sent(t, v).Get("file"); got != strings.ReplaceAll(strings.ReplaceAll(form.Get("file"), "\r\n", "\n"), "\n", "\r\n") {
			t.Errorf("what was typed is gone:\n%q", got)
		}
	}
	// A form whose file is refused leads here, too.
	plan := w.post("/change/plan", url.Values{"file": {"broken\n"}, "why": {"films"}})
	contains(t, plan, http.StatusUnprocessableEntity, `<form method="post" action="/edit">`)
	v := w.post("/edit", url.Values{"data": {field(t, plan.body, "data")}, "base": {field(t, plan.body, "base")}, "why": {"films"}, "then": {"check"}})
	contains(t, v, http.StatusUnprocessableEntity, ">\nbroken\n</textarea>", `value="films"`)
	v = w.post("/edit", url.Values{"data": {field(t, plan.body, "data")}, "base": {"6"}, "then": {"plan"}})
	contains(t, v, http.StatusConflict, "The file has changed since you began", ">\nbroken\n</textarea>")

	form.Set("file", strings.Replace(form.Get("file"), "broken", "# good", 1))
	form.Set("then", "plan")
	if got := proposed(t, w.post("/edit", form)); !strings.HasSuffix(got, "# good\n") || strings.Contains(got, "\r") {
		t.Errorf("got\n%q", got)
	}

	// Somebody else was faster.
	s.history[6].Data, s.history[6].Why = append(s.file[:len(s.file):len(s.file)], "# theirs\n"...), "their reason"
	v = w.post("/edit", form)
	contains(t, v, http.StatusConflict, "The file has changed since you began", "their reason", "<code># theirs</code>", "# good")
	again := sent(t, v)
	again.Set("then", "plan")
	if got := proposed(t, w.post("/edit", again)); !strings.HasSuffix(got, "# good\n") {
		t.Errorf("got\n%q", got)
	}

	// A file of another system keeps its line ends.
	s.history[6].Data = []byte(strings.ReplaceAll(string(s.file), "\n", "\r\n"))
	form = sent(t, w.get("/edit"))
	form.Set("then", "plan")
	if got := proposed(t, w.post("/edit", form)); got != string(s.history[6].Data) {
		t.Errorf("got\n%q", got)
	}
}

// What somebody typed is given back to them whatever becomes of their session or of the box,
// and goes on under nobody else's name.
func TestTextOutlivesSessionAndServices(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	kim := w.as("kim", access.Administrator)
	form := sent(t, kim.get("/edit"))
	form.Set("file", form.Get("file")+"# </textarea> films\r\n")
	form.Set("why", "films")
	form.Set("then", "plan")
	typed := string(s.file) + "# </textarea> films\n"
	text := func(v view) string { return strings.ReplaceAll(sent(t, v).Get("file"), "\r\n", "\n") }
	plan := kim.post("/edit", form)
	w.leads(w.post("/users/kim/remove", nil), "/users?done=user")

	trial := url.Values{"minutes": {"2"}}
	for _, name := range []string{"base", "by", "name", "data", "why"} {
		trial.Set(name, field(t, plan.body, name))
	}
	for path, form := range map[string]url.Values{"/edit": form, "/change/plan": form, "/change/try": trial} {
		for range 3 { // there is room again for the next
			v := kim.post(path, form)
			contains(t, v, http.StatusUnauthorized, "The session is over. What you sent was not done.", `<a href="/login" target="_blank"`, `value="films"`)
			if got := text(v); got != typed {
				t.Errorf("%s: what was typed is gone:\n%q", path, got)
			}
			// Somebody else logs in at the same browser.
			again := sent(t, v)
			again.Set("then", "plan")
			v = w.post("/edit", again)
			contains(t, v, http.StatusConflict, "kim typed this text")
			again = sent(t, v)
			again.Set("then", "plan")
			if got := proposed(t, w.post("/edit", again)); got != typed {
				t.Errorf("%s: sent as one's own, it is\n%q", path, got)
			}
		}
	}
	contains(t, kim.post("/edit", nil), http.StatusUnauthorized, `<a href="/login">Log in</a>`)
	if s.history[6].Number != 7 || len(s.history) != 7 {
		t.Error("something was changed")
	}

	form = sent(t, w.get("/edit"))
	form.Set("file", typed)
	form.Set("then", "check")
	away := func(what string) {
		t.Helper()
		v := w.post("/edit", form)
		contains(t, v, http.StatusServiceUnavailable, "try again in a moment")
		if got := text(v); got != typed {
			t.Errorf("without %s, what was typed is gone:\n%q", what, got)
		}
	}
	if err := os.Remove(b.o.Netcfgd); err != nil {
		t.Fatal(err)
	}
	away("netcfgd")
	b.stopAccess()
	away("authd")
}

// TestFormsNeverSeeSecrets has a file that names secrets: the names stay, and no page knows
// more of them.
func TestFormsNeverSeeSecrets(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	w := b.owner()
	const named = "resolvers: [{secret: our-resolver}]\n"
	s.history[6].Data = append(s.file[:len(s.file):len(s.file)], named...)
	form := sent(t, w.get("/rules/tv-films"))
	form.Set("owner", "alex")
	if got := proposed(t, w.post("/rules/tv-films", form)); !strings.HasSuffix(got, named) {
		t.Errorf("got\n%s", got)
	}
	form.Set("why", "ghp_0123456789012345678901234567890123456789")
	contains(t, w.post("/rules/tv-films", form), http.StatusUnprocessableEntity, "looks like a GitHub token", "bulkhead secret set")
}
