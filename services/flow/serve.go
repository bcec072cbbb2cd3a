//go:build linux

package flow

import (
	"encoding/json"
	"net/http"

	"bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
	"bulkhead/services/metrics"
)

// handler serves the API. Whoever gets through to the socket may read.
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows", d.flows)
	mux.HandleFunc("GET /v1/flows/live", d.follow(maxGuests))
	mux.HandleFunc("GET /v1/flows/top", d.top)
	mux.HandleFunc("GET /v1/flows/talks", d.talks)
	mux.HandleFunc("GET /v1/flows/needs", d.needs)
	mux.HandleFunc("GET /v1/flows/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, d.status()) })
	d.lookout.Handle(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "there is nothing here") })
	return mux
}

// feed serves what comes.
func (d *daemon) feed() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows/live", d.follow(maxReaders))
	d.lookout.Feed(mux)
	return mux
}

func (d *daemon) flows(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseQuery(r.URL.Query(), d.isZone)
	if err != nil {
		refuse(w, err)
		return
	}
	if q.Limit == 0 {
		q.Limit = api.DefaultLimit
	}
	list := []record.Record{}
	err = d.store.Find(r.Context(), q.Filter, q.Limit, func(r *record.Record) bool {
		list = append(list, *r)
		return true
	})
	respond(w, list, err)
}

func (d *daemon) top(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseQuery(r.URL.Query(), d.isZone)
	if err != nil {
		refuse(w, err)
		return
	}
	m, g, err := api.ParseTop(r.URL.Query())
	if err != nil {
		refuse(w, err)
		return
	}
	if q.Limit == 0 {
		q.Limit = 20
	}
	list, err := d.store.Top(r.Context(), q.Filter, m, g, q.Limit)
	if list == nil {
		list = []record.Sum{}
	}
	respond(w, list, err)
}

func (d *daemon) talks(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseQuery(r.URL.Query(), d.isZone)
	if err != nil {
		refuse(w, err)
		return
	}
	if q.Limit == 0 {
		q.Limit = 1000
	}
	out := api.Talks{}
	out.Talks, out.Rest, err = d.store.Talks(r.Context(), q.Filter, q.Limit)
	if out.Talks == nil {
		out.Talks = []record.TalkSum{}
	}
	respond(w, out, err)
}

func (d *daemon) status() api.Status {
	st := d.store.Stats()
	d.mu.Lock()
	defer d.mu.Unlock()
	return api.Status{Tracked: d.tracker.Stats, Store: st, Lost: d.lost, Unread: d.unread, NamesLost: d.dropped, Trouble: d.trouble}
}

func (d *daemon) metrics(p *metrics.Page) {
	s := d.status()
	p.Gauge("open_connections", "Connections that are followed.", metrics.Of(s.Tracked.Open))
	p.Counter("ended_connections_total", "Connections that ended.", metrics.Of(s.Tracked.Ended))
	p.Counter("refused_packets_total", "Refused packets that are recorded.", metrics.Of(s.Tracked.Refused))
	p.Counter("vanished_connections_total", "Connections whose end was lost.", metrics.Of(s.Tracked.Vanished))
	p.Counter("overruns_total", "Times that the kernel had no room for events.", metrics.Of(s.Lost))
	p.Counter("records_total", "Records made.", metrics.Of(s.Store.Appended))
	p.Counter("records_lost_total", "Records that there was no room for.", metrics.Of(s.Store.Lost))
	p.Gauge("store_bytes", "What is kept on the disk.", metrics.Of(s.Store.Bytes))
	d.lookout.Metrics(p)
	metrics.Process(p)
}

func respond(w http.ResponseWriter, v any, err error) {
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, v)
}

func refuse(w http.ResponseWriter, err error) { fail(w, http.StatusBadRequest, err.Error()) }

func fail(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why}) // a client that left needs no answer
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that left needs no answer
}
