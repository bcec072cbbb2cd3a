//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/totp"
)

// pages is a browser at the desk, without scripts. It holds on to its connections.
type pages struct {
	b      *newBox
	at     string // address of the box
	client *http.Client
}

func (b *newBox) pages(at string) *pages {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			nstest.Run(b.t, b.desk, func() { conn, err = new(net.Dialer).DialContext(ctx, network, addr) })
			return conn, err
		},
	}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &pages{b, at, &http.Client{
		Transport: transport, Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) == 20 { // as browsers do
				return errors.New("too many redirects")
			}
			return nil
		},
	}}
}

// ask returns where a page or a form leads to, and what is there.
func (p *pages) ask(method, path string, form url.Values) (at, body string, err error) {
	req, err := http.NewRequestWithContext(p.b.t.Context(), method, "https://"+p.at+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := p.client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: got %d", method, path, resp.StatusCode)
	}
	return resp.Request.URL.RequestURI(), string(data), err
}

// see is ask, and wants to arrive somewhere and read something there.
func (p *pages) see(method, path string, form url.Values, want string, texts ...string) string {
	p.b.t.Helper()
	at, body, err := p.ask(method, path, form)
	if err != nil || at != want {
		p.b.t.Fatalf("%s %s leads to %s, want %s (%v)\n%s", method, path, at, want, err, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			p.b.t.Errorf("%s lacks %q:\n%s", at, text, body)
		}
	}
	return body
}

// hidden is the value of a hidden field of a page.
func hidden(t *testing.T, page, name string) string {
	t.Helper()
	found := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no field %q in\n%s", name, page)
	}
	return found[1]
}

// TestChangeThatMovesTheBoxIsKeptOnItsPages follows the box to another address, where the
// browser's session is worth nothing, and keeps the change there as the same user.
func TestChangeThatMovesTheBoxIsKeptOnItsPages(t *testing.T) {
	t.Parallel()
	b := unpack(t)
	state := b.waiting()
	first := b.pages("192.168.77.1")
	first.see("POST", "/claim", url.Values{"name": {"alex"}, "code": {state.Code}}, "/account")
	secret, err := totp.Parse(hidden(t, first.see("GET", "/account/password", nil, "/account/password"), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	const passphrase = "four green kettles sing"
	first.see("POST", "/account/password", url.Values{"password": {passphrase}, "secret": {secret.String()}, "code": {secret.Code(time.Now())}}, "/account?done=password")

	plan := first.see("POST", "/change/plan", url.Values{"file": {strings.ReplaceAll(firstFile, "\n", "\r\n")}}, "/change/plan",
		"https://192.168.10.1/pending", "zone management", "Try for 5 minutes", "<code>  gadgets:    {port: iot, subnet: 192.168.40.0/24}</code>")
	form := url.Values{"base": {"0"}, "name": {hidden(t, plan, "name")}, "data": {hidden(t, plan, "data")}, "why": {"first configuration"}, "minutes": {"5"}}
	go func() { _, _, _ = first.ask("POST", "/change/try", form) }() // its answer has no way back

	b.until("the box has moved", func() bool { return b.dial(b.desk, "192.168.10.1:443") == nil })
	second := b.pages("192.168.10.1")
	// Each code lets somebody in once: this is that of the next half minute.
	login := url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(30 * time.Second))}, "next": {"/pending"}}
	second.see("POST", "/login", login, "/pending")
	var page string
	b.until("the change is in force", func() bool {
		_, page, _ = second.ask("GET", "/pending", nil)
		return strings.Contains(page, "Keep</button>")
	})
	if !strings.Contains(page, "The box is at 192.168.10.1 in zone management now") {
		t.Errorf("the page does not say that the box has moved:\n%s", page)
	}
	second.see("POST", "/pending/keep", url.Values{"id": {hidden(t, page, "id")}}, "/pending?done=kept", "The change is kept")

	// Over the connections that the browser has: one is too old, and closed as it is used.
	client := api.NewClient(filepath.Join(b.dir, "run", api.SocketFile))
	plan = second.see("GET", "/history/1/again", nil, "/history/1/again", "The file is the same")
	form = url.Values{"base": {"1"}, "name": {hidden(t, plan, "name")}, "data": {hidden(t, plan, "data")}, "why": {"again"}, "minutes": {"2"}}
	page = second.see("POST", "/change/try", form, "/pending", "alex is trying a change: “again”", "the box answers 192.168.10.99 over a new connection")
	second.see("POST", "/pending/undo", url.Values{"id": {hidden(t, page, "id")}}, "/pending", "It was undone: alex canceled it.")
	page = second.see("POST", "/change/try", form, "/pending")
	second.see("POST", "/pending/keep", url.Values{"id": {hidden(t, page, "id")}}, "/pending?done=kept")
	s, err := client.Status(t.Context())
	if err != nil || s.Confirmed == nil || s.Confirmed.Number != 2 || s.Confirmed.Author != "alex" || s.Confirmed.Via != api.ViaUI || s.Confirmed.Why != "again" {
		t.Errorf("got %+v, %v", s.Confirmed, err)
	}

	// Nobody keeps a change after which the box is where the desk is not: it comes back by
	// itself, and a real browser that hung on it is told.
	moved := second.see("POST", "/change/plan", url.Values{"file": {strings.Replace(firstFile, "192.168.10.0/24", "192.168.11.0/24", 1)}}, "/change/plan")
	w := b.tab(state.Fingerprint)
	tabCall(w, network.SetCookie, network.SetCookieParams{Name: "__Host-bulkhead", Value: second.session(), URL: "https://192.168.10.1/", Path: "/", Secure: new(true), HTTPOnly: new(true)})
	w.open("https://192.168.10.1/history/1/again")
	w.do(chromedp.SetValue("input[name=data]", hidden(t, moved, "data")))
	w.do(chromedp.SetAttributeValue("button.main", "value", "1"))
	w.click("button.main")
	b.until("the box has moved", func() bool { return b.dial(b.desk, "192.168.10.1:443") != nil })
	deadline := time.Now().Add(100 * time.Second)
	for b.dial(b.desk, "192.168.10.1:443") != nil {
		if time.Now().After(deadline) {
			t.Fatal("the box does not come back")
		}
	}
	w.open("https://192.168.10.1/pending")
	w.shows("It was undone: nobody confirmed it in time.")
	w.shows("What was in force before is in force again.")
}

func (p *pages) session() string {
	at, err := url.Parse("https://" + p.at + "/")
	if err != nil {
		p.b.t.Fatal(err)
	}
	for _, c := range p.client.Jar.Cookies(at) {
		return c.Value
	}
	return ""
}
