//go:build linux

package webui_test

import (
	"net/http"
	"testing"

	"bulkhead/services/auth/access"
)

func TestSuggestionsAreDrafted(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.get("/suggest")
	v.shows(t, "tv → nas: smb", "Seen 41 times", "nextcloud → nas: ssh", `href="/new/rule?from=tv&amp;list=allow&amp;name=tv-nas-smb&amp;protocols=smb&amp;to=nas"`, "Not proposed", `<a href="/rules?q=nextcloud-data">`, "Records go back to")
	if v := w.get("/suggest?since=soon"); v.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d", v.StatusCode)
	}
	w.as("vi", access.Viewer).get("/suggest").shows(t, "tv → nas: smb", "!/new/rule")
}
