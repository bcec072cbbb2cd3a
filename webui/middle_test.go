//go:build linux

package webui_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

// middleman ends TLS with a certificate of its own and passes on what it sees, as
// somebody does who has turned the client's traffic to himself.
type middleman struct {
	url    string
	answer func(*http.Response) error // what it changes of the box's answers

	mu     sync.Mutex
	bodies []string // of requests
}

func newMiddleman(t *testing.T, box string) *middleman {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 8)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.8:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(box)
	if err != nil {
		t.Fatal(err)
	}
	m := &middleman{url: "https://" + l.Addr().String()}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ModifyResponse: func(r *http.Response) error {
			if m.answer != nil {
				return m.answer(r)
			}
			return nil
		},
	}
	serve(t, l, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		m.bodies = append(m.bodies, string(body))
		m.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		proxy.ServeHTTP(w, r)
	})})
	return m
}

// through claims the box through the middleman.
func (m *middleman) through(t *testing.T, code string) error {
	t.Helper()
	c, err := remote.Look(t.Context(), m.url)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := access.ParseCode(code)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Redeem(t.Context(), parsed, "alex", nil)
	return err
}

func TestMachineInTheMiddleIsRefusedByTheBox(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	m := newMiddleman(t, b.url("127.0.0.1"))
	err := m.through(t, b.control("GET").Code)
	if err == nil || !strings.Contains(err.Error(), "the claim code is wrong, or the connection is not the one") {
		t.Errorf("got %v", err)
	}
	if b.control("GET").Claimed {
		t.Error("the box is claimed")
	}
	// What it saw is worth nothing: not to itself, in a session of its own.
	resp, body := b.raw("POST", b.url("127.0.0.1")+"/api/v1/claim", "", nil, m.bodies[len(m.bodies)-1])
	if resp.StatusCode != http.StatusForbidden || b.control("GET").Claimed {
		t.Errorf("the proof again: got %d %s", resp.StatusCode, body)
	}
	b.claimed() // the owner's way is not shut by that
}

func TestMachineInTheMiddleIsRefusedByTheClient(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	m := newMiddleman(t, b.url("127.0.0.1"))
	m.answer = func(r *http.Response) error {
		// It says that all is well, and sends back the only proof that it has.
		var in access.ClaimRequest
		if err := json.Unmarshal([]byte(m.bodies[len(m.bodies)-1]), &in); err != nil {
			return err
		}
		data, err := json.Marshal(access.ClaimAnswer{Token: "bulkhead_x", Proof: in.Proof})
		r.StatusCode, r.ContentLength, r.Body = http.StatusOK, int64(len(data)), io.NopCloser(strings.NewReader(string(data)))
		r.Header.Del("Content-Length")
		return err
	}
	err := m.through(t, b.control("GET").Code)
	if err == nil || !strings.Contains(err.Error(), "somebody sits between you and the box") {
		t.Errorf("got %v", err)
	}
}

func TestTokenIsNotToldToAMachineInTheMiddle(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	m := newMiddleman(t, b.url("127.0.0.1"))
	p.URL = m.url
	_, err := remote.New(p).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is not the box that is meant") {
		t.Errorf("got %v", err)
	}
	if len(m.bodies) > 0 {
		t.Error("it was sent something")
	}
	// Nor is it in the way where the box is known to be.
	b.configure(svcconf.Web{Name: "gw", Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	p.Also = []string{b.url("127.0.0.1")}
	if err := p.Locate(t.Context()); err != nil || p.URL != b.url("127.0.0.1") {
		t.Errorf("found at %s: %v", p.URL, err)
	}
}
