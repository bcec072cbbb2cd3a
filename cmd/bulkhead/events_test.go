package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/flow/record"
)

// TestEventsAreFollowed reads what is printed while more comes.
func TestEventsAreFollowed(t *testing.T) {
	dir, err := os.MkdirTemp("", "cli") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log := serveFlowd(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	a := &app{out: w, err: io.Discard, now: func() time.Time { return today }, location: time.UTC}
	done := make(chan int, 1)
	go func() {
		done <- a.run(ctx, []string{"events", "--follow", "--limit", "1", "--socket", filepath.Join(dir, api.SocketFile)})
	}()
	lines := bufio.NewScanner(r)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.HasSuffix(lines.Text(), want) {
			t.Fatalf("got %q, want %q", lines.Text(), want)
		}
	}
	next(`calls itself "fridge"`)
	for i := range 3 { // at the same time, and of the same second as the last
		log.Add(record.Event{Time: today.Add(-2 * time.Hour).Add(time.Millisecond), Kind: record.Trouble, Key: fmt.Sprint(i), Text: fmt.Sprintf("event %d", i)})
	}
	for i := range 3 {
		next(fmt.Sprintf("event %d", i))
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
