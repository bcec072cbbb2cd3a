//go:build linux

package webui_test

import (
	"crypto/tls"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/totp"
	"bulkhead/webui"
)

const passphrase = "four green kettles sing"

// browser is somebody at the pages, without scripts.
type browser struct {
	b      *box
	client *http.Client
	header http.Header
}

func (b *box) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	return &browser{b: b, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}, client: &http.Client{
		Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// view is an answer to a browser.
type view struct {
	*http.Response
	body string
}

func (w *browser) ask(method, path string, form url.Values) view {
	w.b.t.Helper()
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, w.b.url("127.0.0.1")+path, body)
	if err != nil {
		w.b.t.Fatal(err)
	}
	for k, v := range w.header {
		req.Header[k] = v
	}
	if method == "POST" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.b.t.Fatal(err)
	}
	return view{resp, string(data)}
}

func (w *browser) get(path string) view                   { return w.ask("GET", path, nil) }
func (w *browser) post(path string, form url.Values) view { return w.ask("POST", path, form) }

// leads checks that a form was taken, and follows where it leads.
func (w *browser) leads(v view, to string) view {
	w.b.t.Helper()
	if got := v.Header.Get("Location"); v.StatusCode != http.StatusSeeOther || got != to {
		w.b.t.Fatalf("got %d to %q, want 303 to %q\n%s", v.StatusCode, got, to, v.body)
	}
	return w.get(to)
}

func (w *browser) secret() string {
	at, err := url.Parse(w.b.url("127.0.0.1"))
	if err != nil {
		w.b.t.Fatal(err)
	}
	for _, c := range w.client.Jar.Cookies(at) {
		return c.Value
	}
	return ""
}

// owner claims the box as alex.
func (b *box) owner() *browser {
	b.t.Helper()
	w := b.browser()
	w.leads(w.post("/claim", url.Values{"name": {"alex"}, "code": {b.control("POST").Code}}), "/account")
	return w
}

// as lets somebody in with a role, by an invitation.
func (w *browser) as(name string, role access.Role) *browser {
	w.b.t.Helper()
	v := w.post("/users", url.Values{"name": {name}, "role": {string(role)}})
	code := regexp.MustCompile(`<code class="print secret">([A-Z2-7]+)</code>`).FindStringSubmatch(v.body)
	if v.StatusCode != http.StatusOK || code == nil {
		w.b.t.Fatalf("invite %s: got %d\n%s", name, v.StatusCode, v.body)
	}
	other := w.b.browser()
	other.leads(other.post("/invitation", url.Values{"code": {strings.ToLower(code[1])}}), "/account")
	return other
}

// setPassword gives the browser's user a password and a code, and returns the latter's secret.
func (w *browser) setPassword() totp.Secret {
	w.b.t.Helper()
	page := w.get("/account/password")
	found := regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`).FindStringSubmatch(page.body)
	if found == nil {
		w.b.t.Fatalf("no secret:\n%s", page.body)
	}
	secret, err := totp.Parse(found[1])
	if err != nil {
		w.b.t.Fatal(err)
	}
	form := url.Values{"password": {passphrase}, "secret": {found[1]}, "code": {secret.Code(time.Now())}}
	w.leads(w.post("/account/password", form), "/account?done=password")
	return secret
}

func TestSomebodyClaimsTheBoxAndComesBack(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.browser()
	w.leads(w.get("/"), "/login")
	if v := w.leads(w.get("/login"), "/claim"); !strings.Contains(v.body, b.control("GET").Fingerprint.String()) {
		t.Errorf("the page does not show the fingerprint:\n%s", v.body)
	}
	v := w.post("/claim", url.Values{"name": {"alex"}, "code": {access.NewCode().String()}})
	if v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, "the claim code is wrong") || !strings.Contains(v.body, `value="alex"`) {
		t.Errorf("a wrong code: got %d\n%s", v.StatusCode, v.body)
	}
	v = w.leads(w.post("/claim", url.Values{"name": {"alex"}, "code": {b.control("GET").Code}}), "/account")
	if !strings.Contains(v.body, "You have nothing to log in with yet") {
		t.Errorf("the account says nothing of the danger:\n%s", v.body)
	}
	secret := w.setPassword()
	w.leads(w.post("/logout", nil), "/login?done=logout")
	w.leads(w.get("/users"), "/login?next=%2Fusers")
	// Each code lets somebody in once: the next is of the next half minute.
	login := url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(30 * time.Second))}, "next": {"/users"}}
	wrong := url.Values{"user": {"alex"}, "password": {"five"}, "code": {"000000"}}
	if v := w.post("/login", wrong); v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, `value="alex"`) || strings.Contains(v.body, `value="five"`) {
		t.Errorf("a wrong password: got %d\n%s", v.StatusCode, v.body)
	}
	if v := w.leads(w.post("/login", login), "/users"); v.StatusCode != http.StatusOK || !strings.Contains(v.body, "alex (you)") {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
}

func TestSessionIsTheBrowsersAlone(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.browser()
	v := w.post("/claim", url.Values{"name": {"alex"}, "code": {b.control("GET").Code}})
	cookie := v.Header.Get("Set-Cookie")
	if !regexp.MustCompile(`^__Host-bulkhead=bulkhead_session_[0-9a-f]{64}; Path=/; HttpOnly; Secure; SameSite=Strict$`).MatchString(cookie) {
		t.Errorf("the cookie is %q", cookie)
	}
	secret := w.setPassword()
	first := w.secret()
	login := func(w *browser, ahead time.Duration) {
		t.Helper()
		form := url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(ahead))}}
		w.leads(w.post("/login", form), "/")
	}
	// Whoever planted a session sees it end when somebody logs in over it.
	login(w, 30*time.Second)
	if w.secret() == first {
		t.Error("logging in leaves the session what it was")
	}
	stolen := b.browser()
	stolen.header.Set("Cookie", "__Host-bulkhead="+first)
	stolen.leads(stolen.get("/account"), "/login?next=%2Faccount")
	// A token is no session, and a session in the cookie opens no API.
	stolen.header.Set("Cookie", "__Host-bulkhead="+b.token(w).Secret)
	stolen.leads(stolen.get("/account"), "/login?next=%2Faccount")
	if v := w.get("/api/v1/status"); v.StatusCode != http.StatusUnauthorized {
		t.Errorf("the cookie opens the API: %d", v.StatusCode)
	}
	// After logging out it is worth nothing, wherever it is kept.
	kept := w.secret()
	w.post("/logout", nil)
	stolen.header.Set("Cookie", "__Host-bulkhead="+kept)
	stolen.leads(stolen.get("/account"), "/login?next=%2Faccount")
	if log := b.log.String(); strings.Contains(log, kept) || strings.Contains(log, passphrase) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

// token makes one by the form.
func (b *box) token(w *browser) (out access.TokenAnswer) {
	b.t.Helper()
	form := url.Values{"name": {"ci"}, "scope": {"admin"}, "until": {time.Now().AddDate(0, 1, 0).Format("2006-01-02")}}
	v := w.post("/tokens", form)
	found := regexp.MustCompile(`<code class="print secret">(bulkhead_[0-9a-f]+)</code>`).FindStringSubmatch(v.body)
	if v.StatusCode != http.StatusOK || found == nil {
		b.t.Fatalf("make a token: got %d\n%s", v.StatusCode, v.body)
	}
	out.Secret = found[1]
	return out
}

// TestWhoSeesWhat measures which role gets to which page, and compares with
// testdata/pages.txt, which is there to be read.
func TestWhoSeesWhat(t *testing.T) {
	const golden = "testdata/pages.txt"
	b := newSampleBox(t)
	b.start(conf1)
	admin := b.owner()
	who := []struct {
		name string
		w    *browser
	}{{"nobody", b.browser()}, {"viewer", admin.as("vi", access.Viewer)}, {"operator", admin.as("op", access.Operator)}, {"admin", admin}}
	var text strings.Builder
	fmt.Fprintf(&text, "Which page is for whom: login sends there, 401 and 403 are closed doors, + is an open one.\n\n%-40s", "")
	for _, c := range who {
		fmt.Fprintf(&text, " %-8s", c.name)
	}
	for _, ask := range webui.Pages() {
		if ask == "POST /logout" {
			continue // it would end what is measured with
		}
		method, path, _ := strings.Cut(ask, " ")
		path = filled(path)
		fmt.Fprintf(&text, "\n%-40s", ask)
		for _, c := range who {
			c.w.header.Set("Content-Type", "application/x-www-form-urlencoded")
			v := c.w.ask(method, path, url.Values{"nonsense": {"1"}})
			mark := "+"
			switch {
			case strings.HasPrefix(v.Header.Get("Location"), "/login"):
				mark = "login"
			case v.StatusCode == 401 || v.StatusCode == 403 && strings.Contains(v.body, "Not allowed"):
				mark = strconv.Itoa(v.StatusCode)
			}
			fmt.Fprintf(&text, " %-8s", mark)
		}
	}
	got := regexp.MustCompile(` +\n`).ReplaceAllString(text.String()+"\n", "\n")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("doors differ (-want +got):\n%s", diff)
	}
}

// filled gives the parts of a path that vary a value.
func filled(path string) string {
	path = strings.ReplaceAll(path, "{$}", "")
	for part, value := range map[string]string{"{number}": "7", "{from}": "iot", "{to}": "storage", "{name}": "nobody", "{id}": "0", "{daemon}": "dnsd", "{rule}": "tv-films", "{forward}": "wireguard-lab", "{device}": "tv", "{zone}": "iot", "{mac}": "52:54:00:40:00:12", "{a}": "6", "{b}": "7"} {
		path = strings.ReplaceAll(path, part, value)
	}
	return path
}

func TestOtherSitesPressNoButtons(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	for name, header := range map[string]http.Header{
		"another site":                {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"another host of the domain":  {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://tv.home.arpa"}},
		"an old browser, by Origin":   {"Origin": {"https://evil.example"}},
		"a page without an origin":    {"Origin": {"null"}},
		"the same host without HTTPS": {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"http://127.0.0.1"}},
	} {
		w.header = header
		for _, ask := range webui.Pages() {
			if path, ok := strings.CutPrefix(ask, "POST "); ok {
				if v := w.post(filled(path), nil); v.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %s: got %d", name, ask, v.StatusCode)
				}
			}
		}
	}
	w.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if v := w.get("/account"); v.StatusCode != http.StatusOK {
		t.Errorf("the session is over: %d", v.StatusCode)
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, `\\evil.example`, "/%5cevil.example/..//x", "javascript:alert(1)", "http:evil", "", "evil"} {
		v := w.get("/login?next=" + url.QueryEscape(next))
		if to := v.Header.Get("Location"); to != "/" {
			t.Errorf("%q leads to %q", next, to)
		}
	}
}

func TestUsersAndTokensAreManaged(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	kim := w.as("kim", access.Viewer)
	if v := kim.get("/users"); v.StatusCode != http.StatusForbidden || strings.Contains(v.body, `href="/users"`) {
		t.Errorf("a viewer sees users: %d\n%s", v.StatusCode, v.body)
	}
	if v := w.post("/users", url.Values{"name": {"kim"}, "role": {"viewer"}}); v.StatusCode != http.StatusConflict || !strings.Contains(v.body, `value="kim"`) {
		t.Errorf("a second kim: %d\n%s", v.StatusCode, v.body)
	}
	w.leads(w.post("/users/kim/role", url.Values{"role": {"operator"}}), "/users?done=role")
	if v := kim.get("/account"); !strings.Contains(v.body, `<span class="role">operator</span>`) {
		t.Errorf("kim is no operator:\n%s", v.body)
	}
	w.leads(w.post("/users/kim/remove", nil), "/users?done=user")
	kim.leads(kim.get("/account"), "/login?next=%2Faccount")

	secret := b.token(w).Secret
	c, err := b.access.Check(t.Context(), secret, access.Admin)
	if err != nil || c.Name != "ci" || c.Kind != auth.ByToken {
		t.Errorf("got %+v, %v", c, err)
	}
	id := regexp.MustCompile(`/tokens/([0-9a-f]+)/revoke`).FindStringSubmatch(w.get("/tokens").body)
	if id == nil {
		t.Fatal("the token is not listed")
	}
	w.leads(w.post("/tokens/"+id[1]+"/revoke", nil), "/tokens?done=token")
	if _, err := b.access.Check(t.Context(), secret, ""); err == nil {
		t.Error("a revoked token is let in")
	}
	if v := w.post("/tokens", url.Values{"name": {"x"}, "until": {"soon"}, "scope": {"read"}}); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "2027-03-31") {
		t.Errorf("no day: %d\n%s", v.StatusCode, v.body)
	}
	for path, want := range map[string]string{"/audit": ">user added<", "/audit.csv": ",user:alex,127.0.0.1,user added,kim,", "/audit.json": `"what":"token revoked"`} {
		if v := w.get(path); !strings.Contains(v.body, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, v.body)
		}
	}
}

// Who makes a token is told of every door that it opens.
func TestScopesSayAllThatTheyOpen(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	page := b.owner().get("/tokens").body
	parts := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)name="scope" value="([a-z]+)".*?</details>`).FindAllStringSubmatch(page, -1) {
		parts[m[1]] = html.UnescapeString(m[0])
	}
	_, parts["any"], _ = strings.Cut(page, "What every token opens")
	for _, e := range webui.Endpoints() {
		if e.Scope == "" {
			continue // no token opens it
		}
		if !strings.Contains(parts[e.Scope], "<li>"+e.Summary+"</li>") {
			t.Errorf("%s is not said to open %s %s: %q", e.Scope, e.Method, e.Path, e.Summary)
		}
	}
	if !strings.Contains(parts["read"], "Prometheus") {
		t.Error("read is not said to open the metrics")
	}
}

func TestStrangersWordsAreNoFormula(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	b.browser().post("/login", url.Values{"user": {`=HYPERLINK("http://evil")`}, "password": {"x"}, "code": {"1"}})
	if v := w.get("/audit.csv"); strings.Contains(v.body, ",\"=HYPER") || !strings.Contains(v.body, "'=HYPER") {
		t.Errorf("got\n%s", v.body)
	}
}

func TestAccessServiceIsAway(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	b.stopAccess()
	v := w.get("/account")
	if v.StatusCode != http.StatusServiceUnavailable || !strings.Contains(v.body, "the access service does not answer") {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
	if v := b.browser().get("/login"); v.StatusCode != http.StatusOK {
		t.Errorf("the login page: got %d", v.StatusCode)
	}
}

// What is left open in the style sheet takes the rest with it.
func TestStyleSheetIsWhole(t *testing.T) {
	text, err := os.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	depth := 0
	for n, line := range strings.Split(string(text), "\n") {
		if depth > 0 && strings.HasPrefix(line, "@layer") {
			t.Errorf("line %d: the layer before is not closed", n+1)
		}
		depth += strings.Count(line, "{") - strings.Count(line, "}")
	}
	if depth != 0 {
		t.Errorf("%d blocks are open at the end", depth)
	}
}
