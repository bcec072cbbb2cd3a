package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	diag "bulkhead/services/diag/api"
)

// Ping asks a host whether it answers, and tells of each time as it comes.
func (c *Client) Ping(ctx context.Context, in diag.Ping, tell func(diag.Echo)) error {
	return each(ctx, c, "/v1/ping", in, tell)
}

// Traceroute asks over which hops a host is reached, and tells of each as it comes.
func (c *Client) Traceroute(ctx context.Context, in diag.Traceroute, tell func(diag.Hop)) error {
	return each(ctx, c, "/v1/traceroute", in, tell)
}

// Capture takes the packets on a zone's link: a file that comes as they do, and that the
// caller closes.
func (c *Client) Capture(ctx context.Context, in diag.Capture) (io.ReadCloser, error) {
	return c.Stream(ctx, "POST", "/v1/capture", in)
}

func each[T any](ctx context.Context, c *Client, path string, in any, tell func(T)) error {
	body, err := c.Stream(ctx, "POST", path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(io.LimitReader(body, diag.MaxLines)); ; {
		var v T
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the box's answer: %w", err)
		}
		tell(v)
	}
}
