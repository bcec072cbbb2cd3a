//go:build linux

package update

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"bulkhead/services/update/api"
)

// Bounds on what is read of a log.
const (
	maxLines = 200     // gokrazy keeps 100
	maxLine  = 4 << 10 // bytes; the rest of the line is cut off
)

// How long is waited for the first line, and for each that follows: gokrazy's init sends
// what it has, and goes on with what comes.
const (
	logPatience = time.Second
	logQuiet    = 100 * time.Millisecond
)

// daemonLog returns the last lines that a daemon has logged. gokrazy's init keeps them, in
// memory; only root may ask for them.
func (u *updater) daemonLog(ctx context.Context, name string) (api.Log, error) {
	if !slices.Contains(api.Daemons, name) {
		return api.Log{}, refuse(http.StatusNotFound, "there is no daemon %.40q", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", u.box.init)
	}}
	quiet := time.AfterFunc(logPatience, cancel)
	defer quiet.Stop()
	q := url.Values{"path": {"/user/" + name}, "stream": {"stderr"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gokrazy/log?"+q.Encode(), nil)
	if err != nil {
		return api.Log{}, err
	}
	log := api.Log{Lines: []string{}}
	resp, err := t.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil { // init has no line to begin its answer with
			return log, nil
		}
		return log, refuse(http.StatusServiceUnavailable, "the logs cannot be had: %s", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return log, refuse(http.StatusNotFound, "the image has no %s", name)
	}
	for in := bufio.NewReaderSize(resp.Body, maxLine); len(log.Lines) < maxLines; {
		line, cut, err := in.ReadLine()
		if err != nil {
			break // that it is quiet, or was
		}
		log.Lines = append(log.Lines, string(line))
		quiet.Reset(logQuiet)
		for cut && err == nil {
			_, cut, err = in.ReadLine()
		}
	}
	return log, nil
}
