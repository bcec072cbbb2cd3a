package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
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
	socket = filepath.Join(filepath.Dir(a.socket), name, socket)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return sock.Dial(ctx, socket) },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+name+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the made-up address says nothing
		}
		return fmt.Errorf("ask %s: %w", name, err)
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, maxDaemon))
	if resp.StatusCode != http.StatusOK {
		var failure struct{ Error string }
		if body.Decode(&failure) != nil || failure.Error == "" {
			failure.Error = resp.Status
		}
		return errors.New(failure.Error)
	}
	if err := body.Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", name, err)
	}
	return nil
}
