//go:build linux

package webui_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestWhoTalksToWhomIsDrawn(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	v := w.get("/talks")
	v.shows(t, `role="img"`, "<desc", `class="talk refused"`, "nextcloud → internet: ", "packets refused", "more</text>", `<a href="/flows?from=nextcloud&amp;since=24h&amp;to=internet&amp;verdict=allowed">`, "!style=")
	if len(v.body) > 100_000 {
		t.Errorf("the page has %d bytes", len(v.body))
	}
	if again := w.get("/talks"); again.body != v.body {
		t.Error("the picture is another one each time")
	}
	// Each line of the picture ends at something that is drawn.
	ends := map[string]bool{}
	for _, m := range regexp.MustCompile(`<text class="place[^"]*" x="(\d+)" y="(\d+)">`).FindAllStringSubmatch(v.body, -1) {
		ends[m[2]] = true
	}
	if len(ends) < 20 {
		t.Errorf("%d places", len(ends))
	}
	w.get("/talks?zone=guest").shows(t, "guest", "!nextcloud → ")
	if v := w.get("/talks?since=soon"); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, `value="soon"`) {
		t.Errorf("got %d", v.StatusCode)
	}
}
