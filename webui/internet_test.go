//go:build linux

package webui_test

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"

	"bulkhead/services/flow/record"
)

// The first page says since when there is an internet, once somebody has had an answer.
func TestFirstPageSaysSinceWhenThereIsAnInternet(t *testing.T) {
	b := newSampleBox(t)
	if err := os.Remove(b.o.Flowd); err != nil {
		t.Fatal(err)
	}
	flowd := http.NewServeMux()
	flowd.Handle("/", sampleFlowd())
	flowd.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("to"); got != "internet" {
			t.Errorf("asked for flows to %q", got)
		}
		_ = json.NewEncoder(w).Encode([]record.Record{{End: time.Now(), Verdict: record.Allowed, In: record.Count{Packets: 3}}})
	})
	b.answerAt(b.o.Flowd, flowd)
	b.start(conf1)
	w := b.owner()
	contains(t, w.get("/"), http.StatusOK, "Internet since 3 days.", "<strong>Internet</strong>", "it answered a device at", "held without a break for 3 days")
	if err := os.Remove(b.o.Flowd); err != nil {
		t.Fatal(err)
	}
	contains(t, w.get("/"), http.StatusOK, "in order as far as is known.", "it is not known: the service that records flows does not answer")
}
