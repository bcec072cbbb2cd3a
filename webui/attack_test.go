//go:build linux

package webui_test

import (
	"bufio"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/webui"
)

// two is a client that speaks HTTP/2 only.
func (b *box) two(server string) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	t := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: server}}
	b.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// What one connection carries is judged request by request.
func TestHTTP2HasTheSameDoors(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	c := b.two("gw.home.arpa")
	ask := func(host, path, cookie string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", b.url("127.0.0.1")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if cookie != "" {
			req.AddCookie(&http.Cookie{Name: "__Host-bulkhead", Value: cookie})
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 {
			t.Fatalf("%s is spoken", resp.Proto)
		}
		return resp.StatusCode
	}
	for _, tt := range []struct {
		host, path, cookie string
		want               int
	}{
		{"gw.home.arpa", "/account", w.secret(), 200},
		{"gw.home.arpa", "/account", "", 303},
		{"evil.example", "/account", w.secret(), 421},
		{"gw.home.arpa", "/api/v1/status", w.secret(), 401},
		{"gw", "/claim", "", 200},
	} {
		if got := ask(tt.host, tt.path, tt.cookie); got != tt.want {
			t.Errorf("%s%s: got %d, want %d", tt.host, tt.path, got, tt.want)
		}
	}
}

func TestPathsLeadToNoFile(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	for _, path := range []string{
		"/static/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/..%2f..%2fetc%2fpasswd", "/static/....//etc/passwd", "/static//etc/passwd",
		`/static/..\..\etc\passwd`, "/static/%00", "/static/", "/templates/layout.html", "/account/../../etc/passwd", "/api/v1/../../../etc/passwd", "/api/v1/%2e%2e/%2e%2e/account",
		"/users/..%2f..%2faccount/role", "//evil.example/", "/%2f%2fevil.example", "/account%0d%0aSet-Cookie:%20x=y",
	} {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		// As it is: clients put such paths right before they send them.
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: gw.home.arpa\r\nCookie: __Host-bulkhead=%s\r\nConnection: close\r\n\r\n", path, w.secret())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, err := httputil.DumpResponse(resp, true)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		to := resp.Header.Get("Location")
		if resp.StatusCode < 300 || strings.Contains(string(text), "root:") || strings.Contains(string(text), "{{") || strings.HasPrefix(to, "//") || strings.Contains(to, ":") || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s leads somewhere:\n%s", path, text)
		}
		conn.Close()
	}
}

// bottomless is a body without an end, that counts what is read of it.
type bottomless struct{ n atomic.Int64 }

func (e *bottomless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	e.n.Add(int64(len(p)))
	return len(p), nil
}

// A body is read up to what the page takes, and not to its end, which there may not be.
func TestBodiesAreNotReadForEver(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	p := new(http.Protocols)
	p.SetHTTP1(true)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, ask := range webui.Pages() {
		path, ok := strings.CutPrefix(ask, "POST ")
		if !ok || path == "/logout" {
			continue
		}
		for _, kind := range []string{"application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=aaaaaaaa"} {
			body := new(bottomless)
			req, err := http.NewRequestWithContext(t.Context(), "POST", b.url("127.0.0.1")+filled(path), body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", kind)
			req.AddCookie(&http.Cookie{Name: "__Host-bulkhead", Value: w.secret()})
			resp, err := c.Do(req)
			if err == nil { // else it was cut off while it was sent
				_ = resp.Body.Close()
			}
			// Buffers of both sides and of the kernel hold some that nobody looks at, beside
			// the largest form, which has a configuration.
			if n := body.n.Load(); n > 32<<20 {
				t.Errorf("%s reads %d bytes of %s", ask, n, kind)
			}
		}
	}
}

// Who sends a request byte by byte, or nothing at all, holds a connection for a while and
// keeps nobody else out.
func TestSlowClientsKeepNobodyOut(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	var wg sync.WaitGroup
	for i := range 160 {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/20))}}
		var conn net.Conn
		var err error
		at := fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS)
		if i%2 == 0 {
			conn, err = d.Dial("tcp", at) // and does not even begin with TLS
		} else {
			conn, err = tls.DialWithDialer(d, "tcp", at, &tls.Config{InsecureSkipVerify: true})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 1 {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gw\r\nX-A: "); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
			if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
				t.Error("a connection on which nothing comes stays open")
			}
		})
	}
	if resp, _ := b.raw("GET", b.url("127.0.0.1")+"/claim", "", nil, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("meanwhile: got %d", resp.StatusCode)
	}
	wg.Wait()
}

// Somebody else's opinion on the TLS of the box.
func TestSSLScanFindsNothingWeak(t *testing.T) {
	if _, err := exec.LookPath("sslscan"); err != nil {
		if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip("sslscan is not installed: .ci/deps test")
	}
	b := newBox(t)
	b.start(conf1)
	out, err := exec.CommandContext(t.Context(), "sslscan", "--xml=-", "--no-colour", "--show-certificate", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Test struct {
			Protocols []struct {
				Type    string `xml:"type,attr"`
				Version string `xml:"version,attr"`
				Enabled int    `xml:"enabled,attr"`
			} `xml:"protocol"`
			Renegotiation struct {
				Supported int `xml:"supported,attr"`
			} `xml:"renegotiation"`
			Compression struct {
				Supported int `xml:"supported,attr"`
			} `xml:"compression"`
			Heartbleed []struct {
				Vulnerable int `xml:"vulnerable,attr"`
			} `xml:"heartbleed"`
			Ciphers []struct {
				Cipher   string `xml:"cipher,attr"`
				Bits     int    `xml:"bits,attr"`
				Strength string `xml:"strength,attr"`
			} `xml:"cipher"`
			Groups []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bits,attr"`
			} `xml:"group"`
			Certificates []struct {
				Signature string `xml:"signature-algorithm"`
			} `xml:"certificates>certificate"`
		} `xml:"ssltest"`
	}
	if err := xml.Unmarshal(out, &doc); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range doc.Test.Protocols {
		if want := p.Type == "tls" && p.Version == "1.3"; (p.Enabled == 1) != want {
			t.Errorf("%s %s: enabled is %d", p.Type, p.Version, p.Enabled)
		}
	}
	for _, c := range doc.Test.Ciphers {
		if c.Bits < 128 || c.Strength != "strong" && c.Strength != "acceptable" {
			t.Errorf("%+v", c)
		}
	}
	for _, g := range doc.Test.Groups {
		if g.Bits < 112 {
			t.Errorf("%+v", g)
		}
	}
	for _, h := range doc.Test.Heartbleed {
		if h.Vulnerable != 0 {
			t.Error("Heartbleed")
		}
	}
	for _, c := range doc.Test.Certificates {
		if !strings.Contains(c.Signature, "SHA256") && !strings.Contains(c.Signature, "SHA384") && !strings.EqualFold(c.Signature, "ED25519") {
			t.Errorf("signed with %s", c.Signature)
		}
	}
	if doc.Test.Compression.Supported != 0 || len(doc.Test.Protocols) < 5 || len(doc.Test.Ciphers) == 0 || len(doc.Test.Certificates) == 0 {
		t.Errorf("compression, or little was looked at:\n%s", out)
	}
}

// Who is not in an admin zone is hung up on, should the ruleset ever let them through.
func TestOnlyAdminZonesAreServed(t *testing.T) {
	b := newBox(t)
	c := conf1
	c.From = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/30")}
	b.start(c)
	for port, from := range map[uint16]string{b.o.HTTPS: "127.0.0.9", b.o.HTTP: "127.0.0.9"} {
		for _, tt := range []struct {
			from   string
			served bool
		}{{"127.0.0.2", true}, {from, false}} {
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt.from)}}
			conn, err := d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			if port == b.o.HTTPS {
				err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake()
			} else {
				fmt.Fprint(conn, "GET / HTTP/1.0\r\nHost: gw\r\n\r\n")
				_, err = conn.Read(make([]byte, 1))
			}
			if (err == nil) != tt.served {
				t.Errorf("port %d from %s: %v", port, tt.from, err)
			}
			conn.Close()
		}
	}
}
