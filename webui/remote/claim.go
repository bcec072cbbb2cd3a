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
	"syscall"
	"time"

	"bulkhead/services/auth/access"
)

// Claim is a box that is being claimed, at an address. Nothing of what it says is
// believed before it has shown that it knows the code.
type Claim struct {
	URL         string
	Fingerprint access.Fingerprint // of the key that answers there

	way way
}

// way opens a connection, as [net.Dialer.DialContext] does.
type way func(ctx context.Context, network, address string) (net.Conn, error)

// Look asks who answers at the address.
func Look(ctx context.Context, base string) (*Claim, error) {
	return LookVia(ctx, base, (&net.Dialer{Timeout: dialTime}).DialContext)
}

// LookVia is Look for somebody whose way to the box is not that of this process.
func LookVia(ctx context.Context, base string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (*Claim, error) {
	c := &Claim{URL: base, way: dial}
	conn, err := patiently(ctx, func() (*tls.Conn, error) { return c.dial(ctx) })
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c.Fingerprint = access.FingerprintOf(conn.ConnectionState().PeerCertificates[0])
	return c, nil
}

// patiently dials until nobody refuses, for ten seconds at most: a box that has just been
// started has its address, and shows it, before anything listens there.
func patiently[T any](ctx context.Context, dial func() (T, error)) (T, error) {
	const patience, pause = 10 * time.Second, 200 * time.Millisecond
	for last := time.Now().Add(patience); ; {
		conn, err := dial()
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(last) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return conn, err
		case <-time.After(pause):
		}
	}
}

// dial opens a connection to whoever answers.
func (c *Claim) dial(ctx context.Context) (*tls.Conn, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*dialTime)
	defer cancel()
	plain, err := c.way(ctx, "tcp", host)
	if err != nil {
		return nil, explain(ctx, c.URL, err)
	}
	// The proofs take the place of an authority.
	conn := tls.Client(plain, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: u.Hostname()})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close() // there is nothing on it to be lost
		return nil, explain(ctx, c.URL, err)
	}
	return conn, nil
}

// Claimed is a box that was claimed. Its profile is without a name if the box has none.
type Claimed struct {
	*Profile
	KeyError         string // why the box does not trust the key, if so
	CertificateError string // why it has made no certificate, which it asks for
}

// Redeem exchanges the code for a token, and for a client certificate where the box asks for
// one. name is what both are called; key, if it is not nil, may sign images from then on.
//
// The code is used up then, so the caller saves the profile before anything else can go
// wrong.
func (c *Claim) Redeem(ctx context.Context, code access.Code, name string, key []byte) (*Claimed, error) {
	own, request, err := newRequest()
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if access.FingerprintOf(state.PeerCertificates[0]) != c.Fingerprint {
		return nil, &Error{
			Msg:  fmt.Sprintf("%s answers with another key than a moment ago", c.URL),
			Hint: "two boxes share the address, or somebody sits between you and the box",
		}
	}
	exporter, err := state.ExportKeyingMaterial(access.ExporterLabel, nil, access.ExporterSize)
	if err != nil {
		return nil, err
	}
	in := access.ClaimRequest{
		Proof: code.Proof(access.Client, exporter), Name: name, Key: key,
		Certificate: &access.CertificateRequest{Label: name, Request: request},
	}
	out, err := c.ask(ctx, conn, in)
	if err != nil {
		return nil, err
	}
	if !code.Verify(access.Server, exporter, out.Proof) {
		return nil, &Error{
			Msg:  fmt.Sprintf("somebody sits between you and the box: what answers at %s does not know its claim code", c.URL),
			Hint: "do not use this network for it; connect a cable to the box itself, set a new code at its console and try again",
		}
	}
	p := &Claimed{&Profile{Name: out.Box, URL: c.URL, Fingerprint: c.Fingerprint, Token: out.Token}, out.KeyError, out.CertificateError}
	if len(out.Certificate) > 0 {
		if err := p.show(out.Certificate, own); err != nil {
			p.CertificateError = err.Error()
		}
	}
	return p, nil
}

// ask sends the request over the very connection that it proves things about.
func (c *Claim) ask(ctx context.Context, conn net.Conn, in access.ClaimRequest) (*access.ClaimAnswer, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", c.URL+"/api/v1/claim", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	once := make(chan net.Conn, 1)
	once <- conn
	t := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: answerTime,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case conn := <-once:
				return conn, nil
			default:
				return nil, errors.New("the connection was lost")
			}
		}}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; the code may be used up: set a new one at the box's console", c.URL, err)
	}
	if resp.StatusCode != http.StatusOK {
		refused := &Error{Msg: fmt.Sprintf("%s refuses: %s", c.URL, reason(resp))}
		if resp.StatusCode == http.StatusForbidden {
			refused.Hint = fmt.Sprintf("look at the box's console for the code; if it also shows another fingerprint than %s, somebody sits between you and the box", c.Fingerprint)
		}
		return nil, refused
	}
	defer resp.Body.Close()
	out := new(access.ClaimAnswer)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return nil, fmt.Errorf("read the box's answer: %w", err)
	}
	return out, nil
}
