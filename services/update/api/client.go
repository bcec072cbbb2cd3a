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
	"net/url"
	"time"

	auth "bulkhead/services/auth/api"
)

// maxReply bounds what is read of an answer, in bytes.
const maxReply = 1 << 20

// A Caller carries requests to a box: [NewClient]'s on the box itself, and
// webui/remote's client from elsewhere.
type Caller interface {
	// Call makes a request. in is sent as JSON unless it is nil, and out holds the
	// answer unless that is nil. The error says what the box says.
	Call(ctx context.Context, method, path string, in, out any) error
	// Stream makes a request, with in as that of Call, whose answer goes on until ctx
	// ends or the box hangs up. The caller closes it.
	Stream(ctx context.Context, method, path string, in any) (io.ReadCloser, error)
	// Upload sends size bytes of body with PUT, and tells progress how many are sent
	// after each piece, unless it is nil. A refusal comes before the body goes.
	Upload(ctx context.Context, path string, body io.Reader, size int64, progress func(sent int64)) error
}

// A Client talks to updated.
type Client struct{ Caller }

// NewClient returns a client of the socket at path. It connects when used.
func NewClient(path string) *Client { return &Client{local{http: socketClient(path)}} }

// NewClientAs returns a client that asks on behalf of who has a token or a session, and
// comes from an address.
func NewClientAs(path, secret string, from netip.Addr) *Client {
	return &Client{local{socketClient(path), secret, from}}
}

// expectTime is how long an upload waits for the word that it is welcome.
const expectTime = 10 * time.Second

func socketClient(path string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, ExpectContinueTimeout: expectTime}}
}

// Status asks how the box's systems are.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/update")
}

// Checks asks which of the box's own programs answer. It takes a few seconds if one does not.
func (c *Client) Checks(ctx context.Context) ([]Check, error) {
	return get[[]Check](ctx, c, "/v1/checks")
}

// Log asks for the last that a daemon has logged.
func (c *Client) Log(ctx context.Context, daemon string) (Log, error) {
	return get[Log](ctx, c, "/v1/logs/"+url.PathEscape(daemon))
}

// Lookup asks the box's DNS server as a device in a zone would. The name may be an
// address, whose name is asked for then.
func (c *Client) Lookup(ctx context.Context, zone, name, kind string) (Lookup, error) {
	q := url.Values{"zone": {zone}, "name": {name}, "type": {kind}}
	return get[Lookup](ctx, c, "/v1/lookup?"+q.Encode())
}

// Begin announces an update.
func (c *Client) Begin(ctx context.Context, b Begin) error {
	return c.Call(ctx, "POST", "/v1/update", b, nil)
}

// Put sends a part of the image, "kernel" or "root", of size bytes.
func (c *Client) Put(ctx context.Context, part string, r io.Reader, size int64, progress func(sent int64)) error {
	return c.Upload(ctx, "/v1/update/"+part, r, size, progress)
}

// Commit has the box restart into the update.
func (c *Client) Commit(ctx context.Context) error {
	return c.Call(ctx, "POST", "/v1/update/commit", None{}, nil)
}

// Forget drops an update that was begun.
func (c *Client) Forget(ctx context.Context) error {
	return c.Call(ctx, "DELETE", "/v1/update", nil, nil)
}

// Restart has the box restart.
func (c *Client) Restart(ctx context.Context) error {
	return c.Call(ctx, "POST", "/v1/restart", None{}, nil)
}

// PowerOff has the box switch itself off.
func (c *Client) PowerOff(ctx context.Context) error {
	return c.Call(ctx, "POST", "/v1/power-off", None{}, nil)
}

// Keys asks which keys the box trusts.
func (c *Client) Keys(ctx context.Context) (Keys, error) { return get[Keys](ctx, c, "/v1/keys") }

// AddKey has the box trust a key.
func (c *Client) AddKey(ctx context.Context, k AddKey) error {
	return c.Call(ctx, "POST", "/v1/keys", k, nil)
}

// RemoveKey has the box trust a key no more.
func (c *Client) RemoveKey(ctx context.Context, id string, r RemoveKey) error {
	return c.Call(ctx, "DELETE", "/v1/keys/"+url.PathEscape(id), r, nil)
}

// SetGokrazyPassword sets the password of gokrazy's update protocol.
func (c *Client) SetGokrazyPassword(ctx context.Context, p Password) error {
	return c.Call(ctx, "POST", "/v1/update/gokrazy-password", p, nil)
}

// BootOther has the box restart into its other system. Only root on the box may.
func (c *Client) BootOther(ctx context.Context) error {
	return c.Call(ctx, "POST", "/v1/boot-other", None{}, nil)
}

// Reset has the box forget everything that it keeps, and restart. Only root on the box
// may.
func (c *Client) Reset(ctx context.Context) error {
	return c.Call(ctx, "POST", "/v1/reset", None{}, nil)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	err := c.Call(ctx, "GET", path, nil, &out)
	return out, err
}

// local is the Caller of a socket.
type local struct {
	http   *http.Client
	secret string // "": root, on the box
	from   netip.Addr
}

func (l local) Call(ctx context.Context, method, path string, in, out any) error {
	req, err := request(ctx, method, path, in)
	if err != nil {
		return err
	}
	return l.do(req, out)
}

func (l local) Stream(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	req, err := request(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	return l.open(req)
}

func request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	return http.NewRequestWithContext(ctx, method, "http://updated"+path, body)
}

func (l local) Upload(ctx context.Context, path string, body io.Reader, size int64, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	req, err := http.NewRequestWithContext(ctx, "PUT", "http://updated"+path, &counter{r: body, tell: progress})
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Expect", "100-continue")
	return l.do(req, nil)
}

// counter tells how much was read.
type counter struct {
	r    io.Reader
	sent int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sent += int64(n)
	c.tell(c.sent)
	return n, err
}

// Refused is why updated, asked on its socket, did not do something.
type Refused struct {
	Status int // of HTTP
	Why    string
}

func (r *Refused) Error() string { return r.Why }

// open makes a request and returns the body of the answer, if it is one.
func (l local) open(req *http.Request) (io.ReadCloser, error) {
	if l.secret != "" {
		req.Header.Set("Authorization", "Bearer "+l.secret)
	}
	if l.from.IsValid() {
		req.Header.Set(auth.ClientHeader, l.from.String())
	}
	resp, err := l.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the address around it is made up
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("updated answered with HTTP status %d", resp.StatusCode)
	}
	return nil, &Refused{resp.StatusCode, f.Error}
}

func (l local) do(req *http.Request, out any) error {
	body, err := l.open(req)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(body, maxReply)).Decode(out); err != nil {
		return fmt.Errorf("read updated's answer: %w", err)
	}
	return nil
}
