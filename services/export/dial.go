//go:build linux

package export

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bulkhead/netcfg/svcconf"
)

// Bounds of one exchange with a stranger's server.
const (
	dialTime   = 10 * time.Second
	writeTime  = 10 * time.Second
	answerTime = 15 * time.Second
	maxHeader  = 16 << 10 // bytes of HTTP's headers
	maxAnswer  = 4 << 10  // bytes of its body that are looked at
	maxSaid    = 200      // bytes of what it says that are shown
	maxIdle    = 64 << 10 // bytes that may come where none are expected
)

// peer is a host that is sent to, always at the address that the ruleset lets through.
type peer struct {
	svcconf.Peer
	tls     *tls.Config
	secrets []string // that nothing it says may repeat
}

func newPeer(c svcconf.Peer, secrets ...string) (*peer, error) {
	p := &peer{Peer: c, tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Name}}
	for _, s := range secrets {
		if len(s) > 3 { // a shorter one would take words apart
			p.secrets = append(p.secrets, s)
		}
	}
	if c.Name == "" {
		p.tls.ServerName = c.Address.Addr().String()
	}
	for _, text := range c.CA {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		if p.tls.RootCAs == nil {
			p.tls.RootCAs = x509.NewCertPool()
		}
		p.tls.RootCAs.AddCert(cert)
	}
	return p, nil
}

// dial connects, without TLS.
func (p *peer) dial(ctx context.Context) (net.Conn, error) {
	network := "tcp"
	if p.Scheme == "udp" {
		network = "udp"
	}
	return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, p.Address.String())
}

// secure takes TLS up on a connection, which it closes if that fails.
func (p *peer) secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	t := tls.Client(c, p.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("take up TLS with %s: %w", p.Address, err)
	}
	return t, nil
}

// open connects as the scheme says. Of a stream, what the peer sends is thrown away, and
// gone is closed when it has hung up: what is written then goes nowhere.
func (p *peer) open(ctx context.Context) (c net.Conn, gone <-chan struct{}, err error) {
	if c, err = p.dial(ctx); err != nil || p.Scheme == "udp" {
		return c, nil, err
	}
	if p.Scheme == "tls" {
		if c, err = p.secure(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	end := make(chan struct{})
	go func() { // until one of both closes it
		defer close(end)
		defer c.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(c, maxIdle))
	}()
	return c, end, nil
}

// client returns a client of HTTP that knows nobody but the peer.
func (p *peer) client() *http.Client {
	return &http.Client{
		Timeout:       answerTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // elsewhere nothing leads
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) },
			TLSClientConfig:        p.tls,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
			MaxConnsPerHost:        1,
			IdleConnTimeout:        time.Minute,
		},
	}
}

// url is the address in words of HTTP.
func (p *peer) url(path string) string {
	host := p.Name
	if host == "" {
		host = p.Address.Addr().String()
	}
	if port := p.Address.Port(); !(p.Scheme == "http" && port == 80 || p.Scheme == "https" && port == 443) {
		host += ":" + strconv.Itoa(int(port))
	}
	return p.Scheme + "://" + host + path
}

// errRefused says that a peer has read what was sent and does not want it: to send the
// same again is of no use.
var errRefused = errors.New("refused")

// post sends a body, and returns what the peer says to it.
func (p *peer) post(ctx context.Context, c *http.Client, path string, header http.Header, body []byte) (answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, "POST", p.url(path), strings.NewReader(string(body)))
	if err != nil {
		return "", errors.New("the address is none for HTTP") // the error would quote it
	}
	req.Header = header
	req.Header.Set("User-Agent", "bulkhead")
	resp, err := c.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the address may be a secret
		}
		return "", p.hide(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came of it is enough
	answer = p.plain(strings.TrimSpace(resp.Status + " " + string(text)))
	switch {
	case resp.StatusCode/100 == 2:
		return answer, nil
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusRequestEntityTooLarge || resp.StatusCode == http.StatusUnprocessableEntity:
		return "", fmt.Errorf("%w: %s", errRefused, answer)
	}
	return "", fmt.Errorf("the answer is %s", answer)
}

// plain makes what a peer says fit to be shown: one line without the secrets that the
// peer knows, cut short.
func (p *peer) plain(s string) string {
	for _, secret := range p.secrets {
		s = strings.ReplaceAll(s, secret, "...")
		s = strings.ReplaceAll(s, base64.StdEncoding.EncodeToString([]byte(secret)), "...")
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if len(s) > maxSaid {
		s = strings.ToValidUTF8(s[:maxSaid], "") + "..."
	}
	return s
}

// hide is plain for errors.
func (p *peer) hide(err error) error {
	if text := p.plain(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
