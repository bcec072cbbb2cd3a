//go:build linux

package webui_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// While parts of the box are away, the report says what it does not know, and not that all
// is well.
func TestExposureSaysWhatIsNotKnown(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	for _, socket := range []string{b.o.Flowd, b.o.Updated} {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
	}
	v := w.get("/exposure")
	contains(t, v, http.StatusOK, "Not everything is known: 4 parts below say what is not.", "Which those are: the service that records flows does not answer", "Whether the box’s own programs answer: the update service does not answer")
	if strings.Contains(v.body, "Nothing is left to look at") || strings.Contains(v.body, "every part of the box works") {
		t.Errorf("it says that all is well:\n%s", v.body)
	}
}

func TestHandbookHasTheNames(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	contains(t, w.get("/handbook"), http.StatusOK, `<h2>DNS names</h2>`, `>nas.home.arpa</th><td role="cell" data-h="Stands for">192.168.30.10</td>`)
	contains(t, w.get("/handbook.md"), http.StatusOK, "## DNS names", "| tracking.example | nothing, with all names below it | iot |")
}
