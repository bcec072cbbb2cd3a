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

// maxFlowd bounds an answer of flowd's, in bytes.
const maxFlowd = 16 << 20

// askFlowd asks flowd a question, on this machine or on the box that --box names.
func (a *app) askFlowd(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if a.box != "" {
		c, err := a.remote(ctx)
		if err != nil {
			return err
		}
		return c.Call(ctx, "GET", path, nil, out)
	}
	socket := filepath.Join(filepath.Dir(a.socket), svcconf.Flowd.Name, svcconf.FlowsSocket)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return sock.Dial(ctx, socket) },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://flowd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the made-up address says nothing
		}
		return fmt.Errorf("ask flowd: %w", err)
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, maxFlowd))
	if resp.StatusCode != http.StatusOK {
		var failure struct{ Error string }
		if body.Decode(&failure) != nil || failure.Error == "" {
			failure.Error = resp.Status
		}
		return errors.New(failure.Error)
	}
	if err := body.Decode(out); err != nil {
		return fmt.Errorf("read flowd's answer: %w", err)
	}
	return nil
}
