//go:build linux

package webui_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLiveFlowsComeAsRows(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	w.get("/flows/live?zone=iot").shows(t, `data-live="/flows/live/events?zone=iot"`, `<noscript><meta http-equiv="refresh" content="10">`, "tv-stays-home", "!docs.example.org", "!aria-live")
	v := w.get("/flows/live/events?zone=iot")
	if got := v.Header.Get("Content-Type"); v.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("got %d, %s\n%s", v.StatusCode, got, v.body)
	}
	v.shows(t, ": alive\n\n", "data: <tr><td>", "&lt;script&gt;.example", "event: skipped\ndata: 7\n\n", "!<script>")
	if v := b.browser().get("/flows/live/events"); !strings.HasPrefix(v.Header.Get("Location"), "/login") {
		t.Errorf("a stranger gets %d\n%s", v.StatusCode, v.body)
	}
	if v := w.get("/flows/live?port=x"); v.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d", v.StatusCode)
	}
}

// TestLiveStreamsAreFew has a session follow more often than it may, until one of its
// streams ends.
func TestLiveStreamsAreFew(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	over, begun := make(chan struct{}), make(chan struct{})
	b.answerAt(b.o.Flowd, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w)
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	done := make(chan view)
	for range 3 {
		go func() { done <- w.get("/flows/live/events") }()
		<-begun
	}
	if v := w.get("/flows/live/events"); v.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a fourth: got %d", v.StatusCode)
	}
	close(over)
	for range 3 {
		if v := <-done; v.StatusCode != http.StatusOK {
			t.Errorf("got %d", v.StatusCode)
		}
	}
	go func() {
		select {
		case <-begun:
		case <-time.After(10 * time.Second):
		}
	}()
	if v := w.get("/flows/live/events"); v.StatusCode != http.StatusOK {
		t.Errorf("after they ended: got %d", v.StatusCode)
	}
}
