//go:build linux

package webui_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
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
