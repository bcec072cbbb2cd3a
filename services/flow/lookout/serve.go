//go:build linux

package lookout

import (
	"encoding/json"
	"net/http"
	"strconv"

	"bulkhead/services/flow/inventory"
	"bulkhead/services/metrics"
)

// Handle has a server answer
//
//	GET /v1/devices/seen   devices, by device, zone and known
//	GET /v1/events         events, by since, kind, device, zone and limit
//	GET /v1/events/live    events as they come
//
// with JSON: [inventory.Device] and [record.Event]. Whom a device speaks with is only in
// the answer to who asks for that device: of all of them it would be too much.
func (l *Lookout) Handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/devices/seen", l.devices)
	mux.Handle("GET /v1/events", l.news)
	mux.HandleFunc("GET /v1/events/live", l.news.Live)
}

// Feed has a server answer with events as they come.
func (l *Lookout) Feed(mux *http.ServeMux) { mux.HandleFunc("GET /v1/events/live", l.news.Live) }

func (l *Lookout) devices(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query()
	f := inventory.Filter{Device: form.Get("device"), Zone: form.Get("zone")}
	w.Header().Set("Content-Type", "application/json")
	if s := form.Get("known"); s != "" {
		known, err := strconv.ParseBool(s)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "known: true or false is meant"})
			return
		}
		f.Known = &known
	}
	list := l.Devices(f)
	if f.Device == "" {
		for i := range list {
			list[i].Talks = nil
		}
	}
	_ = json.NewEncoder(w).Encode(list) // a client that left needs no answer
}

// Devices returns the devices that a filter picks, the one that was seen last first.
func (l *Lookout) Devices(f inventory.Filter) []inventory.Device {
	l.mu.Lock()
	all := l.inv.Devices()
	l.mu.Unlock()
	list := all[:0]
	for _, d := range all {
		if f.Match(&d) {
			list = append(list, d)
		}
	}
	return list
}

// Metrics writes how many devices and events there are.
func (l *Lookout) Metrics(p *metrics.Page) {
	known, unknown := make(map[string]int), make(map[string]int)
	for _, d := range l.Devices(inventory.Filter{}) {
		if d.Known {
			known[d.Zone]++
		} else {
			unknown[d.Zone]++
		}
	}
	p.Gauge("devices_known", "Devices seen that are in the file.", metrics.ByKey("zone", known)...)
	p.Gauge("devices_unknown", "Devices seen that are not in the file.", metrics.ByKey("zone", unknown)...)
	p.Counter("events_total", "Events that there were to tell.", metrics.Of(l.news.Added()))
}
