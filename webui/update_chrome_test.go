//go:build linux

package webui_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"bulkhead/services/auth/access"
)

func TestUpdateIsSentByABrowser(t *testing.T) {
	b, m := withMachine(t)
	w := b.owner()
	file := filepath.Join(t.TempDir(), "bulkhead-2.gaf")
	if err := os.WriteFile(file, image(t, "2", true), 0o600); err != nil {
		t.Fatal(err)
	}
	c := b.chrome()
	c.keep(w)
	c.open("/system/update")
	c.do(chromedp.SetUploadFiles("#image", []string{file}), chromedp.Click(".stack button.main"))
	// The page asks again by itself until the image is written.
	c.do(chromedp.WaitVisible(`form[action="/system/update/start"]`))
	if text := c.text("main"); !strings.Contains(text, "Version 2") || !strings.Contains(text, "written and verified") {
		t.Errorf("got\n%s", text)
	}
	c.do(chromedp.Click(`form[action="/system/update/start"] button`), chromedp.WaitVisible("[data-back]"))
	if !slices.Equal(m.told(), []string{"update/commit"}) {
		t.Errorf("updated was told %v", m.told())
	}
	// It goes on by itself once the box answers.
	c.arrive("/system/update")
	c.quiet()
}

// Whatever an upload is refused for, and however much of it is still to come, the browser
// shows why.
func TestRefusedUploadSaysWhy(t *testing.T) {
	b, _ := withMachine(t)
	w := b.owner()
	op := w.as("op", access.Operator)
	file := filepath.Join(t.TempDir(), "large.gaf")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 96<<20); err != nil {
		t.Fatal(err)
	}
	c := b.chrome()
	send := func(during func()) {
		t.Helper()
		c.keep(w)
		c.open("/system/update")
		during()
		c.do(chromedp.SetUploadFiles("#image", []string{file}), chromedp.Click(".stack button.main"))
	}

	held, hold := io.Pipe()
	holds := make(chan view, 1)
	send(func() {
		go func() { holds <- w.sendAs("/system/update", "multipart/form-data; boundary=x", held) }()
		_, _ = io.WriteString(hold, "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\nhalf")
	})
	b.eventually("the second one is refused", func() bool { return strings.Contains(c.main(), "another image is being received") })
	_ = hold.Close()
	<-holds

	send(func() { c.keep(op) })
	b.eventually("who may not is told so", func() bool { return c.head() == "Not allowed" })
	send(func() { call(c, network.ClearBrowserCookies, cdp.Empty{}) })
	b.eventually("who is not known is told so", func() bool { return c.head() == "Log in again" })
}
