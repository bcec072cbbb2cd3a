//go:build linux

package webui_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

func TestLiveFlowsComeAsRows(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	w.get("/flows/live?zone=iot").shows(t, `data-live="/flows/live/events?itself=1&amp;zone=iot"`, `<noscript><meta http-equiv="refresh" content="10; url=/flows/live?itself=1&amp;zone=iot"></noscript>`, "tv-stays-home", "!docs.example.org", "!aria-live")
	v := w.get("/flows/live/events?zone=iot")
	if got := v.Header.Get("Content-Type"); v.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("got %d, %s\n%s", v.StatusCode, got, v.body)
	}
	v.shows(t, ": alive\n\n", "data: <tr role=\"row\"><td ", "&lt;script&gt;.example", "event: skipped\ndata: 7\n\n", "!<script>")
	if v := b.browser().get("/flows/live/events"); !strings.HasPrefix(v.Header.Get("Location"), "/login") {
		t.Errorf("a stranger gets %d\n%s", v.StatusCode, v.body)
	}
	if v := w.get("/flows/live?port=x"); v.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d", v.StatusCode)
	}
}

// TestLiveStreamsAreFew has a user follow more often than they may, in several sessions,
// until one of the streams ends.
func TestLiveStreamsAreFew(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	other, kim, p := b.owner(), w.as("kim", access.Viewer), b.claimedAgain()
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
	for _, session := range []*browser{w, other} {
		if v := session.get("/flows/live/events"); v.StatusCode != http.StatusTooManyRequests {
			t.Errorf("a fourth: got %d", v.StatusCode)
		}
	}
	// There is room for others, a token of the same name among them, and it has no more.
	go func() { done <- kim.get("/flows/live/events") }()
	<-begun
	follow := func() (io.ReadCloser, error) { return remote.New(p).Stream(t.Context(), "GET", "/v1/flows/live", nil) }
	for range 3 {
		go func() {
			body, err := follow()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { body.Close() })
		}()
		<-begun
	}
	if body, err := follow(); err == nil || !strings.Contains(err.Error(), "too many pages and programs follow already") {
		if err == nil {
			body.Close()
		}
		t.Errorf("a fourth of a token: %v", err)
	}
	close(over)
	for range 4 {
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
