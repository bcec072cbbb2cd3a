//go:build linux

package webui_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLivePageGetsRowsAndPauses has the browser follow a stream, and stop.
func TestLivePageGetsRowsAndPauses(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	c := b.chrome()
	c.open("/certificate")
	c.keep(b.owner())
	c.open("/flows/live?device=laptop-anna")
	c.do(chromedp.Poll[chromedp.Void](`document.querySelector("tbody").textContent.includes("<script>.example") && document.querySelector("[data-live-state]").textContent.includes("7 skipped")`))
	c.do(chromedp.Click("[data-live-pause]"), chromedp.Poll[chromedp.Void](`document.querySelector("[data-live-state]").textContent.startsWith("Paused") && document.querySelector("[data-live-pause]").textContent === "Go on"`))
	c.quiet()
}
