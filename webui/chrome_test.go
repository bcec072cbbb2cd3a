//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"image/png"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"bulkhead/netcfg/nstest"
	"bulkhead/webui"
)

// host is what the browser calls the box.
const host = "gw.home.arpa"

// chrome is a tab of a real browser.
type chrome struct {
	b       *box
	ctx     context.Context
	console *nstest.Output // what it complains about
}

// chrome starts a browser that finds the box by its name, and trusts its key as if its
// authority was installed. How the authority is checked, other tests say.
func (b *box) chrome() *chrome {
	b.t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
			b.t.Fatal("chromium is not installed: run .ci/deps test")
		}
		b.t.Skip("chromium is not installed: run .ci/deps test")
	}
	leaf, err := x509.ParseCertificate(b.certificate("127.0.0.1"))
	if err != nil {
		b.t.Fatal(err)
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	ctx, cancel := chromedp.NewExecAllocator(b.t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(b.t.TempDir()), chromedp.WindowSize(1280, 900),
		chromedp.Flag("host-resolver-rules", "MAP "+host+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	)...)
	b.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // which starts it
		b.t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	b.t.Cleanup(cancel)
	return &chrome{b: b, ctx: ctx, console: b.listen(ctx)}
}

// listen notes what scripts and the browser complain about.
func (b *box) listen(ctx context.Context) *nstest.Output {
	said := new(nstest.Output)
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			fmt.Fprintln(said, ev.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			// That an answer was no 200 is what some tests are about.
			if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork {
				fmt.Fprintln(said, ev.Entry.Text)
			}
		case *page.EventJavascriptDialogOpening:
			fmt.Fprintln(said, "a page asks:", ev.Message)
		}
	})
	if err == nil {
		_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return said
}

func (c *chrome) url(path string) string {
	return fmt.Sprintf("https://%s:%d%s", host, c.b.o.HTTPS, path)
}

// do has the browser do something.
func (c *chrome) do(steps ...chromedp.Action[chromedp.Void]) {
	c.b.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		c.fail(err)
	}
}

// get asks the browser for something.
func get[T any](c *chrome, a chromedp.Action[T]) T {
	c.b.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		c.fail(err)
	}
	return v
}

func call[P, R any](c *chrome, cmd cdp.Command[P, R], params P) R {
	c.b.t.Helper()
	v, err := chromedp.Call(c.ctx, cmd, params)
	if err != nil {
		c.fail(err)
	}
	return v
}

// fail ends the test with what the browser shows.
func (c *chrome) fail(err error) {
	c.b.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Text("body"))
	c.b.t.Fatalf("%v\nat %s:\n%s\n%s", err, c.path(), text, c.console)
}

func (c *chrome) open(path string) { c.b.t.Helper(); c.do(chromedp.Navigate(c.url(path))) }

func (c *chrome) path() string {
	at, _ := chromedp.Run(c.ctx, chromedp.Location())
	return strings.TrimPrefix(at, c.url(""))
}

// arrive waits until the browser is at a path, and the page is there.
func (c *chrome) arrive(path string) {
	c.b.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); c.path() != path; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.fail(fmt.Errorf("did not arrive at %s", path))
		}
	}
	c.do(chromedp.WaitReady("footer"))
}

func (c *chrome) text(selector string) string {
	c.b.t.Helper()
	return get(c, chromedp.Text(selector))
}

// keep has the browser use the session of a browser without scripts.
func (c *chrome) keep(w *browser) {
	c.b.t.Helper()
	call(c, network.SetCookie, network.SetCookieParams{Name: "__Host-bulkhead", Value: w.secret(), URL: c.url("/"), Path: "/", Secure: new(true), HTTPOnly: new(true)})
}

// authenticator gives the browser a device that keeps passkeys, and whose user agrees.
func (c *chrome) authenticator() {
	c.b.t.Helper()
	call(c, webauthn.Enable, webauthn.EnableParams{})
	call(c, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
}

// look is how wide the window is, and whether the user likes it dark.
type look struct {
	scheme string
	width  int64
}

var looks = []look{{"light", 1280}, {"dark", 1280}, {"light", 360}, {"dark", 360}}

func (c *chrome) as(l look) {
	c.b.t.Helper()
	call(c, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	call(c, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: 800, DeviceScaleFactor: 1, Mobile: l.width < 600})
}

// quiet checks that no page had anything to complain about.
func (c *chrome) quiet() {
	c.b.t.Helper()
	if said := c.console.String(); said != "" {
		c.b.t.Errorf("the browser complains:\n%s", said)
	}
}

func TestPasskeyLetsInWithoutAPassword(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	c := b.chrome()
	c.authenticator()
	c.open("/")
	c.arrive("/claim")
	c.do(chromedp.SendKeys("#name", "alex"), chromedp.SendKeys("#code", b.control("GET").Code), chromedp.Click("main button"))
	c.arrive("/account")
	c.do(chromedp.WaitVisible("#label"), chromedp.SendKeys("#label", "laptop"), chromedp.Click("[data-passkey-add] button"))
	c.arrive("/account?done=passkey")
	if text := c.text("main"); !strings.Contains(text, "laptop") {
		t.Errorf("the passkey is not listed:\n%s", text)
	}
	c.do(chromedp.Click("header button"))
	c.arrive("/login?done=logout")
	c.open("/users")
	c.arrive("/login?next=%2Fusers")
	c.do(chromedp.WaitVisible("[data-passkey-login]"), chromedp.Click("[data-passkey-login]"))
	c.arrive("/users")
	if text := c.text("main"); !strings.Contains(text, "a passkey") {
		t.Errorf("got\n%s", text)
	}
	c.quiet()
}

// screens are the pages that are looked at, by the name of their picture.
func screens(t testing.TB) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, ask := range webui.Pages() {
		path, ok := strings.CutPrefix(ask, "GET ")
		if !ok || webui.Titles()[ask] == "" {
			continue
		}
		path = filled(path)
		list[strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString("x"+path, "-"), "x-")] = path
	}
	list["overview"] = "/"
	list["system-reach-echoes"], list["system-reach-way"] = "/system/reach?target=tv", "/system/reach?target=198.51.100.9&how=traceroute"
	delete(list, "")
	return list
}

// outsiders are pages for who is not logged in.
var outsiders = []string{"/login", "/claim", "/invitation", "/certificate"}

// TestScreens looks at all pages in both colour schemes, wide and narrow, and checks that
// none scrolls sideways. Pictures of them are for people: they are taken, and written to the
// directory that BULKHEAD_SCREENS names, if it names one.
func TestScreens(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	admin := b.owner()
	admin.as("vi", "viewer")
	admin.as("kim", "operator")
	b.token(admin)
	admin.certificate("laptop")
	b.browser().post("/login", map[string][]string{"user": {"alex"}, "password": {"x"}, "code": {"000000"}})
	c := b.chrome()
	c.everyScreen(admin, func(name, path string) {
		c.as(looks[0])
		c.open(path)
		if status := get(c, chromedp.Evaluate[int](`performance.getEntriesByType("navigation")[0].responseStatus`)); status != http.StatusOK {
			t.Errorf("%s: got %d\n%s", path, status, c.text("main"))
		}
		if moved := get(c, chromedp.Evaluate[float64](shifts, chromedp.EvalAwaitPromise)); moved > 0 {
			t.Errorf("%s: what is read moves while the page comes: layout shift %.3f", path, moved)
		}
		c.pictures(name)
	})
	// It is noticed where something does move.
	c.open("/login")
	c.do(chromedp.Evaluate[chromedp.Void](`const d = document.createElement("div"); d.style.height = "200px"; document.querySelector("main").prepend(d); 0`))
	if get(c, chromedp.Evaluate[float64](shifts, chromedp.EvalAwaitPromise)) == 0 {
		t.Error("a page that moves is not noticed")
	}
	c.quiet()
}

// shifts is how much of the page has moved since it came: the sum of the browser's Layout
// Instability entries, of which 0.1 is what pages are told to stay below. The rows of a list
// that goes on by itself make room for new ones.
const shifts = `new Promise(done => {
	let sum = 0;
	new PerformanceObserver(list => list.getEntries().forEach(e => sum += e.sources.every(s => s.node?.closest?.("[data-live] tbody")) ? 0 : e.value)).observe({type: "layout-shift", buffered: true});
	requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum), 50))); // entries come after their frame
})`

// folded checks that tables which are cards on a phone fit it, and that what their lines
// are called are the names of the columns.
func (c *chrome) folded() {
	c.b.t.Helper()
	for _, found := range get(c, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".fold")].flatMap(t => {
		const heads = [...t.querySelectorAll("thead th")].map(h => h.textContent);
		const odd = [...t.querySelectorAll("[data-h]")].filter(d => d.dataset.h != heads[d.cellIndex]).map(d => d.dataset.h + " under " + heads[d.cellIndex]);
		const wide = t.offsetParent && t.parentNode.scrollWidth > t.parentNode.clientWidth ? [t.caption.textContent + ": it scrolls sideways"] : [];
		const roles = [...t.querySelectorAll("tr, td, th, thead, tbody")].filter(e => !e.role).map(e => e.tagName + " has no role");
		return [...odd, ...wide, ...roles];
	})`)) {
		c.b.t.Errorf("%s: %s", c.path(), found)
	}
}

// pictures checks that the page that is shown does not scroll sideways, however it is looked
// at, and takes the pictures of it.
func (c *chrome) pictures(name string) {
	c.b.t.Helper()
	for _, l := range looks {
		c.as(l)
		if get(c, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)) > l.width {
			c.b.t.Errorf("%s scrolls sideways at %d px", c.path(), l.width)
		}
		if l.width < 600 {
			c.folded()
		}
		if dir := os.Getenv("BULKHEAD_SCREENS"); dir != "" {
			c.picture(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, l.scheme, l.width)))
		}
	}
}

// picture takes one of the page that is shown.
func (c *chrome) picture(file string) {
	c.b.t.Helper()
	get(c, chromedp.FullScreenshot(100)) // the first one after a resize lacks what scrolls in the page
	picture := get(c, chromedp.FullScreenshot(100))
	if _, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil {
		c.b.t.Errorf("%s: %v", c.path(), err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		c.b.t.Fatal(err)
	}
}

// everyScreen has do look at every page, as an administrator sees it, or as somebody does
// who is not logged in.
func (c *chrome) everyScreen(admin *browser, do func(name, path string)) {
	c.b.t.Helper()
	only := os.Getenv("BULKHEAD_SCREEN") // while one page is worked on
	list := screens(c.b.t)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if only != "" && name != only {
			continue
		}
		if c.keep(admin); slices.Contains(outsiders, list[name]) {
			call(c, network.ClearBrowserCookies, cdp.Empty{})
		}
		do(name, list[name])
	}
}

// axe is a program that looks for what makes pages hard to use for people who see, hear or
// move differently.
func axe(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skipf("%s is not installed: .ci/deps test", tool)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/axe")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// runAxe says what axe finds on the page that is shown: a rule in each line, and where.
const runAxe = `axe.run(document, {resultTypes: ["violations"]}).then(r =>
	r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.slice(0, 5).map(n => n.target.join(" ")).join(", ")).join("\n"))`

// load puts axe, whose source it is, into the page that is shown.
func (c *chrome) load(source string) {
	c.b.t.Helper()
	c.do(chromedp.Evaluate[chromedp.Void](source + ";0"))
}

// axe says what it finds on the page that is shown.
func (c *chrome) axe() string {
	c.b.t.Helper()
	return get(c, chromedp.Evaluate[string](runAxe, chromedp.EvalAwaitPromise))
}

// usable has axe look at the page that is shown, in both schemes.
func (c *chrome) usable(name, source string) {
	c.b.t.Helper()
	c.load(source)
	for _, l := range looks[:2] {
		c.as(l)
		if found := c.axe(); found != "" {
			c.b.t.Errorf("%s, %s:\n%s", name, l.scheme, found)
		}
	}
}

func TestEverybodyCanUseThePages(t *testing.T) {
	source := axe(t)
	b := newSampleBox(t)
	b.start(conf1)
	admin := b.owner()
	admin.as("vi", "viewer")
	b.token(admin)
	c := b.chrome()
	// It does find something where there is something.
	c.as(looks[0])
	c.open("/login")
	c.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("label").remove();0`))
	c.load(source)
	if found := c.axe(); !strings.Contains(found, "label:") {
		t.Fatalf("a field without a label is not found: %q", found)
	}
	c.everyScreen(admin, func(name, path string) {
		c.open(path)
		c.usable(name, source)
	})
}
