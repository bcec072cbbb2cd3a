//go:build linux

package webui

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
)

// Time limits. Applying a large configuration takes seconds, and what is passed on has
// a limit of its own; requests with large bodies move their limits as they go.
const (
	headerTime = 5 * time.Second // the TLS handshake as well
	readTime   = 30 * time.Second
	writeTime  = 150 * time.Second
	idleTime   = time.Minute
)

// maxStreams bounds the requests that are answered at once over one HTTP/2 connection.
const maxStreams = 32

// httpsServer returns the server of the API and the pages, without listeners.
func (s *server) httpsServer() *http.Server {
	srv := s.newServer(s.protect(s.routes()))
	srv.Protocols.SetHTTP2(true)
	srv.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams,
		MaxReadFrameSize:     16 << 10,
		SendPingTimeout:      idleTime / 2, // a laptop that went to sleep holds no connection
		PingTimeout:          headerTime,
		WriteByteTimeout:     headerTime,
	}
	srv.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: s.identity.certificate, SessionTicketsDisabled: true,
		NextProtos: []string{"h2", "http/1.1"},
	}
	base := srv.TLSConfig.Clone()
	srv.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if s.conf.Load().ClientCertificates {
			return s.clients.config(base), nil
		}
		return nil, nil
	}
	return srv
}

// httpServer returns a server that sends browsers to the other one.
func (s *server) httpServer() *http.Server {
	return s.newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, ok := s.host(r)
		if !ok {
			http.Error(w, "unknown host name", http.StatusMisdirectedRequest)
			return
		}
		to := url.URL{Scheme: "https", Host: s.authority(host), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
		// Not for ever: the next box at this address may be none of ours.
		http.Redirect(w, r, to.String(), http.StatusTemporaryRedirect)
	}))
}

func (s *server) newServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		ConnContext:       api.ConnContext,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    16 << 10,
		// What clients do wrong is theirs to know: anybody could fill the log with it.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// protect adds what every answer needs: no foreign content, no inline script or style,
// no framing, no writing from other sites, and no answer to a Host that we do not go
// by, which is how a foreign site would reach us by DNS rebinding. Where certificates are
// asked for, who has none gets no further.
func (s *server) protect(h http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "the request comes from another site")
	}))
	h = crossOrigin.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cache-Control", "no-store")
		if _, ok := s.host(r); !ok {
			fail(w, http.StatusMisdirectedRequest, "this box does not go by that name: use one of its addresses in an admin zone")
			return
		}
		if err := s.admitted(r); err != nil {
			s.stop(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// host returns the host that a request is for, without the port, and whether the box
// goes by it.
func (s *server) host(r *http.Request) (string, bool) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	return host, slices.Contains(hosts(s.conf.Load()), host)
}

func hosts(c *svcconf.Web) []string {
	names := namesOf(*c)
	for i := range names {
		names[i] = strings.ToLower(names[i])
	}
	return names
}

// authority writes host and HTTPS port as an address has them.
func (s *server) authority(host string) string {
	if s.o.HTTPS == 443 {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, portText(s.o.HTTPS))
}
