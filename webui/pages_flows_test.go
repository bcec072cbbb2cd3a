//go:build linux

package webui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

// shows checks that a page has some texts and lacks others, which begin with "!".
func (v view) shows(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		text, lacks := strings.CutPrefix(text, "!")
		if strings.Contains(v.body, text) == lacks {
			t.Errorf("%s: %q is in it: %t", v.Request.URL, text, !lacks)
		}
	}
}

func TestFlowsAreSearched(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	all := w.get("/flows")
	all.shows(t, "docs.example.org", `href="/devices/laptop-anna"`, `href="/rules?q=browsing"`, "both sides closed it", "99 GB in", "no rule allows it", "12 packets", "95 min", "&lt;script&gt;.example")
	w.get("/flows?verdict=refused").shows(t, "tv-stays-home", "!docs.example.org", `<option selected>refused</option>`)
	w.get("/flows?port=tcp/445").shows(t, "tcp/445", "!docs.example.org", `value="tcp/445"`)
	w.get("/flows?name=Example.ORG.").shows(t, "docs.example.org", "!nextcloud-data")
	w.get("/flows?rule=browsing&since=3000d").shows(t, "docs.example.org", "<details open>")
	w.get("/flows?since=0s").shows(t, "There is no record of that.")
	w.get("/flows?page=2").shows(t, "Newer flows", "!Older flows")
	w.get("/flows?top=bytes&by=destination").shows(t, "cdn.films.example", `href="/flows?name=cdn.films.example"`)
	for query, want := range map[string]string{"since=soon": "Since: so long ago is meant", "port=x": "Port: one such as 443", "verdict=maybe": "maybe", "since=" + url.QueryEscape(`"><script>`): "&#34;&gt;&lt;script&gt;"} {
		v := w.get("/flows?" + query)
		v.shows(t, want, `role="alert"`, "!><script>")
		if v.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d", query, v.StatusCode)
		}
	}
}

// TestRefusedFlowDraftsTheRuleThatLetsItPass goes from the row to the form, and from there
// to the plan.
func TestRefusedFlowDraftsTheRuleThatLetsItPass(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	row := w.get("/flows?verdict=refused&port=445&device=tv")
	_, rest, found := strings.Cut(row.body, `href="/flows/draft?`)
	if !found {
		t.Fatalf("nothing drafts:\n%s", row.body)
	}
	query, _, _ := strings.Cut(rest, `"`)
	v := w.get("/flows/draft?" + strings.ReplaceAll(query, "&amp;", "&"))
	form := w.leads(v, v.Header.Get("Location"))
	form.shows(t, `value="tv"`, `value="nas"`, `value="smb"`)
	w.post("/new/rule", url.Values{"list": {"allow"}, "name": {"tv-nas-smb"}, "from": {"tv"}, "to": {"nas"}, "protocols": {"smb"}, "why": {"films"}}).shows(t, "+", "tv-nas-smb", "films")
	// The rule that the file has keeps the television home: nothing to draft there.
	w.get("/flows?rule=tv-stays-home").shows(t, "tv-stays-home", "!/flows/draft")
	if v := w.get("/flows/draft?proto=6&port=22&from-zone=nowhere&to-zone=storage"); v.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
	if v := w.get("/flows/draft?proto=x"); v.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", v.StatusCode)
	}
	w.as("vi", access.Viewer).get("/flows?verdict=refused").shows(t, "no rule allows it", "!/flows/draft")
}

// From what was refused it is one step to why: what is asked is filled in, and answered.
func TestRefusedFlowLeadsToWhy(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	live := w.get("/flows/live?verdict=refused")
	for query, want := range map[string]struct{ path, answer string }{
		"port=445&device=tv":      {"/why?from=tv&protocol=tcp%2F445&to=nas", "A rule under allow would have to name it"},
		"rule=tv-stays-home":      {"/why?from=tv&protocol=tcp%2F443&to=203.0.113.9", "The block tv-stays-home stands above"},
		"port=22&verdict=refused": {"/why?from=192.168.40.107&protocol=tcp%2F22&to=nas", "A rule under allow would have to name it"},
	} {
		link := `href="` + strings.ReplaceAll(want.path, "&", "&amp;") + `"`
		w.get("/flows?"+query).shows(t, link)
		live.shows(t, link)
		w.get(want.path).shows(t, want.answer, "!role=\"alert\"")
	}
	w.get("/flows?rule=browsing").shows(t, `!href="/why?`)
}
