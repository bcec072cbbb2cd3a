package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Locate finds out at which of its addresses the box is, if it may have several, and
// makes that the only one.
func (p *Profile) Locate(ctx context.Context) error {
	if len(p.Also) == 0 {
		return nil
	}
	return p.find(ctx)
}

// find asks at all addresses at once. The first that answers with the right key is it.
func (p *Profile) find(ctx context.Context) error {
	all := append([]string{p.URL}, p.Also...)
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	type answer struct {
		url string
		err error
	}
	answers := make(chan answer, len(all))
	for _, url := range all {
		go func() { answers <- answer{url, p.healthy(ctx, url)} }()
	}
	var last error
	for range all {
		a := <-answers
		if a.err == nil {
			p.URL, p.Also = a.url, nil
			return nil
		}
		if last == nil || !errors.Is(a.err, ErrUnreachable) {
			last = a.err // that somebody else is there says more
		}
	}
	if !errors.Is(last, ErrUnreachable) {
		return last
	}
	return &Error{
		Msg:  fmt.Sprintf("the box answers at none of its addresses: %s", strings.Join(all, ", ")),
		Hint: "the box answers in its admin zones only: you must be in one of them",
		Err:  fmt.Errorf("%w: %w", ErrUnreachable, last),
	}
}

// healthy asks whether the box is at the URL, without the token.
func (p *Profile) healthy(ctx context.Context, url string) error {
	t := transport(p.Fingerprint)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/api/v1/health", nil)
	if err != nil {
		return err
	}
	resp, err := (&door{box: url, next: t}).RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(reason(resp))
	}
	return resp.Body.Close()
}
