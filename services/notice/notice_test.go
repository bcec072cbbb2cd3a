//go:build linux

package notice_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/notice"
)

var here = netip.MustParseAddr("127.0.0.77")

// start tells at two free ports of an address, and returns how to stop.
func start(t *testing.T, change ...func(*notice.Server)) (web, names string, follow func(...svcconf.Notice)) {
	t.Helper()
	free := func() uint16 {
		l, err := net.Listen("tcp4", here.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	hp, dp := free(), free()
	s := notice.New(slog.New(slog.DiscardHandler), hp, dp)
	for _, f := range change {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); s.Wait() })
	follow = func(list ...svcconf.Notice) { s.Follow(ctx, list) }
	follow(svcconf.Notice{Zone: "iot", Address: here})
	web, names = netip.AddrPortFrom(here, hp).String(), netip.AddrPortFrom(here, dp).String()
	until(t, func() bool { return reached(web) && reached(names) })
	return web, names, follow
}

func reached(at string) bool {
	c, err := net.DialTimeout("tcp", at, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never came true")
}

func TestEveryPageSaysTheSame(t *testing.T) {
	web, _, _ := start(t)
	for _, ask := range []string{"GET /", "GET /generate_204", "POST /login", "GET /../../etc/passwd", "PUT /%00<script>"} {
		method, path, _ := strings.Cut(ask, " ")
		c, err := net.Dial("tcp", web)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: <script>evil.example\r\nContent-Length: 0\r\n\r\n", method, path)
		data, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasPrefix(string(data), "HTTP/1.1 511 ") && !strings.HasPrefix(string(data), "HTTP/1.1 400 ") {
			t.Errorf("%s: %v\n%s", ask, err, data)
		}
		if strings.Contains(string(data), "script") || strings.Contains(string(data), "evil") {
			t.Errorf("%s: what was sent comes back:\n%s", ask, data)
		}
	}
	resp, err := http.Get("http://" + web + "/hotspot-detect.html")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNetworkAuthenticationRequired || !strings.Contains(string(body), "This device is isolated") {
		t.Errorf("%d, %v\n%s", resp.StatusCode, err, body)
	}
}

func TestEveryNameIsTheBox(t *testing.T) {
	_, names, _ := start(t)
	for _, network := range []string{"udp", "tcp"} {
		for qtype, want := range map[uint16]int{dns.TypeA: 1, dns.TypeAAAA: 0, dns.TypeMX: 0, dns.TypeANY: 0} {
			q := new(dns.Msg).SetQuestion("www.example.", qtype)
			a, _, err := (&dns.Client{Net: network}).Exchange(q, names)
			if err != nil {
				t.Fatalf("%s, type %d: %v", network, qtype, err)
			}
			if a.Rcode != dns.RcodeSuccess || len(a.Answer) != want {
				t.Errorf("%s, type %d: %v", network, qtype, a)
			}
			for _, rr := range a.Answer {
				if rr, ok := rr.(*dns.A); !ok || rr.A.String() != here.String() || rr.Hdr.Ttl != 0 {
					t.Errorf("%s: %v", network, rr)
				}
			}
		}
	}
	// Nothing but a question has an answer.
	c, err := net.Dial("udp", names)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("www.example.", dns.TypeA)).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, junk := range [][]byte{{}, {1}, answer} {
		if _, err := c.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	a, _, err := (&dns.Client{}).ExchangeWithConn(new(dns.Msg).SetQuestion("last.example.", dns.TypeA), &dns.Conn{Conn: c})
	if err != nil || a.Question[0].Name != "last.example." {
		t.Errorf("got %v, %v", a, err)
	}
}

func TestNobodyIsToldOnceNobodyIsIsolated(t *testing.T) {
	web, names, follow := start(t)
	follow()
	until(t, func() bool { return !reached(web) && !reached(names) })
	follow(svcconf.Notice{Zone: "iot", Address: here})
	until(t, func() bool { return reached(web) && reached(names) })
}

// Who opens connections and sends nothing keeps others out for as long as a connection may
// be slow, and no longer.
func TestIdleConnectionsEnd(t *testing.T) {
	web, _, _ := start(t)
	var all []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", web)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	_ = all[0].SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, all[0]); err != nil {
		t.Errorf("an idle connection: %v", err)
	}
	resp, err := http.Get("http://" + web + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// Who asks for names over TCP and then says nothing holds up nobody who wants to stop.
func TestIdleQuestionDoesNotHoldUpTheEnd(t *testing.T) {
	web, names, follow := start(t, (*notice.Server).Patient)
	c, err := net.Dial("tcp", names)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Another's answer says that the connection before it was accepted.
	if _, _, err := (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetQuestion("www.example.", dns.TypeA), names); err != nil {
		t.Fatal(err)
	}
	follow()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err = io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection ends with %v", err)
	}
	until(t, func() bool { return !reached(web) })
}

// FuzzAnswer checks that whatever is asked has an answer that can be sent, and that it is no
// longer than a packet.
func FuzzAnswer(f *testing.F) {
	for _, q := range []*dns.Msg{new(dns.Msg).SetQuestion("www.example.", dns.TypeA), new(dns.Msg).SetQuestion(".", dns.TypeANY), new(dns.Msg)} {
		data, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q := new(dns.Msg)
		if q.Unpack(data) != nil {
			return
		}
		out, err := notice.Answer(q, here).Pack()
		if err == nil && len(out) > 512 {
			t.Errorf("%d bytes", len(out))
		}
	})
}
