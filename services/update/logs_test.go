//go:build linux

package update_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/services/update/api"
)

// init serves logs as gokrazy's init does: it goes on until who asks has had enough.
func (b *box) init(logs map[string][]string) {
	b.t.Helper()
	l, err := net.Listen("unix", filepath.Join(b.dirs.Run, "init.sock"))
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines, ok := logs[r.FormValue("path")]
		if !ok || r.URL.Path != "/log" || r.FormValue("stream") != "stderr" {
			http.Error(w, "service not found", http.StatusNotFound)
			return
		}
		for _, line := range lines {
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})}
	go srv.Serve(l)
	b.t.Cleanup(func() { srv.Close() })
}

func TestLogsOfDaemons(t *testing.T) {
	b := newBox(t)
	if _, err := b.client.Log(t.Context(), "dnsd"); err == nil || !strings.Contains(err.Error(), "the logs cannot be had") {
		t.Errorf("without an init: got %v", err)
	}
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprint("line ", i)
	}
	b.init(map[string][]string{
		"/user/dnsd": {"level=INFO msg=started", strings.Repeat("x", 10_000), "level=WARN msg=slow"}, "/user/wand": nil, "/user/flowd": many,
	})
	began := time.Now()
	got, err := b.client.Log(t.Context(), "dnsd")
	if err != nil || !slices.Equal(got.Lines, []string{"level=INFO msg=started", strings.Repeat("x", 4<<10), "level=WARN msg=slow"}) {
		t.Errorf("got %d lines, %v", len(got.Lines), err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	if got, err := b.client.Log(t.Context(), "wand"); err != nil || got.Lines == nil || len(got.Lines) != 0 {
		t.Errorf("nothing logged: got %+v, %v", got, err)
	}
	if got, err := b.client.Log(t.Context(), "flowd"); err != nil || len(got.Lines) != 200 {
		t.Errorf("many: got %d lines, %v", len(got.Lines), err)
	}
	for _, name := range []string{"pushd", "init", "../gokrazy/init"} {
		if _, err := b.client.Log(t.Context(), name); err == nil {
			t.Errorf("%s has a log", name)
		}
	}
}

func TestEveryDaemonOfTheImageLogs(t *testing.T) {
	data, err := os.ReadFile("../../images/bulkhead/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var image struct{ Packages []string }
	if err := json.Unmarshal(data, &image); err != nil {
		t.Fatal(err)
	}
	var daemons []string
	for _, p := range image.Packages {
		if name := path.Base(p); name != "bulkhead" {
			daemons = append(daemons, name)
		}
	}
	if !slices.Equal(daemons, api.Daemons) {
		t.Errorf("the image has %v, and logs are told of %v", daemons, api.Daemons)
	}
}

func TestLookupIsPassedOn(t *testing.T) {
	b := newBox(t)
	got, err := b.client.Lookup(t.Context(), "iot", "a&b.example", "TXT")
	if err != nil || got.Question != "a&b.example TXT" || got.Code != "iot" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := b.client.Lookup(t.Context(), "iot", "", "TXT"); err == nil || err.(*api.Refused).Status != http.StatusUnprocessableEntity {
		t.Errorf("no name: got %v", err)
	}
}
