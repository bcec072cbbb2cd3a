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
	"net/netip"
	"strconv"
	"time"

	"bulkhead/services/auth/access"
)

// Errors that callers tell apart; what authd says wraps one of them.
var (
	ErrUnknown   = errors.New("not let in")                         // no token, no session
	ErrForbidden = errors.New("not allowed")                        // a token or session that is not for that
	ErrAway      = errors.New("the access service does not answer") // authd is not there
)

// A Refusal is what authd says to what it does not do.
type Refusal struct {
	Status int           // HTTP status
	Why    string        // in words
	Wait   time.Duration // before another try; 0: none
}

func (r *Refusal) Error() string { return r.Why }

// Unwrap makes it one of the errors that callers tell apart.
func (r *Refusal) Unwrap() error {
	switch r.Status {
	case http.StatusUnauthorized:
		return ErrUnknown
	case http.StatusForbidden:
		return ErrForbidden
	}
	return nil
}

// maxReply bounds what is read of an answer, in bytes.
const maxReply = 4 << 20

// A Client talks to authd.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path. It connects when used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second}}}
}

// Check returns who holds a secret. The error wraps [ErrUnknown], [ErrForbidden] or
// [ErrAway].
func (c *Client) Check(ctx context.Context, secret string, need access.Scope) (Caller, error) {
	var out Caller
	return out, c.Call(ctx, Asker{}, "POST", "/v1/check", Check{secret, need, false}, &out)
}

// Use is Check where somebody has asked for something: their session is not idle. What is
// asked in turn, and what pages ask by themselves, is no use of it.
func (c *Client) Use(ctx context.Context, secret string, need access.Scope) (Caller, error) {
	var out Caller
	return out, c.Call(ctx, Asker{}, "POST", "/v1/check", Check{secret, need, true}, &out)
}

// Asker is on whose behalf something is asked.
type Asker struct {
	Secret string     // token or session; "": nobody's
	From   netip.Addr // zero: the box itself
	Agent  string     // what the browser says that it is
}

// Call makes a request. in is sent as JSON unless it is nil, and out holds the answer
// unless that is nil. The error is a [*Refusal] if authd says no, or wraps [ErrAway].
func (c *Client) Call(ctx context.Context, by Asker, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://authd"+path, body)
	if err != nil {
		return err
	}
	if by.Secret != "" {
		req.Header.Set("Authorization", "Bearer "+by.Secret)
	}
	if by.From.IsValid() {
		req.Header.Set(ClientHeader, by.From.String())
	}
	req.Header.Set("User-Agent", by.Agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrAway, err)
	case len(data) > maxReply:
		return fmt.Errorf("%w: its answer is too long", ErrAway)
	case resp.StatusCode != http.StatusOK:
		var f struct{ Error string }
		if json.Unmarshal(data, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &Refusal{resp.StatusCode, f.Error, time.Duration(seconds) * time.Second}
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}
