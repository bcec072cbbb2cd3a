//go:build linux

package webui_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestDeviceIsAdoptedInABrowser has somebody find a new device, give it a name, and keep
// that; and isolate and release another.
func TestDeviceIsAdoptedInABrowser(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	c := b.chrome()
	c.keep(b.owner())
	c.open("/devices?show=new")
	c.do(chromedp.Click(`a[href="/devices/da:a1:19:4e:10:02"]`))
	c.arrive("/devices/da:a1:19:4e:10:02")
	c.pictures("device-new")
	c.do(chromedp.Click("main a.main"))
	c.arrive("/new/name?mac=da%3Aa1%3A19%3A4e%3A10%3A02&name=pixel-9&zone=guest")
	c.do(chromedp.SetValue("#name", "phone-anna"), chromedp.SendKeys("#owner", "anna"), chromedp.Click("button.main"))
	c.arrive("/new/name")
	c.pictures("device-adopted")
	c.do(chromedp.Click("button.main"))
	c.arrive("/pending")
	c.do(chromedp.Click("button.main"))
	c.arrive("/pending?done=kept")
	if file := s.newest(); !strings.Contains(file, `  phone-anna: {zone: guest, mac: "da:a1:19:4e:10:02", owner: anna}`) {
		t.Errorf("it is not in the file:\n%s", file)
	}

	c.open("/devices/tv")
	c.do(chromedp.SendKeys("#why-isolate", "it watches back"), chromedp.Click(`form[action$="/isolate"] button`))
	c.arrive("/devices/tv?done=isolate")
	if text := c.text("main"); !strings.Contains(text, "“it watches back”") {
		t.Errorf("got\n%s", text)
	}
	c.pictures("device-isolated")
	c.do(chromedp.Click(`form[action$="/release"] button`))
	c.arrive("/devices/tv?done=release")
	c.quiet()
}

// newest is the file that was kept last.
func (s *trials) newest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.history[len(s.history)-1].Data)
}
