//go:build linux

package webui_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
)

// newLargeFileBox has largeHome in force, as change 7.
func newLargeFileBox(t *testing.T) (*box, *trials, []string) {
	t.Helper()
	b, s := newTrialBox(t)
	s.history[6].Data = largeHome()
	b.start(conf1)
	return b, s, strings.SplitAfter(string(largeHome()), "\n")
}

// The first view of the editor is small, whatever the file is, and has the line that was
// asked for.
func TestLargeFileIsEditedInParts(t *testing.T) {
	b, s, lines := newLargeFileBox(t)
	w := b.owner()
	t.Logf("the file has %d bytes in %d lines", len(s.history[6].Data), len(lines)-1)
	small := func(v view) {
		t.Helper()
		if len(v.body) > 100<<10 {
			t.Errorf("%s has %d bytes", v.Request.URL, len(v.body))
		}
	}
	v := w.get("/edit")
	small(v)
	contains(t, v, http.StatusOK, ", lines 1 to ", fmt.Sprintf(" of %d, as of change 7", len(lines)-1), `<a href="/edit?line=210">allow</a>: 5001 lines from line 210`, "Later lines", `href="/history/7/file"`)
	if strings.Contains(v.body, "Earlier lines") || strings.Contains(v.body, `name="data"`) {
		t.Error("there is something before the first line, or the whole file is in the page")
	}
	v = w.get("/edit?q=RULE-4321+to")
	small(v)
	contains(t, v, http.StatusOK, `<a href="/edit?line=4532">Line 4532</a>`)
	contains(t, w.get("/edit?q=owner"), http.StatusOK, "And 5150 more.")
	contains(t, w.get("/edit?q=%3Cscript%3E"), http.StatusOK, "No line has that.")

	v = w.get("/edit?line=4532")
	small(v)
	form := sent(t, v)
	before, _, _ := strings.Cut(form.Get("file"), "rule-4321,")
	if at := regexp.MustCompile(`data-line="(\d+)"`).FindStringSubmatch(v.body); at == nil || at[1] != fmt.Sprint(strings.Count(before, "\n")+1) {
		t.Errorf("the editor begins with line %v of the part", at)
	}
	want := strings.Join(lines, "")
	change := func(form url.Values, old, new string) {
		t.Helper()
		if !strings.Contains(form.Get("file"), old) || !strings.Contains(want, old) {
			t.Fatalf("the part has no %q", old)
		}
		form.Set("file", strings.Replace(form.Get("file"), old, new, 1))
		want = strings.Replace(want, old, new, 1)
	}
	plan := func(form url.Values) {
		t.Helper()
		form.Set("then", "plan")
		if got := proposed(t, w.post("/edit", form)); got != want {
			t.Errorf("the proposed file is another one, of %d bytes instead of %d", len(got), len(want))
		}
	}
	plan(form)
	change(form, "because of the number 4321", "because\n    of <films>")
	plan(form)

	// What was typed goes along to other lines, and what is wrong is shown.
	for _, then := range []string{"later", "earlier", "earlier", "later"} {
		form.Set("then", then)
		v = w.post("/edit", form)
		contains(t, v, http.StatusOK, `name="data"`)
		form = sent(t, v)
		n, _ := fmt.Sscan(form.Get("from"), new(int))
		if n != 1 || !strings.Contains(want, strings.ReplaceAll(form.Get("file"), "\r\n", "\n")) {
			t.Fatalf("behind %s is %q", then, form.Get("file"))
		}
	}
	form.Set("then", "later")
	form = sent(t, w.post("/edit", form))
	line := strings.SplitAfter(form.Get("file"), "\r\n")[3]
	change(form, strings.TrimRight(line, "\r\n"), "  - {name: broken}")
	form.Set("then", "check")
	v = w.post("/edit", form)
	contains(t, v, http.StatusUnprocessableEntity, "cannot be used as it is", "- {name: broken}</code>")
	form = sent(t, v)
	change(form, "broken", "mended")
	plan(form)
	form.Set("then", "check")
	contains(t, w.post("/edit", form), http.StatusOK, "The file can be used")

	// A part whose last line has no end, one of nothing, and one that there cannot be.
	form = sent(t, w.get("/edit"))
	want = strings.Join(lines, "")
	form.Set("file", "# films")
	last := 0
	fmt.Sscan(form.Get("lines"), &last)
	want = "# films\n" + strings.Join(lines[last:], "")
	plan(form)
	form.Set("file", "")
	want = strings.Join(lines[last:], "")
	plan(form)
	for _, bad := range []string{"0", "-1", "x", "999999999", "9223372036854775807"} {
		form.Set("from", bad)
		if v := w.post("/edit", form); v.StatusCode != http.StatusBadRequest {
			t.Errorf("from line %s: got %d", bad, v.StatusCode)
		}
	}
}

func TestPartGoesOnWhereSomebodyElseWasFaster(t *testing.T) {
	b, s, lines := newLargeFileBox(t)
	w := b.owner()
	form := sent(t, w.get("/edit?line=5000"))
	form.Set("file", strings.Replace(form.Get("file"), "because", "films", 1))
	form.Set("then", "plan")

	theirs := s.history[6]
	theirs.Number, theirs.Author, theirs.Data = 8, "kim", append(bytes.Clone(theirs.Data), "# theirs\n"...)
	s.history = append(s.history, theirs)
	v := w.post("/edit", form)
	contains(t, v, http.StatusConflict, "The file has changed since you began", "by kim", "<code># theirs</code>")
	again := sent(t, v)
	again.Set("then", "plan")
	if got := proposed(t, w.post("/edit", again)); strings.Count(got, "\n") != len(lines)-1 || strings.Count(got, "films") != 1 {
		t.Error("the part is in another text, or none")
	}

	// The one that it was of is gone: the lines are given back, and the file is not made up.
	s.history[6].Data = []byte("another\n")
	v = w.post("/edit", form)
	contains(t, v, http.StatusUnprocessableEntity, "in the history no more", "films of the number")
}

func TestLargeFileIsUploaded(t *testing.T) {
	b, _, lines := newLargeFileBox(t)
	w := b.owner()
	form := sent(t, w.get("/edit"))
	upload := func(then, file string) view {
		var body bytes.Buffer
		m := multipart.NewWriter(&body)
		for _, name := range []string{"sum", "by"} {
			_ = m.WriteField(name, form.Get(name)) // memory takes it
		}
		p, err := m.CreateFormFile("file", "home.yaml")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.Write([]byte(file))
		_ = m.WriteField("then", then)
		_ = m.Close()
		return w.sendAs("/edit", m.FormDataContentType(), &body)
	}
	whole := strings.Join(lines, "")
	if got := proposed(t, upload("plan", whole+"# films\r\n")); got != whole+"# films\n" {
		t.Errorf("the proposed file has %d bytes, want %d", len(got), len(whole))
	}
	contains(t, upload("check", whole), http.StatusOK, "The file can be used")
	contains(t, upload("plan", whole+"broken\n"), http.StatusUnprocessableEntity, "cannot be used as it is", "broken</code>")
	contains(t, upload("plan", ""), http.StatusBadRequest, "there is no file in it")
	if v := upload("plan", strings.Repeat("x", 3*api.MaxFile)); v.StatusCode < 400 || v.StatusCode >= 500 {
		t.Errorf("a file without an end: got %d", v.StatusCode)
	}
}
