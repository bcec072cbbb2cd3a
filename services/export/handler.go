//go:build linux

package export

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// testTime is how long a test of all alerts may take.
const testTime = 45 * time.Second

// answer tries alerts out for root and webuid until ctx ends. A socket that cannot be
// opened is tried again: everything else goes on.
func (d *daemon) answer(ctx context.Context) error {
	path := filepath.Join(d.dirs.RunDir(svcconf.Exportd.Name), svcconf.ExportSocket)
	for said := ""; ; {
		err := d.serve(ctx, path)
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			d.log.Error("answer", "at", path, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (d *daemon) serve(ctx context.Context, path string) error {
	l, err := sock.Listen(path, svcconf.Webuid.ID, svcconf.Webuid.ID)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/alerts/test", d.test)
	mux.HandleFunc("GET /v1/export", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.status()) // a client that left needs no answer
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: testTime + 10*time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	return srv.Serve(l)
}

// test sends a test to everybody at once, whatever the hour.
func (d *daemon) test(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !d.testing.TryLock() { // they must not pile up
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "alerts are being tried out: wait for the answer"}) // a client that left needs no answer
		return
	}
	defer d.testing.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), testTime)
	defer cancel()
	alerters := d.now.Load().alerters
	answers := make([]svcconf.AlertAnswer, len(alerters))
	var all sync.WaitGroup
	for i, a := range alerters {
		all.Go(func() { answers[i] = a.part.test(ctx) })
	}
	all.Wait()
	_ = json.NewEncoder(w).Encode(answers) // as above
}
