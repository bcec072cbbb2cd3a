package news

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"bulkhead/services/flow/record"
)

// ServeHTTP answers with the events that the parameters since (RFC 3339), kind, device,
// zone and limit pick, as JSON, the latest first.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != "" {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(l.List(q)) // a client that left needs no answer
}

func parse(r *http.Request) (q Query, err string) {
	form := r.URL.Query()
	q.Device, q.Zone, q.Kind = form.Get("device"), form.Get("zone"), record.Kind(form.Get("kind"))
	if q.Kind != "" && !slices.Contains(record.Kinds, q.Kind) {
		return q, "kind: there is no such kind of event"
	}
	if s := form.Get("since"); s != "" {
		t, parseErr := time.Parse(time.RFC3339, s)
		if parseErr != nil {
			return q, "since: a time like 2026-11-27T12:00:00Z is meant"
		}
		q.Since = t
	}
	if s := form.Get("limit"); s != "" {
		n, parseErr := strconv.Atoi(s)
		if parseErr != nil || n < 1 {
			return q, "limit: a number from 1 on is meant"
		}
		q.Limit = n
	}
	return q, ""
}

func fail(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}

// patience is how long one write of a stream may take.
const patience = 10 * time.Second

// Live answers with events as they come, a line of JSON each, for as long as the caller
// stays. A line {"skipped": n} says that the caller was too slow for n of them. The
// callers are on the box, so that a connection is there until one end has gone.
func (l *Log) Live(w http.ResponseWriter, r *http.Request) {
	reader := l.Listen()
	defer reader.Close()
	conn := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	write := func(line []byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(patience)) // where there is no deadline there is none to move
		_, err := w.Write(append(line, '\n'))
		return err == nil && conn.Flush() == nil
	}
	if conn.Flush() != nil { // that the stream has begun
		return
	}
	for {
		var line []byte
		select {
		case <-r.Context().Done():
			return
		case e := <-reader.C():
			var err error
			if line, err = json.Marshal(e); err != nil {
				return
			}
		}
		if !write(line) {
			return
		}
		if n := reader.Skipped(); n > 0 {
			line, _ := json.Marshal(map[string]uint64{"skipped": n})
			if !write(line) {
				return
			}
		}
	}
}
