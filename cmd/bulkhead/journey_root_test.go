//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/access"
	"bulkhead/services/auth/totp"
)

// tab is a tab of a browser on the workstation.
type tab struct {
	b   *newBox
	ctx context.Context
}

// tab starts a browser at the desk that knows the box's key, and its name.
func (b *newBox) tab(key access.Fingerprint) *tab {
	b.t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		b.t.Fatal("chromium is not installed: run .ci/deps test")
	}
	start := filepath.Join(b.dir, "chromium")
	script := fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/proc/%d/fd/%d %s \"$@\"\n", os.Getpid(), b.desk, chromium)
	if err := os.WriteFile(start, []byte(script), 0o755); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := chromedp.NewExecAllocator(b.t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(start), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(b.t.TempDir()), chromedp.WindowSize(1280, 900),
		chromedp.Flag("host-resolver-rules", "MAP gw.home.arpa 192.168.10.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	)...)
	b.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // which starts it
		b.t.Fatal(err)
	}
	w := &tab{b, ctx}
	// A device that keeps passkeys, and whose user agrees.
	tabCall(w, webauthn.Enable, webauthn.EnableParams{})
	tabCall(w, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	return w
}

func tabCall[P, R any](w *tab, cmd cdp.Command[P, R], params P) {
	w.b.t.Helper()
	if _, err := chromedp.Call(w.ctx, cmd, params); err != nil {
		w.fail(err)
	}
}

func (w *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	w.b.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		w.fail(err)
	}
}

func (w *tab) fail(err error) {
	w.b.t.Helper()
	w.b.t.Fatalf("%v\nat %s:\n%s", err, w.at(), w.text())
}

func (w *tab) at() string {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Location())
	return at
}

func (w *tab) text() string {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Text("body"))
	return text
}

func (w *tab) value(selector string) string {
	w.b.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Value(selector))
	if err != nil {
		w.fail(err)
	}
	return v
}

func (w *tab) open(url string) { w.b.t.Helper(); w.do(chromedp.Navigate(url)) }

func (w *tab) click(selector string) { w.b.t.Helper(); w.do(chromedp.Click(selector)) }

func (w *tab) fill(selector, value string) {
	w.b.t.Helper()
	w.do(chromedp.WaitReady(selector), chromedp.SetValue(selector, value))
}

// arrive waits until the browser is at an address that begins so, and the page is there.
func (w *tab) arrive(begin string) {
	w.b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.HasPrefix(w.at(), begin); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.fail(fmt.Errorf("did not arrive at %s", begin))
		}
	}
	w.do(chromedp.WaitReady("footer"))
}

// shows waits until the page has a text. What takes longest is a change that nobody keeps:
// a minute.
func (w *tab) shows(text string) {
	w.b.t.Helper()
	for deadline := time.Now().Add(100 * time.Second); !strings.Contains(w.text(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.fail(fmt.Errorf("does not show %q", text))
		}
	}
}

// claim makes alex the owner, on the page that asks for the code.
func (w *tab) claim(at, code string) {
	w.b.t.Helper()
	w.fill("#name", "alex")
	w.fill("#code", code)
	w.click("main button")
	w.arrive(at + "/account")
}

// TestJourneyOfANewBox goes with a browser from the parcel to a network that works, on real
// programs: the box is claimed, gets its first configuration, moves, is kept, and used.
func TestJourneyOfANewBox(t *testing.T) {
	t.Parallel() // most of it is waiting
	b := unpack(t)
	state := b.waiting()
	w := b.tab(state.Fingerprint)
	const first, second = "https://192.168.77.1", "https://192.168.10.1"
	w.open(first)
	w.arrive(first + "/claim")
	w.claim(first, state.Code)
	w.open(first + "/account/password")
	secret, err := totp.Parse(w.value("[name=secret]"))
	if err != nil {
		t.Fatal(err)
	}
	const passphrase = "a horse that nobody has seen before"
	w.fill("[name=password]", passphrase)
	w.fill("[name=code]", secret.Code(time.Now()))
	w.click("main form button")
	w.arrive(first + "/account?done=password")

	// The first configuration moves the box, so that whoever made it follows.
	w.open(first + "/setup")
	w.fill("#name", "gw")
	w.fill("#internet", "")
	for i, zone := range [][3]string{{"management", "52:54:00:10:00:02", "192.168.10.0/24"}, {"gadgets", "52:54:00:10:00:03", "192.168.40.0/24"}} {
		w.fill(fmt.Sprintf("[name=zone%d]", i), zone[0])
		w.fill(fmt.Sprintf("[name=port%d]", i), zone[1])
		w.fill(fmt.Sprintf("[name=subnet%d]", i), zone[2])
	}
	w.click("main form button.main")
	w.shows("The box will be elsewhere.")
	w.shows("gadgets: {port: gadgets, subnet: 192.168.40.0/24}")
	w.click("[formaction='/change/try'], form[action='/change/try'] button.main")
	b.until("the box is at its new address", func() bool { return b.dial(b.desk, "192.168.10.1:443") == nil })
	w.open(second + "/pending")
	w.arrive(second + "/login")
	w.fill("#user", "alex")
	w.fill("#password", passphrase)
	w.fill("#code", secret.Code(time.Now().Add(30*time.Second)))
	w.click("form[action='/login'] button")
	w.arrive(second + "/pending")
	w.shows("is trying a change: “first configuration”")
	w.keep()

	// By its full name, a passkey is enough from now on.
	const named = "https://gw.home.arpa"
	if state, err = b.console("POST"); err != nil { // somebody at the console lets alex in there
		t.Fatal(err)
	}
	w.open(named + "/claim")
	w.claim(named, state.Code)
	w.do(chromedp.WaitVisible("#label"))
	w.fill("#label", "laptop")
	w.click("[data-passkey-add] button")
	w.arrive(named + "/account?done=passkey")
	w.click("header button")
	w.arrive(named + "/login?done=logout")
	w.do(chromedp.WaitVisible("[data-passkey-login]"))
	w.click("[data-passkey-login]")
	w.arrive(named + "/")
	w.shows("alex")
	w.liveWith(named)
}

// liveWith goes on with what people do with a box that they have: a device is adopted, and
// what is refused becomes a rule, which is lost in a change that nobody keeps and comes
// back with the one before; then it is isolated, and released.
func (w *tab) liveWith(at string) {
	b := w.b
	b.t.Helper()
	mac := b.plugIn()
	const service = "192.168.40.99:8096"
	b.serve(b.gadgets, service)
	reaches := func() bool { return b.dial(b.desk, service) == nil }
	b.until("the gadget is seen", func() bool {
		_ = b.dial(b.gadgets, "192.168.40.1:53") // who is spoken with is known
		w.open(at + "/devices?show=new&zone=gadgets")
		return strings.Contains(w.text(), mac)
	})
	w.click("main a[href='/devices/" + mac + "']")
	w.shows("This device is new")
	w.click("main a.button.main")
	w.fill("[name=name]", "gadget")
	w.fill("[name=address]", "192.168.40.99")
	w.click("form.stack button.main")
	w.try("adopt it")
	w.keep()

	if reaches() {
		b.t.Fatal("nothing allows it, and the desk reaches the gadget")
	}
	// Refusals are recorded by the minute.
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(w.text(), "Draft a rule"); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			w.fail(errors.New("the refusal is not recorded"))
		}
		w.open(at + "/flows?verdict=refused&device=gadget")
	}
	w.click("main a[href^='/flows/draft']")
	w.fill("#why", "films on the gadget")
	w.click("form.stack button.main")
	w.shows("Who may reach whom")
	w.try("films")
	if !reaches() {
		b.t.Error("the rule is in force, and the desk does not reach the gadget")
	}
	w.keep()

	// The rule is gone while a change is tried that nobody keeps.
	w.open(at + "/history/2/again")
	w.do(chromedp.SetAttributeValue("form[action='/change/try'] button.main", "value", "1"))
	w.try("without films")
	b.until("the rule is gone", func() bool { return !reaches() })
	w.shows("It was undone: nobody confirmed it in time.")
	b.until("the rule is back", reaches)

	w.open(at + "/devices/gadget")
	w.click("form[action='/devices/gadget/isolate'] button")
	w.shows("This device is isolated")
	if reaches() {
		b.t.Error("it is isolated, and the desk reaches it")
	}
	w.click("form[action='/devices/gadget/release'] button")
	w.arrive(at + "/devices/gadget?done=release")
	b.until("it is free", reaches)
}

// try tries the change that the page has planned.
func (w *tab) try(why string) {
	w.b.t.Helper()
	w.fill("form[action='/change/try'] #why", why)
	w.click("form[action='/change/try'] button.main")
	w.shows("is trying a change: “" + why + "”")
}

// keep keeps the change that is tried.
func (w *tab) keep() {
	w.b.t.Helper()
	w.click("form[action='/pending/keep'] button")
	w.shows("It is the configuration in force")
}

// plugIn connects the room of gadgets, and returns the MAC of the one that is there.
func (b *newBox) plugIn() (mac string) {
	b.t.Helper()
	nstest.Run(b.t, b.gadgets, func() {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			b.t.Error(err)
			return
		}
		mac = i.HardwareAddr.String()
	})
	nstest.Exec(b.t, b.gadgets, "ip", "link", "set", "eth0", "up")
	nstest.Exec(b.t, b.gadgets, "ip", "route", "replace", "default", "via", "192.168.40.1")
	return mac
}

// serve accepts connections.
func (b *newBox) serve(ns int, at string) {
	b.t.Helper()
	var l net.Listener
	var err error
	nstest.Run(b.t, ns, func() { l, err = net.Listen("tcp4", at) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
}
