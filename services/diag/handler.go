//go:build linux

package diag

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/strictjson"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/diag/api"
	"bulkhead/services/diag/echo"
	"bulkhead/services/diag/filter"
	"bulkhead/services/diag/pcap"
)

// maxBody bounds a request, in bytes.
const maxBody = 16 << 10

// takeTime is how long who asks may take for a piece of an answer.
const takeTime = 10 * time.Second

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/ping", func(w http.ResponseWriter, r *http.Request) {
		in, target, err := probe(r, func(p *api.Ping) (string, error) { return p.Target, p.Fill() })
		d.probe(w, err, func(s *stream) error { return echo.Ping(r.Context(), target, in.Count, func(e api.Echo) { s.tell(e) }) })
	})
	mux.HandleFunc("POST /v1/traceroute", func(w http.ResponseWriter, r *http.Request) {
		in, target, err := probe(r, func(t *api.Traceroute) (string, error) { return t.Target, t.Fill() })
		d.probe(w, err, func(s *stream) error {
			return echo.Traceroute(r.Context(), target, in.Hops, func(h api.Hop) { s.tell(h) })
		})
	})
	mux.HandleFunc("POST /v1/capture", d.capture)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, refuse(http.StatusNotFound, "there is nothing here"))
	})
	return mux
}

// refusal is why something is not done.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // a client that left needs no answer
}

func read[T any](r *http.Request) (*T, error) {
	in, err := strictjson.Decode[T](http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the request: %s", err)
	}
	return &in, nil
}

// probe reads a request about a target.
func probe[T any](r *http.Request, look func(*T) (string, error)) (in *T, target netip.Addr, err error) {
	if in, err = read[T](r); err != nil {
		return nil, target, err
	}
	name, err := look(in)
	if err == nil {
		target, err = netip.ParseAddr(name)
	}
	if err == nil {
		err = api.CheckTarget(target)
	}
	if err != nil {
		return nil, target, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return in, target, nil
}

// probe answers with a line for each thing that f tells, unless there is an error already.
func (d *daemon) probe(w http.ResponseWriter, err error, f func(*stream) error) {
	if err != nil {
		fail(w, err)
		return
	}
	if !d.enter(w, d.probes) {
		return
	}
	defer leave(d.probes)
	d.count.probes.Add(1)
	s := &stream{w: w, kind: "application/x-ndjson"}
	switch err := f(s); {
	case err != nil && s.begun:
		panic(http.ErrAbortHandler) // so that what is cut does not pass for whole
	case err != nil:
		fail(w, err)
	}
}

// enter refuses what would be too much at once.
func (d *daemon) enter(w http.ResponseWriter, room chan struct{}) bool {
	select {
	case room <- struct{}{}:
		return true
	default:
		d.count.refused.Add(1)
		fail(w, refuse(http.StatusTooManyRequests, "the box looks at as much as it can at once: try again in a minute"))
		return false
	}
}

func leave(room chan struct{}) { <-room }

// stream is an answer that goes on.
type stream struct {
	w     http.ResponseWriter
	kind  string
	begun bool
}

// tell writes a value on a line of its own. Who has left is noticed by the context.
func (s *stream) tell(v any) {
	_ = json.NewEncoder(s).Encode(v)
	s.flush()
}

// Write gives who asks a while to take it.
func (s *stream) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", s.kind)
	}
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(takeTime)) // a recorder in a test has none
	return s.w.Write(b)
}

func (s *stream) flush() { _ = http.NewResponseController(s.w).Flush() } // as above

func (d *daemon) capture(w http.ResponseWriter, r *http.Request) {
	in, err := read[api.Watch](r)
	if err != nil {
		fail(w, err)
		return
	}
	t, err := d.tap(in)
	if err != nil {
		fail(w, err)
		return
	}
	if !d.enter(w, d.captures) {
		return
	}
	defer leave(d.captures)
	if err := t.open(); err != nil {
		fail(w, refuse(http.StatusServiceUnavailable, "%s", err))
		return
	}
	defer t.close()
	d.count.captures.Add(1)
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(in.Seconds)*time.Second)
	defer cancel()
	err = t.record(ctx, &stream{w: w, kind: pcap.MediaType}, in)
	d.count.frames.Add(t.frames)
	d.count.bytes.Add(t.bytes)
	d.count.missed.Add(t.missed)
	if err != nil {
		d.log.Warn("a capture was cut", "zone", in.Zone, "filter", in.Filter, "packets", t.frames, "missed", t.missed, "err", err)
		panic(http.ErrAbortHandler) // so that it does not pass for whole
	}
	d.log.Info("captured", "zone", in.Zone, "filter", in.Filter, "packets", t.frames, "missed", t.missed)
}

// tap makes out of a request what the kernel is asked for.
func (d *daemon) tap(in *api.Watch) (*tap, error) {
	if err := in.Fill(); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	conf := d.conf.Load()
	if conf == nil {
		return nil, refuse(http.StatusServiceUnavailable, "the box does not know its zones yet: try again in a moment")
	}
	i := slices.IndexFunc(conf.Zones, func(z svcconf.DiagZone) bool { return z.Zone == in.Zone })
	if i < 0 {
		return nil, refuse(http.StatusUnprocessableEntity, "there is no zone %.40q, or its port is not there", in.Zone)
	}
	zone := conf.Zones[i]
	e, err := filter.Parse(in.Filter)
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	if in.Without.Is4() && zone.Address.IsValid() {
		e = without(e, in.Without, zone.Address)
	}
	return &tap{link: zone.Link, program: guarded(filter.Program(e, uint32(in.Snap)))}, nil
}

// without leaves out what a host speaks with the box's management pages.
func without(e filter.Expr, host, box netip.Addr) filter.Expr {
	rest := filter.Not(filter.All(filter.Host(host), filter.Host(box), filter.Port(443)))
	if e == nil {
		return rest
	}
	return filter.All(rest, e)
}
