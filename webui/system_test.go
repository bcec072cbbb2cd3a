//go:build linux

package webui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

// reads checks that a page is there, and what it says and does not say.
func (w *browser) reads(v view, status int, want []string, not ...string) {
	w.b.t.Helper()
	if v.StatusCode != status {
		w.b.t.Errorf("got %d, want %d", v.StatusCode, status)
	}
	for _, s := range want {
		if !strings.Contains(v.body, s) {
			w.b.t.Errorf("the page lacks %q:\n%s", s, v.body)
		}
	}
	for _, s := range not {
		if strings.Contains(v.body, s) {
			w.b.t.Errorf("the page has %q:\n%s", s, v.body)
		}
	}
}

func TestSystemSaysWhatTheBoxIs(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	vi := w.as("vi", access.Viewer)
	w.reads(w.get("/system"), 200, []string{"2026.11.20-3f9c2ab", "Linux 6.12.57", "up, 2.5 Gbit/s", "iot (VLAN 40)", ">internet</td>", "no cable", "52:54:00:10:00:03",
		b.control("GET").Fingerprint.String(), `href="/users"`, `href="/system/backup"`})
	vi.reads(vi.get("/system"), 200, []string{"up, 1 Gbit/s"}, `href="/users"`, `href="/system/backup"`, `href="/system/secrets"`)
	vi.reads(vi.get("/system/contents"), 200, []string{"golang.org/x/sys", "e2fsprogs", "&lt;b&gt;evil"}, "<b>evil")
	if v := vi.get("/system/contents.json"); v.body != sampleBill || v.Header.Get("Content-Disposition") != `attachment; filename="gw-contents.json"` {
		t.Errorf("got %v\n%s", v.Header, v.body)
	}
}

func TestSystemWithoutAnImage(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/contents"), 200, []string{"do not run from an image", "webuid"}, "contents.json")
	w.reads(w.get("/system/contents.json"), 404, []string{"says nothing"})
}

func TestSecretsHaveAnAge(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/secrets"), 200, []string{"history-push", "30 days", "401 days", `<span class="mark warn">due`, `<span class="mark bad">not set`, "alex’s safe"})
	w.reads(w.get("/audit"), 200, []string{"ages of secrets seen"})
}

func TestBackupIsAFile(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/backup"), 200, []string{"alex’s safe", "bulkhead --box gw restore"})
	v := w.post("/system/backup", nil)
	if v.StatusCode != http.StatusOK || v.body != "age-encryption.org/v1" || v.Header.Get("Content-Disposition") != `attachment; filename="gw-2026-11-27.backup.age"` {
		t.Errorf("got %d, %v\n%s", v.StatusCode, v.Header, v.body)
	}
	w.reads(w.post("/system/backup", url.Values{"key": {"<key>"}}), 422, []string{"that is no public key", `value="&lt;key&gt;"`})
	// What there is no room for is said before.
	form := url.Values{"key": {"age1big"}}
	w.reads(w.post("/system/backup", form), 200, []string{"changes 1 to 4 of the history", `name="without" value="changes 1 to 4 of the history"`, `value="age1big"`})
	form.Set("without", "changes 1 to 4 of the history")
	if v := w.post("/system/backup", form); v.body != "age-encryption.org/v1" {
		t.Errorf("got %d\n%s", v.StatusCode, v.body)
	}
}
