//go:build linux

package webui_test

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// TestPagesOfEditsAreUsable looks at the answers to forms that edit the file, and goes the
// way from a form to a plan.
func TestPagesOfEditsAreUsable(t *testing.T) {
	b, s := newTrialBox(t)
	b.start(conf1)
	source := axe(t)
	c := b.chrome()
	c.keep(b.owner())
	look := func(name string) { t.Helper(); c.pictures(name); c.usable(name, source) }
	c.open("/new/rule?name=door&from=iots&to=nas&protocols=smb&why=recordings%20of%20the%20door&expires=2027-05-01")
	c.do(chromedp.Click("form.stack button.main"))
	b.eventually("the form says what is wrong", func() bool { return strings.Contains(c.main(), `Did you mean "iot"?`) })
	look("new-rule-refused")
	c.do(chromedp.SetValue("#from", "iot"), chromedp.Click("form.stack button.main"))
	c.arrive("/new/rule")
	b.eventually("the plan is there", func() bool { return c.head() == "What the change would do" })
	if text := c.main(); !strings.Contains(text, "- name: door") {
		t.Errorf("the plan lacks the file's difference:\n%s", text)
	}

	c.open("/edit?line=89")
	if line := get(c, chromedp.Evaluate[string](`(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.querySelector("textarea"))`)); line != "  - name: tv-films" {
		t.Errorf("line 89 is %q in the editor", line)
	}
	look("edit-line")
	c.do(chromedp.Evaluate[chromedp.Void](`(e => { e.value = e.value.replace("to: nas\n    protocols: nfs", "to: broken\n    protocols: nfs"); })(document.querySelector("textarea"));0`))
	c.do(chromedp.Click("button[value=check]"))
	b.eventually("the problem is told", func() bool { return strings.Contains(c.main(), "cannot be used as it is") })
	look("edit-problems")
	s.keptByKim()
	c.do(chromedp.Click("button[value=plan]"))
	b.eventually("the other's change is told", func() bool { return strings.Contains(c.main(), "The file has changed since you began") })
	look("edit-changed")
	call(c, network.ClearBrowserCookies, cdp.Empty{})
	c.do(chromedp.Click("button[value=plan]"))
	b.eventually("the text is given back", func() bool { return c.head() == "Log in again" })
	if text := get(c, chromedp.Evaluate[string](`document.querySelector("textarea").value`)); !strings.Contains(text, "to: broken\n") {
		t.Errorf("what was typed is gone:\n%s", text)
	}
	look("edit-returned")
	c.quiet()
}

// TestPartsOfALargeFileAreUsable goes to lines of a large file and edits them.
func TestPartsOfALargeFileAreUsable(t *testing.T) {
	b, _, _ := newLargeFileBox(t)
	source := axe(t)
	c := b.chrome()
	c.keep(b.owner())
	c.open("/edit?q=rule-4321")
	c.pictures("edit-found")
	c.usable("edit-found", source)
	c.do(chromedp.Click(`a[href="/edit?line=4532"]`))
	b.eventually("the line is there", func() bool { return strings.Contains(c.main(), "Line 4532") })
	b.eventually("the script has selected the line", func() bool { // once the page is there
		return strings.Contains(get(c, chromedp.Evaluate[string](`(e => e ? e.value.slice(e.selectionStart, e.selectionEnd) : "")(document.querySelector("textarea"))`)), "{name: rule-4321,")
	})
	c.pictures("edit-part")
	c.usable("edit-part", source)
	c.do(chromedp.Evaluate[chromedp.Void](`(e => { e.value = e.value.replace("because of the number 4321", "films"); })(document.querySelector("textarea"));0`))
	c.do(chromedp.Click("button[value=later]"))
	b.eventually("other lines are there", func() bool {
		return get(c, chromedp.Evaluate[bool](`!document.querySelector("textarea")?.value.includes("rule-4321,")`))
	})
	c.do(chromedp.Click("form.editor button[value=plan]"))
	b.eventually("the plan is there", func() bool { return c.head() == "What the change would do" })
	if text := c.main(); !strings.Contains(text, "why: films") {
		t.Errorf("the plan lacks the file's difference:\n%s", text)
	}
	c.quiet()
}

// main is the text of the page that is shown; "" while there is none.
func (c *chrome) main() string {
	text, _ := chromedp.Run(c.ctx, chromedp.Evaluate[string](`document.querySelector("footer") ? document.querySelector("main").innerText : ""`))
	return text
}

// keptByKim has somebody else keep a change of the file.
func (s *trials) keptByKim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.history[len(s.history)-1]
	e.Number, e.Author, e.Why = e.Number+1, "kim", "films until the summer"
	e.Data = []byte(strings.Replace(string(e.Data), "expires: 2027-06-30", "expires: 2027-09-30", 1))
	s.history = append(s.history, e)
}
