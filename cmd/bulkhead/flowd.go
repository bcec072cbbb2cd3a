package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock/sockhttp"
)

// maxDaemon bounds an answer of a daemon, in bytes.
const maxDaemon = 16 << 20

// askFlowd asks flowd a question, on this machine or on the box that --box names.
func (a *app) askFlowd(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return a.askDaemon(ctx, svcconf.Flowd.Name, svcconf.FlowsSocket, "GET", path, out)
}

// askDaemon asks a daemon that webuid passes questions on to, with a socket in its own
// run directory.
func (a *app) askDaemon(ctx context.Context, name, socket, method, path string, out any) error {
	if a.box != "" {
		c, err := a.remote(ctx)
		if err != nil {
			return err
		}
		return c.Call(ctx, method, path, nil, out)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body, err := a.openDaemon(ctx, name, socket, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxDaemon)).Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", name, err)
	}
	return nil
}

// openDaemon asks a daemon on this machine and returns its answer, which the caller closes.
func (a *app) openDaemon(ctx context.Context, name, socket, method, path string) (io.ReadCloser, error) {
	socket = filepath.Join(filepath.Dir(a.socket), name, socket)
	client := http.Client{Transport: sockhttp.Transport(socket)}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+name+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the made-up address says nothing
		}
		return nil, fmt.Errorf("ask %s: %w", name, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var failure struct{ Error string }
	if json.NewDecoder(io.LimitReader(resp.Body, maxDaemon)).Decode(&failure) != nil || failure.Error == "" {
		failure.Error = resp.Status
	}
	return nil, errors.New(failure.Error)
}

// maxFlowLine bounds a line that flowd tells, in bytes.
const maxFlowLine = 64 << 10

// followFlowd hands on the lines of one of flowd's streams until the context ends or flowd
// hangs up, and how many it had no room for. Empty lines only show that it is there.
func (a *app) followFlowd(ctx context.Context, path string, query url.Values, line func([]byte) error, skipped func(uint64)) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	body, err := a.openFlowd(ctx, path)
	if err == nil {
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxFlowLine)
		for err == nil && lines.Scan() {
			var s struct{ Skipped uint64 }
			switch b := bytes.TrimSpace(lines.Bytes()); {
			case len(b) == 0:
			case json.Unmarshal(b, &s) == nil && s.Skipped > 0:
				skipped(s.Skipped)
			default:
				err = line(b)
			}
		}
		if err == nil {
			err = cmp.Or(lines.Err(), errHungUp)
		}
	}
	if ctx.Err() != nil {
		return nil // who follows ends it so
	}
	return err
}

var errHungUp = errors.New("flowd has hung up: it may have been restarted")

// openFlowd opens a stream on this machine or on the box that --box names.
func (a *app) openFlowd(ctx context.Context, path string) (io.ReadCloser, error) {
	if a.box == "" {
		return a.openDaemon(ctx, svcconf.Flowd.Name, svcconf.FlowsSocket, "GET", path)
	}
	c, err := a.remote(ctx)
	if err != nil {
		return nil, err
	}
	return c.Stream(ctx, "GET", path, nil)
}
