//go:build linux

package webui

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	update "bulkhead/services/update/api"
)

// noUpdated is what is said while updated does not answer.
const noUpdated = "the update service does not answer: try again in a moment, and look at the box's console if it stays so"

// Bounds on what is passed on. updated knows the exact sizes.
const (
	maxUpload  = 1 << 30          // bytes
	uploadIdle = 30 * time.Second // between two pieces
)

// unixTransport connects to a socket on the box, whatever the address says.
func unixTransport(path string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives:  true,
		DisableCompression: true,
		// So that updated can refuse an upload before it begins, and the client,
		// which waits for the same word, hears of it.
		ExpectContinueTimeout: 10 * time.Second,
	}
}

// passOn hands requests to updated and bodies through as they come, whatever their
// size.
func passOn(socket string, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: unixTransport(socket),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "updated", "updated"
			p.Out.Header.Del("Cookie")
			p.Out.Header.Del(update.AuthorHeader) // whatever the client says
			if t := tokenOf(p.In.Context()); t.Name != "" {
				p.Out.Header.Del("Authorization") // nobody else's business
				p.Out.Header.Set(update.AuthorHeader, t.Name)
			}
		},
		FlushInterval: -1, // progress is progress only while it happens
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				fail(w, http.StatusRequestEntityTooLarge, "the upload is larger than any image")
				return
			}
			if r.Context().Err() == nil {
				log.Warn("pass on to updated", "path", r.URL.Path, "err", err)
			}
			fail(w, http.StatusServiceUnavailable, noUpdated)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What was let in to one part must not be read as another by who comes next.
		if r.URL.RawPath != "" || strings.Contains(r.URL.Path, "..") {
			fail(w, http.StatusBadRequest, "the path is not written plainly")
			return
		}
		r.Body = &slowBody{http.MaxBytesReader(w, r.Body, maxUpload), http.NewResponseController(w)}
		proxy.ServeHTTP(w, r)
	})
}

// slowBody gives a body the time that it takes, as long as it goes on.
type slowBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (b *slowBody) Read(p []byte) (int, error) {
	now := time.Now()
	_ = b.conn.SetReadDeadline(now.Add(uploadIdle)) // there is one without it, only sooner
	_ = b.conn.SetWriteDeadline(now.Add(writeTime))
	return b.ReadCloser.Read(p)
}

// whereGokrazy passes gokrazy's update protocol on where the configuration wants it:
// /update/… and /reboot are updated's /gokrazy/update/… and /gokrazy/reboot.
func (s *server) whereGokrazy(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.conf.Load().Gokrazy {
			fail(w, http.StatusNotFound, "gokrazy's update protocol is off: see system.updates.gokrazy")
			return
		}
		r = r.Clone(r.Context())
		r.URL.Path = "/gokrazy" + r.URL.Path
		h.ServeHTTP(w, r)
	})
}
