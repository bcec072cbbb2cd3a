package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"bulkhead/netcfg/svcconf"
)

// ErrUnreachable says that netcfgd does not answer on its socket: it is not
// running, or the caller is not root.
var ErrUnreachable = errors.New("netcfgd cannot be reached")

// maxReply bounds what is read of an answer, in bytes: 5,000 rules are 2 MB.
const maxReply = 64 << 20

// A Client talks to netcfgd. Its methods return what [Backend]'s do.
type Client struct {
	http   *http.Client
	base   string
	behalf *Behalf // nil: the client's own
}

var _ Backend = (*Client)(nil)

// NewClient returns a client of the socket at path. It connects when used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return conn, nil
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return NewClientOver(&http.Client{Transport: transport}, "http://netcfgd")
}

// NewClientOver returns a client for an API that somebody passes on: base is what
// stands before /v1/ in its addresses. Errors of h's transport come back as they are.
func NewClientOver(h *http.Client, base string) *Client { return &Client{http: h, base: base} }

// Status implements [Backend].
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[*Status](ctx, c, "GET", "/v1/status", nil)
}

// Mode asks what the box does as a whole, which whoever reaches the socket may know.
func (c *Client) Mode(ctx context.Context) (Mode, error) {
	return call[Mode](ctx, c, "GET", "/v1/mode", nil)
}

// Zones implements [Backend].
func (c *Client) Zones(ctx context.Context) ([]Zone, error) {
	return call[[]Zone](ctx, c, "GET", "/v1/zones", nil)
}

// Rules implements [Backend].
func (c *Client) Rules(ctx context.Context) (*Rules, error) {
	return call[*Rules](ctx, c, "GET", "/v1/rules", nil)
}

// Matrix implements [Backend].
func (c *Client) Matrix(ctx context.Context) (*Matrix, error) {
	return call[*Matrix](ctx, c, "GET", "/v1/matrix", nil)
}

// Compiled implements [Backend].
func (c *Client) Compiled(ctx context.Context, from, to string) (*Compiled, error) {
	return call[*Compiled](ctx, c, "GET", "/v1/matrix/"+url.PathEscape(from)+"/"+url.PathEscape(to)+"/nft", nil)
}

// CellRules implements [Backend].
func (c *Client) CellRules(ctx context.Context, from, to string) (*CellRules, error) {
	return call[*CellRules](ctx, c, "GET", "/v1/matrix/"+url.PathEscape(from)+"/"+url.PathEscape(to), nil)
}

// Devices implements [Backend].
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	return call[[]Device](ctx, c, "GET", "/v1/devices", nil)
}

// Leases implements [Backend].
func (c *Client) Leases(ctx context.Context) ([]svcconf.Lease, error) {
	return call[[]svcconf.Lease](ctx, c, "GET", "/v1/leases", nil)
}

// LeaseHistory implements [Backend].
func (c *Client) LeaseHistory(ctx context.Context, device string) (*svcconf.LeaseHistory, error) {
	return call[*svcconf.LeaseHistory](ctx, c, "GET", "/v1/leases/history?"+url.Values{"device": {device}}.Encode(), nil)
}

// Drift implements [Backend].
func (c *Client) Drift(ctx context.Context) ([]Drift, error) {
	return call[[]Drift](ctx, c, "GET", "/v1/drift", nil)
}

// Why implements [Backend].
func (c *Client) Why(ctx context.Context, from, to, protocol string) (*Why, error) {
	q := url.Values{"from": {from}, "to": {to}, "protocol": {protocol}}
	return call[*Why](ctx, c, "GET", "/v1/why?"+q.Encode(), nil)
}

// Contacts implements [Backend].
func (c *Client) Contacts(ctx context.Context, of string) (*Contacts, error) {
	return call[*Contacts](ctx, c, "GET", "/v1/contacts?"+url.Values{"of": {of}}.Encode(), nil)
}

// Plan implements [Backend].
func (c *Client) Plan(ctx context.Context, p Proposal) (*Plan, error) {
	return call[*Plan](ctx, c, "POST", "/v1/plan", p)
}

// Apply implements [Backend].
func (c *Client) Apply(ctx context.Context, ch Change) (*Trial, error) {
	return call[*Trial](ctx, c, "POST", "/v1/apply", ch)
}

// Undo implements [Backend].
func (c *Client) Undo(ctx context.Context, u Undo) (*Trial, error) {
	return call[*Trial](ctx, c, "POST", "/v1/undo", u)
}

// Pending implements [Backend].
func (c *Client) Pending(ctx context.Context) (*Trials, error) {
	return call[*Trials](ctx, c, "GET", "/v1/pending", nil)
}

// Confirm implements [Backend]. It counts only over a connection that began after the
// change: a client of [NewClient] makes one for each call.
func (c *Client) Confirm(ctx context.Context, in Confirm) (*Confirmed, error) {
	return call[*Confirmed](ctx, c, "POST", "/v1/confirm", in)
}

// Cancel implements [Backend].
func (c *Client) Cancel(ctx context.Context, in Cancel) (*Outcome, error) {
	return call[*Outcome](ctx, c, "POST", "/v1/cancel", in)
}

// History implements [Backend].
func (c *Client) History(ctx context.Context) ([]Entry, error) {
	return call[[]Entry](ctx, c, "GET", "/v1/history", nil)
}

// Entry implements [Backend].
func (c *Client) Entry(ctx context.Context, number int) (*Entry, error) {
	return call[*Entry](ctx, c, "GET", "/v1/history/"+strconv.Itoa(number), nil)
}

// Diff implements [Backend].
func (c *Client) Diff(ctx context.Context, from, to int) (*Diff, error) {
	return call[*Diff](ctx, c, "GET", fmt.Sprintf("/v1/history/%d/diff/%d", from, to), nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return out, err
	}
	if c.behalf != nil {
		c.behalf.Header(req.Header)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the made-up address around it says nothing
		}
		return out, err
	}
	defer resp.Body.Close()
	r := io.LimitReader(resp.Body, maxReply)
	if resp.StatusCode != http.StatusOK {
		return out, problem(resp.StatusCode, r)
	}
	if err := json.NewDecoder(r).Decode(&out); err != nil {
		return out, fmt.Errorf("read netcfgd's answer: %w", err)
	}
	return out, nil
}

// problem turns an answer that is none back into the error it was made of.
func problem(status int, r io.Reader) error {
	var f failure
	if err := json.NewDecoder(r).Decode(&f); err != nil {
		return fmt.Errorf("netcfgd answered with HTTP status %d", status)
	}
	switch {
	case f.Refused != nil:
		return f.Refused
	case f.Pending != nil:
		return &Busy{*f.Pending}
	case status == http.StatusNotFound:
		return Unknown(errors.New(f.Error))
	case status == http.StatusConflict:
		return &told{f.Error, ErrNothing}
	case status == http.StatusUnprocessableEntity:
		return &told{f.Error, ErrSecret}
	case status == http.StatusForbidden:
		return &told{f.Error, ErrDenied}
	case status == http.StatusUnauthorized:
		return &told{f.Error, ErrStranger}
	case status == http.StatusTooEarly:
		return &told{f.Error, ErrTooEarly}
	}
	return errors.New(f.Error)
}
