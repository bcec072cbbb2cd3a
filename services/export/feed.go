//go:build linux

package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/record"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// Bounds of what flowd says.
const (
	maxLine   = 64 << 10    // bytes of a record
	feedFirst = time.Second // between attempts to reach flowd, doubled after each
	feedLast  = 15 * time.Second
)

// feed is one of flowd's live streams: a line of JSON for each value, {"skipped": n} where
// flowd had no room, and empty lines while nothing happens.
type feed struct {
	log  *slog.Logger
	path string // of the API
	one  func(line []byte) error
	lost func(uint64)
}

// dialFeed connects to flowd.
func dialFeed(ctx context.Context, dirs run.Dirs) (net.Conn, error) {
	return sock.Dial(ctx, filepath.Join(dirs.RunDir(svcconf.FeedDir), svcconf.FlowsSocket))
}

// follow reads the stream, from a new one each time that it ends, until ctx ends.
func (f *feed) follow(ctx context.Context, dirs run.Dirs) {
	said, wait := "", feedFirst
	for ctx.Err() == nil {
		n, err := f.read(ctx, func(ctx context.Context, _, _ string) (net.Conn, error) { return dialFeed(ctx, dirs) })
		if ctx.Err() != nil {
			return
		}
		if n > 0 {
			said, wait = "", feedFirst
		}
		if err.Error() != said {
			said = err.Error()
			f.log.Warn("flowd is not heard", "path", f.path, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, feedLast)
		}
	}
}

// read reads the stream until it ends, and returns how many lines there were.
func (f *feed) read(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) (lines int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://flowd"+f.path, nil)
	if err != nil {
		return 0, err
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("flowd answers %s", resp.Status)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 0, 4<<10), maxLine)
	for in.Scan() {
		lines++
		f.line(in.Bytes())
	}
	if err := in.Err(); err != nil {
		return lines, err
	}
	return lines, errors.New("flowd has hung up")
}

// line takes one line. What makes no sense counts as lost.
func (f *feed) line(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	var skipped struct{ Skipped uint64 }
	if json.Unmarshal(line, &skipped) == nil && skipped.Skipped > 0 {
		f.lost(skipped.Skipped)
		return
	}
	if f.one(line) != nil {
		f.lost(1)
	}
}

// decodeFlow reads a record. flowd may have been taken over: what is no record is none.
func decodeFlow(line []byte) (*record.Record, error) {
	r := new(record.Record)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, err
	}
	if r.Verdict == 0 || r.Start.IsZero() || r.End.Before(r.Start) {
		return nil, errors.New("not a record")
	}
	return r, nil
}

// decodeEvent reads an event.
func decodeEvent(line []byte) (*record.Event, error) {
	e := new(record.Event)
	if err := json.Unmarshal(line, e); err != nil {
		return nil, err
	}
	if !slices.Contains(record.Kinds, e.Kind) || e.Time.IsZero() {
		return nil, errors.New("not an event")
	}
	return e, nil
}

// flowsPath is where flowd tells of flows; of refusals only, if nobody wants others.
func flowsPath(all bool) string {
	if all {
		return "/v1/flows/live"
	}
	return "/v1/flows/live?" + url.Values{"verdict": {record.Refused.String()}}.Encode()
}

const eventsPath = "/v1/events/live"
