//go:build linux

// Package notice tells machines that are isolated that they are. The ruleset leads whatever
// they ask a web server or a DNS server to the box (netcfg/compile/isolate.go): here every
// name is the box's address, and every page says the same.
//
// What a machine sends is looked at as far as it takes to answer, and never comes back. The
// page has HTTP status 511 (RFC 6585 section 6), so that systems which look for captive
// portals show it by themselves. HTTPS cannot be answered: nobody has a certificate for
// every name.
package notice

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/onlink"
)

// Bounds of one zone.
const (
	maxConns = 64 // of each of the two servers
	slow     = 5 * time.Second
)

// Server tells in the zones that it is configured for.
type Server struct {
	log  *slog.Logger
	http uint16
	dns  uint16
	slow time.Duration // how long a connection may be

	mu   sync.Mutex
	open map[svcconf.Notice]context.CancelFunc
	wg   sync.WaitGroup
}

// New returns a server that listens at the ports, which are those of svcconf but for tests.
func New(log *slog.Logger, http, dns uint16) *Server {
	return &Server{log: log, http: http, dns: dns, slow: slow, open: map[svcconf.Notice]context.CancelFunc{}}
}

// Follow makes the zones those in list, until ctx ends. It does not wait.
func (s *Server) Follow(ctx context.Context, list []svcconf.Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[svcconf.Notice]bool{}
	for _, n := range list {
		want[n] = true
		if s.open[n] == nil {
			zone, cancel := context.WithCancel(ctx)
			s.open[n] = cancel
			s.wg.Go(func() { s.run(zone, n) })
		}
	}
	for n, cancel := range s.open {
		if !want[n] {
			cancel()
			delete(s.open, n)
		}
	}
}

// Wait returns when all zones are closed, after the end of the context of Follow.
func (s *Server) Wait() { s.wg.Wait() }

// run serves one zone until ctx ends.
func (s *Server) run(ctx context.Context, n svcconf.Notice) {
	log := s.log.With("zone", n.Zone, "address", n.Address)
	names := onlink.Place{Addr: netip.AddrPortFrom(n.Address, s.dns), Link: n.Link}
	names.Serve(ctx, func(on context.Context, names *onlink.Pair) error {
		return s.serve(on, n, names, log)
	}, func(err error) { log.Warn("isolated machines are not told so", "err", err) })
}

// serve answers until on ends.
func (s *Server) serve(on context.Context, n svcconf.Notice, names *onlink.Pair, log *slog.Logger) error {
	pages, err := onlink.Place{Addr: netip.AddrPortFrom(n.Address, s.http), Link: n.Link}.ListenTCP(on)
	if err != nil {
		return err
	}
	defer pages.Close()
	web := &http.Server{
		Handler: http.HandlerFunc(page), ReadTimeout: s.slow, WriteTimeout: s.slow, MaxHeaderBytes: 4 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	web.SetKeepAlivesEnabled(false)
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(Answer(q, n.Address)) }) // who left needs none
	udp := &dns.Server{PacketConn: names.UDP, Handler: answer, MsgAcceptFunc: accept}
	tcp := &dns.Server{Listener: netutil.LimitListener(names.TCP, maxConns), Handler: answer, MsgAcceptFunc: accept, ReadTimeout: s.slow, WriteTimeout: s.slow, MaxTCPQueries: 1}
	ended := make(chan error, 3)
	go func() { ended <- web.Serve(netutil.LimitListener(pages, maxConns)) }()
	go func() { ended <- udp.ActivateAndServe() }()
	go func() { ended <- tcp.ActivateAndServe() }()
	log.Info("isolated machines are told so")
	left := 3
	select {
	case <-on.Done():
	case err = <-ended:
		left--
	}
	// What is open is cut: the machine is free, or the box is going.
	_, _, _ = web.Close(), udp.Shutdown(), tcp.Shutdown()
	_, _, _ = pages.Close(), names.UDP.Close(), names.TCP.Close() // of those that did not get so far as to serve
	for range left {
		<-ended
	}
	return err
}

//go:embed page.html
var text []byte

// page says what is the case, whatever is asked for.
func page(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusNetworkAuthenticationRequired)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // a browser that left needs none
	}
}

// accept takes questions, and drops all else without an answer.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	if h.Bits&response != 0 || h.Qdcount != 1 {
		return dns.MsgIgnore
	}
	return dns.MsgAccept
}

// Answer says that every name has the address, for no longer than it takes to ask again.
func Answer(q *dns.Msg, addr netip.Addr) *dns.Msg {
	a := new(dns.Msg)
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		return a.SetRcode(q, dns.RcodeNotImplemented)
	}
	a.SetReply(q)
	a.RecursionAvailable = true
	if one := q.Question[0]; one.Qtype == dns.TypeA && one.Qclass == dns.ClassINET {
		a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: one.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: addr.AsSlice()}}
	}
	return a
}
