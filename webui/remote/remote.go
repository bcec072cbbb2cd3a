// Package remote is how a workstation talks to a box: over HTTPS, to the key that was
// pinned when the box was claimed, with the token that it gave then.
//
// It trusts no authority and no name, and sends a token to nothing but that key.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
)

// Time limits. A box on the same network answers at once; changing it takes longer,
// and writing an image longest, for which there is no limit but that it goes on.
const (
	dialTime   = 5 * time.Second
	answerTime = 3 * time.Minute
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// Error is something that the user can do something about.
type Error struct {
	Msg, Hint string
	Err       error // may be nil
}

func (e *Error) Error() string { return e.Msg }
func (e *Error) Unwrap() error { return e.Err }

// ErrUnreachable says that there is no way to the box from here.
var ErrUnreachable = errors.New("the box cannot be reached")

// errBroken says that a connection ended before there was an answer.
var errBroken = errors.New("no answer")

// Client talks to one box. It has the methods of [api.Backend].
type Client struct {
	*api.Client
	base string
	http *http.Client
}

// New returns a client of the box. It connects when used.
func New(p *Profile) *Client { return NewVia(p, (&net.Dialer{Timeout: dialTime}).DialContext) }

// NewVia is New for somebody whose way to the box is not that of this process.
func NewVia(p *Profile, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Client {
	t := transport(p.Fingerprint)
	t.DialContext = dial
	t.TLSClientConfig.Certificates = p.shown(time.Now())
	h := &http.Client{Transport: &door{box: p.URL, token: p.Token, lent: p.Lent, next: t}}
	return &Client{api.NewClientOver(h, p.URL+"/api"), p.URL + "/api", h}
}

// transport connects to nothing but the key with the fingerprint.
func transport(want access.Fingerprint) *http.Transport {
	return &http.Transport{
		// A change is confirmed over a connection that is newer than it.
		DisableKeepAlives:   true,
		DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout: dialTime,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// No authority knows the box. Its key is compared instead.
			InsecureSkipVerify: true,
			VerifyConnection: func(s tls.ConnectionState) error {
				if got := access.FingerprintOf(s.PeerCertificates[0]); got != want {
					return &keyError{want, got}
				}
				return nil
			},
		},
		ResponseHeaderTimeout: answerTime,
		ExpectContinueTimeout: 15 * time.Second,
	}
}

// keyError says that somebody else answered.
type keyError struct{ want, got access.Fingerprint }

func isKey(err error) bool {
	_, ok := errors.AsType[*keyError](err)
	return ok
}

func (e *keyError) Error() string {
	return fmt.Sprintf("its fingerprint is %s and not %s", e.got, e.want)
}

// door adds the token to requests and turns what goes wrong at the door of a box into
// words that help.
type door struct {
	box, token string
	lent       bool // the token is the environment's
	next       http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		err = explain(r.Context(), d.box, err)
		if e, ok := errors.AsType[*Error](err); ok && d.lent && isKey(e) {
			e.Hint = "nothing was sent to it. If the box was reset, its console shows that fingerprint: set " + FingerprintEnv + " to it then. " +
				"If not, somebody sits between you and the box"
		}
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		hint := "set a new claim code at the box's console, and claim it again: bulkhead claim " + hostOf(d.box)
		if d.lent {
			hint = "have a new token made by somebody who has claimed the box: bulkhead token create"
		}
		return nil, &Error{Msg: fmt.Sprintf("%s does not let us in: %s", d.box, reason(resp)), Hint: hint}
	case http.StatusForbidden:
		// Others say 403 as well, of what was asked and not of who asks.
		if _, scope, ok := strings.Cut(resp.Header.Get("WWW-Authenticate"), `error="insufficient_scope", scope=`); ok {
			return nil, &Error{
				Msg:  reason(resp),
				Hint: "have a token made that has it: bulkhead token create NAME --scopes " + strings.Trim(scope, `"`) + " --expires 90d",
			}
		}
	case http.StatusMisdirectedRequest:
		return nil, &Error{
			Msg:  fmt.Sprintf("%s: %s", d.box, reason(resp)),
			Hint: "claim it again at one of its addresses, which are on its console",
		}
	}
	return resp, nil
}

// explain says what an error of a connection means.
func explain(ctx context.Context, box string, err error) error {
	if key, ok := errors.AsType[*keyError](err); ok {
		return &Error{
			Msg: fmt.Sprintf("%s is not the box that is meant: %v", box, key),
			Hint: "nothing was sent to it. If the box was reset, its console shows that fingerprint: claim it again then. " +
				"If not, somebody sits between you and the box",
			Err: err,
		}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" && ctx.Err() == nil {
		return &Error{
			Msg:  fmt.Sprintf("%s does not answer: %v", box, e.Err),
			Hint: "the box answers in its admin zones only: you must be in one of them",
			Err:  fmt.Errorf("%w: %w", ErrUnreachable, err),
		}
	}
	return &Error{Msg: fmt.Sprintf("%s: %v", box, err), Err: fmt.Errorf("%w: %w", errBroken, err)}
}

func hostOf(box string) string {
	u, err := url.Parse(box)
	if err != nil {
		return box
	}
	return u.Host
}

// reason reads why a box refuses, and closes the answer.
func reason(resp *http.Response) string {
	defer resp.Body.Close()
	var f struct {
		Error string `json:"error"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&f)
	if err != nil || f.Error == "" {
		return "HTTP status " + resp.Status
	}
	return f.Error
}

// Call makes a request of the API that has no method here: path is such as
// /v1/update. in is sent as JSON unless it is nil, and out holds the answer unless
// that is nil. The error says what the box says.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	return c.do(req, out)
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	if in == nil {
		return http.NewRequestWithContext(ctx, method, c.base+path, nil)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

// Upload sends size bytes of body with PUT, without holding them, and tells progress
// how many are sent after each piece, unless it is nil. A box that refuses does so
// before the first one.
func (c *Client) Upload(ctx context.Context, path string, body io.Reader, size int64, progress func(sent int64)) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", c.base+path, &counter{r: io.LimitReader(body, size), told: progress})
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	return c.do(req, nil)
}

// Stream makes a request, with in as that of Call, whose answer goes on until ctx ends or
// the box hangs up. The caller closes it.
func (c *Client) Stream(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	return c.open(req)
}

// open makes a request and returns the body of the answer, if it is one.
func (c *Client) open(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // ours says more than the address around it
		}
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, errors.New(reason(resp))
	}
	return resp.Body, nil
}

func (c *Client) do(req *http.Request, out any) error {
	body, err := c.open(req)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the box's answer: %w", err)
	}
	return nil
}

// counter tells how much was read.
type counter struct {
	r    io.Reader
	sent int64
	told func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sent += int64(n)
	if c.told != nil && n > 0 {
		c.told(c.sent)
	}
	return n, err
}
