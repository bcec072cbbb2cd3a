package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	diag "bulkhead/services/diag/api"
	"bulkhead/services/sock"
	updates "bulkhead/services/update/api"
)

// serveDiagnoses starts an updated in a run directory that looks at the network: tv
// answers, and who has another name does not.
func serveDiagnoses(t *testing.T, run string) {
	t.Helper()
	l, err := sock.Listen(filepath.Join(run, updates.SocketFile), -1)
	if err != nil {
		t.Fatal(err)
	}
	tv, router := netip.MustParseAddr("192.168.20.5"), netip.MustParseAddr("203.0.113.1")
	echo := func(n int, target, from netip.Addr, ms float64, trouble string) diag.Echo {
		return diag.Echo{Number: n, Target: target, From: from, Milliseconds: ms, Trouble: trouble}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/ping", func(w http.ResponseWriter, r *http.Request) {
		var in diag.Ping
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Count > 10 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"error":"count: 11 is not between 1 and 10"}`)
			return
		}
		for n := 1; n <= in.Count; n++ {
			e := echo(n, tv, tv, 0.412, "")
			if in.Target != "tv" {
				e = echo(n, router, netip.Addr{}, 0, "no answer")
			}
			_ = json.NewEncoder(w).Encode(e)
		}
	})
	mux.HandleFunc("POST /v1/traceroute", func(w http.ResponseWriter, _ *http.Request) {
		far := netip.MustParseAddr("198.51.100.9")
		for _, h := range []diag.Hop{
			{Number: 1, Echoes: []diag.Echo{echo(1, far, router, 1.25, "time to live exceeded"), echo(2, far, router, 1.5, "time to live exceeded")}},
			{Number: 2, Echoes: []diag.Echo{echo(1, far, netip.Addr{}, 0, "no answer"), echo(2, far, netip.Addr{}, 0, "no answer")}},
			{Number: 3, Reached: true, Echoes: []diag.Echo{echo(1, far, far, 12.7, ""), echo(2, far, far, 12.9, "")}},
		} {
			_ = json.NewEncoder(w).Encode(h)
		}
	})
	mux.HandleFunc("POST /v1/capture", func(w http.ResponseWriter, r *http.Request) {
		var in diag.Capture
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Zone != "iot" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprintf(w, `{"error":"there is no zone %s"}`, in.Zone)
			return
		}
		fmt.Fprintf(w, "%+v\n", in) // no packets, but what was asked for
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"there is nothing here"}`)
	})
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
}
