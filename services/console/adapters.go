package console

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
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	update "bulkhead/services/update/api"
)

// connect returns the daemons behind their sockets.
func connect(run, gokrazy string) daemons {
	return daemons{
		network: api.NewClient(filepath.Join(run, api.SocketFile)),
		updates: update.NewClient(filepath.Join(run, update.SocketFile)),
		web: doors{
			webuid: newClient("webuid", filepath.Join(run, svcconf.Webuid.Name, "control.sock")),
			authd:  newClient("authd", filepath.Join(run, auth.SocketFile)),
		},
		supervisor: supervised{newClient("gokrazy", gokrazy)},
	}
}

// doors is who may come in, and where.
type doors struct{ webuid, authd client }

func (d doors) Claim(ctx context.Context) (s access.State, err error) {
	if err := d.webuid.call(ctx, http.MethodGet, "/v1/identity", &s.Identity); err != nil {
		return s, err
	}
	var o auth.Ownership
	err = d.authd.call(ctx, http.MethodGet, "/v1/claim", &o)
	s.Claimed, s.Code = o.Claimed, o.Code
	return s, err
}

func (d doors) NewCode(ctx context.Context) error {
	return d.authd.call(ctx, http.MethodPost, "/v1/claim/code", nil)
}

type supervised struct{ client }

func (s supervised) Services(ctx context.Context) ([]service, error) {
	var status struct{ Services []service }
	return status.Services, s.call(ctx, http.MethodGet, "/", &status)
}

// Restart stops the services, unmounts /perm, and goes through the firmware: a kexec
// would pass by the boot loader, which counts tries.
func (s supervised) Restart(ctx context.Context) error {
	return s.call(ctx, http.MethodPost, "/reboot?kexec=off", nil)
}

// client speaks JSON over HTTP on a unix socket.
type client struct {
	name string
	http *http.Client
}

func newClient(name, path string) client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return client{name, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// call asks for path, and decodes the answer into out if that is not nil.
func (c client) call(ctx context.Context, method, path string, out any) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}") // an order without further words
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.name+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json") // gokrazy has pages as well
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the made-up address around it says nothing
		}
		return err
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		return refusal(resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("answers with what is not understood: %w", err)
	}
	return nil
}

// refusal is the error in an answer that is one.
func refusal(status int, answer io.Reader) error {
	var f struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(answer).Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("answers with HTTP status %d", status)
	}
	return errors.New(f.Error)
}
