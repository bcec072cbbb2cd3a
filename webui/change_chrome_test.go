//go:build linux

package webui_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bulkhead/netcfg/api"
)

// kept is how many changes were kept.
func (s *trials) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.history)
}

// hurry has the time of changes run faster.
func (s *trials) hurry(speed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.speed = speed
}

// tries has the browser try the file of a change of the history.
func (c *chrome) tries(number string) {
	c.b.t.Helper()
	c.open("/history/" + number)
	c.do(chromedp.Click("main a.button"))
	c.arrive("/history/" + number + "/again")
	c.do(chromedp.Click("button.main"))
	c.arrive("/pending")
}

// head is the page's heading, or "" while there is none.
func (c *chrome) head() string {
	head, _ := chromedp.Run(c.ctx, chromedp.Evaluate[string](`document.querySelector("footer") ? document.querySelector("h1").textContent : ""`))
	return head
}

func TestChangeIsTriedInABrowser(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	admin := b.owner()
	c := b.chrome()
	c.keep(admin)
	protocol := func() string {
		return get(c, chromedp.Evaluate[string](`performance.getEntriesByType("navigation")[0].nextHopProtocol`))
	}
	text := func(want string) {
		t.Helper()
		if got := c.text("main"); !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}

	// Kept: over a connection that is younger than the change, although the browser would
	// have gone on with the one that it had.
	c.tries("6")
	if got := protocol(); got != "h2" {
		t.Errorf("the browser speaks %s", got)
	}
	text("alex is trying a change: “go back to change 6”")
	text("the box answers 127.0.0.1 over a new connection")
	c.do(chromedp.Click("button.main"))
	c.arrive("/pending?done=kept")
	text("The change is kept.")
	if n := s.kept(); n != 8 {
		t.Errorf("%d changes were kept, want 8", n)
	}

	// The same from a page that was there before the change, with its connection.
	c.open("/account")
	page := admin.tries("new\n")
	c.do(chromedp.Evaluate[chromedp.Void](`
		const form = document.createElement("form");
		form.method = "post";
		form.action = "/pending/keep";
		form.innerHTML = '<input name="id" value="` + field(t, page.body, "id") + `">';
		document.body.append(form);
		form.submit();0`))
	c.arrive("/pending?done=kept")
	if n := s.kept(); n != 9 {
		t.Errorf("%d changes were kept, want 9", n)
	}

	// Undone by the button.
	c.tries("3")
	c.do(chromedp.Click("form[action='/pending/undo'] button"))
	b.eventually("it is undone", func() bool { return c.head() == "The change is undone" })
	text("It was undone: alex canceled it.")

	// Undone because its time is over: the page says it by itself.
	s.hurry(40)
	c.tries("3")
	began := time.Now()
	b.eventually("it is undone", func() bool { return c.head() == "The change is undone" })
	text("It was undone: nobody confirmed it in time.")
	if took := time.Since(began); took < 2*time.Minute/40-time.Second {
		t.Errorf("after %s", took)
	}
	if s.last.End != api.EndUnconfirmed || s.kept() != 9 {
		t.Errorf("got %+v, %d kept", s.last, s.kept())
	}
	c.quiet()
}

// TestPagesOfAChangeAreUsable looks at the pages that are answers to forms, and at those
// of a change that is being tried.
func TestPagesOfAChangeAreUsable(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	admin := b.owner()
	kim := admin.as("kim", "admin")
	source := axe(t)
	c := b.chrome()
	c.keep(admin)
	look := func(name string) { t.Helper(); c.pictures(name); c.usable(name, source) }
	plan := func(file string) {
		t.Helper()
		c.open("/history")
		c.do(chromedp.Evaluate[chromedp.Void](`
			const form = document.createElement("form");
			form.method = "post";
			form.action = "/change/plan";
			form.innerHTML = '<textarea name="file"></textarea>';
			document.body.append(form);
			form.elements.file.value = ` + "`" + file + "`" + `;
			form.submit();0`))
		c.arrive("/change/plan")
	}
	file := strings.Replace(string(s.file), "kim, purpose: television", "kim, purpose: films", 1)
	plan(file)
	look("plan")
	plan(file + "# moves the box\n")
	look("plan-moves")
	plan(file + "# broken\n")
	look("plan-refused")
	c.tries("6")
	look("pending")
	plan(file)
	look("plan-busy")
	c.keep(kim)
	c.open("/pending")
	look("pending-of-another")
	c.open("/account")
	look("account-while-pending")
	c.open("/pending")
	c.do(chromedp.Click("form[action='/pending/undo'] button"))
	b.eventually("it is undone", func() bool { return c.head() == "The change is undone" })
	look("pending-undone")
	c.quiet()
}
