//go:build linux

package webui_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead/webui"
	"bulkhead/webui/remote"
)

// TestFlowsPassThroughAsTheyCome reads a line of flowd's before there is another, and has
// flowd notice that the client has gone.
func TestFlowsPassThroughAsTheyCome(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	c := remote.New(b.claimed())
	if _, err := c.Stream(t.Context(), "GET", "/v1/flows/live", nil); err == nil || err.Error() != "the service that records flows does not answer: try again in a moment, and look at the box's console if it stays so" {
		t.Errorf("without flowd: got %v", err)
	}
	next, gone := make(chan string), make(chan struct{})
	b.answerAt(b.o.Flowd, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", "application/x-ndjson")
		for {
			select {
			case <-r.Context().Done():
				return
			case line := <-next:
				fmt.Fprintln(w, line, r.URL)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { next <- "first" }()
	body, err := c.Stream(ctx, "GET", "/v1/flows/live?device=tv", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for i, line := range []string{"first", "second", ""} {
		if i > 0 {
			next <- line
		}
		if want := line + " /v1/flows/live?device=tv"; !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
	cancel()
	<-gone
}

// TestAnswerThatGoesOnIsNotCutOff has an answer take longer than the server gives to one
// that does not move.
func TestAnswerThatGoesOnIsNotCutOff(t *testing.T) {
	const limit = 50 * time.Millisecond
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			fmt.Fprintln(w, "line")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * limit)
		}
	}))
	defer up.Close()
	srv := httptest.NewUnstartedServer(webui.PassOn(up.Listener.Addr().String(), slog.New(slog.DiscardHandler), time.Minute))
	srv.Config.WriteTimeout = limit
	srv.Start()
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		n++
	}
	if err := lines.Err(); err != nil || n != 3 {
		t.Errorf("got %d lines (%v), want 3", n, err)
	}
}

// TestQuietAnswerIsNoClientThatHasLeft has a daemon say nothing for longer than a client may
// be silent that still has something to send.
func TestQuietAnswerIsNoClientThatHasLeft(t *testing.T) {
	const limit = 50 * time.Millisecond
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(4 * limit)
		if r.Context().Err() == nil {
			fmt.Fprint(w, "whole")
		}
	}))
	defer up.Close()
	srv := httptest.NewUnstartedServer(webui.PassOn(up.Listener.Addr().String(), slog.New(slog.DiscardHandler), limit))
	srv.Config.ReadTimeout = limit
	srv.Start()
	defer srv.Close()
	for method, body := range map[string]io.Reader{"GET": nil, "POST": strings.NewReader("{}")} {
		r, err := http.NewRequest(method, srv.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(data) != "whole" || err != nil {
			t.Errorf("%s: got %q, %v", method, data, err)
		}
	}
}
