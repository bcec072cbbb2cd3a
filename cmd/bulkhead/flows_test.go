package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// tell is a flowd that tells some lines to who follows, and returns where it listens. It
// hangs up at the end if over is nil, or else stays until that is closed.
func tell(t *testing.T, over <-chan struct{}, lines ...string) string {
	t.Helper()
	run, err := os.MkdirTemp("", "cli") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	dir := filepath.Join(run, svcconf.Flowd.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := sock.Listen(filepath.Join(dir, svcconf.FlowsSocket), -1)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows/live", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("device") == "nobody" {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"error": "there are too many who watch"}`)
			return
		}
		fmt.Fprint(w, strings.Join(lines, "\n")+"\n")
		_ = http.NewResponseController(w).Flush()
		if over != nil {
			select {
			case <-over:
			case <-r.Context().Done():
			}
		}
	})
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return filepath.Join(run, api.SocketFile)
}

func follower(out, errs io.Writer) *app {
	return &app{out: out, err: errs, now: func() time.Time { return today }, location: time.UTC}
}

func flownLines(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, r := range flown() {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(data))
	}
	return lines
}

// TestFlowsAreFollowed has flowd tell records that ended long ago, as the kernel does of
// connections that it found to be over, and signs of life between them. Each is a line,
// and so is what was too much.
func TestFlowsAreFollowed(t *testing.T) {
	l := flownLines(t)
	socket := tell(t, nil, "", l[0], `{"skipped":7}`, "", l[2])
	var out, errs bytes.Buffer
	code := follower(&out, &errs).run(t.Context(), []string{"flows", "--follow", "--socket", socket})
	want := `11-22 11:01:30  nextcloud → nas  nfs  1.23 MB out, 98.8 GB in  nextcloud-data
11-22 11:01:00  tv → nas  smb  720 B out, - in  12 refused: policy
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
	want = "warning: 7 skipped: more came than could be shown\nbulkhead: flowd has hung up: it may have been restarted\n"
	if diff := cmp.Diff(want, errs.String()); diff != "" {
		t.Errorf("warnings differ (-want +got):\n%s", diff)
	}
	if code != exitSystem {
		t.Errorf("exit code %d, want %d", code, exitSystem)
	}
}

// TestFollowedFlowsAreLinesOfJSON is for programs, which get no word between the lines.
func TestFollowedFlowsAreLinesOfJSON(t *testing.T) {
	l := flownLines(t)
	var out bytes.Buffer
	follower(&out, io.Discard).run(t.Context(), []string{"flows", "--follow", "--json", "--socket", tell(t, nil, l[0], "", l[1])})
	// The error that ends it is an object of its own.
	text, _, _ := strings.Cut(out.String(), "{\n")
	if diff := cmp.Diff(l[0]+"\n"+l[1]+"\n", text); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
}

// TestWhoFollowsEndsIt interrupts a stream in which nothing happens.
func TestWhoFollowsEndsIt(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- follower(w, io.Discard).run(ctx, []string{"flows", "--follow", "--socket", tell(t, over, flownLines(t)[0])})
	}()
	if _, err := r.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestFlowdThatWantsNoMoreReadersSaysSo(t *testing.T) {
	var errs bytes.Buffer
	code := follower(io.Discard, &errs).run(t.Context(), []string{"flows", "--follow", "--device", "nobody", "--socket", tell(t, nil)})
	if want := "bulkhead: there are too many who watch\n"; errs.String() != want || code != exitSystem {
		t.Errorf("got %q and exit code %d, want %q and %d", errs.String(), code, want, exitSystem)
	}
}

func TestAmountsHaveThreeDigits(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 1024: "1.02 kB", 999_499: "999 kB", 999_500: "1 MB", 999_999: "1 MB", 123_456_789: "123 MB", 999_999_999_999: "1 TB",
	} {
		if got := inBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
