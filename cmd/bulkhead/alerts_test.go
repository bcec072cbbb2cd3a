package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// serveExportd starts an exportd below a run directory, whose phone nobody answers.
func serveExportd(t *testing.T, run string) {
	t.Helper()
	dir := filepath.Join(run, svcconf.Exportd.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := sock.Listen(filepath.Join(dir, svcconf.ExportSocket), -1)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
	}
	mux.Handle("POST /v1/alerts/test", answer([]svcconf.AlertAnswer{
		{Name: "chat", Answer: "200 OK"}, {Name: "phone", Error: "dial tcp 203.0.113.9:443: connect: connection refused"},
	}))
	mux.Handle("GET /v1/export", answer(svcconf.ExportStatus{Targets: []svcconf.TargetStatus{
		{Name: "siem", Sent: 81_234, Queued: 12, At: today}, {Name: "collector", Sent: 4, Queued: 8192, Lost: 71, Error: "connection refused", Failing: today},
		{Name: "phone", Alert: true},
	}}))
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
}
