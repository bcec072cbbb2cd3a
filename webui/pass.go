//go:build linux

package webui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/sock/sockhttp"
)

// What is said while a daemon does not answer.
const (
	noUpdated = "the update service does not answer: try again in a moment, and look at the box's console if it stays so"
	noNetcfgd = "netcfgd cannot be reached: try again in a moment, and look at the box's console if it stays so"
	noFlowd   = "the service that records flows does not answer: try again in a moment, and look at the box's console if it stays so"
	noExportd = "the service that sends flows and alerts does not answer: try again in a moment, and look at the box's console if it stays so"
	noAuthd   = "the access service does not answer: try again in a moment, and look at the box's console if it stays so"
)

// Bounds on what is passed on. The daemons know the exact ones.
const (
	maxUpload  = 1 << 30          // bytes of an image
	maxPassed  = 32 << 20         // of anything else
	uploadIdle = 30 * time.Second // between two pieces
)

// answerHeaders are those of an answer that are passed on.
var answerHeaders = []string{"Content-Length", "Content-Type", "Www-Authenticate"}

// expectTime is how long a body waits for the word that it is welcome: so updated can refuse
// an upload before it begins, and the client, which waits for the same word, hears of it.
const expectTime = 10 * time.Second

// unixTransport connects to a socket on the box, whatever the address says.
func unixTransport(path string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives:     true,
		DisableCompression:    true,
		ExpectContinueTimeout: expectTime,
	}
}

// ownTransport connects to a socket that lies in the daemon's own directory.
func ownTransport(path string) *http.Transport {
	t := sockhttp.Transport(path)
	t.ExpectContinueTimeout = expectTime
	return t
}

// daemon is one that requests are passed on to.
type daemon struct {
	name  string
	way   http.RoundTripper
	away  string // what is said while it does not answer
	limit int64  // of a body, in bytes
	// judges says that it finds out itself who asks, and is handed what the client has
	// shown. It is nobody else's business.
	judges bool
	idle   time.Duration // that a body may stand still; 0: uploadIdle
}

// passOn hands requests to a daemon, and bodies through as they come, whatever their size.
func passOn(d daemon, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: d.way,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", d.name, d.name
			p.Out.Header.Del("Cookie")
			if !d.judges {
				p.Out.Header.Del("Authorization")
			}
			// Whatever the client says.
			p.Out.Header.Set(api.ClientHeader, addrOf(p.In.RemoteAddr).String())
			p.Out.Header.Set(api.ConnectedHeader, strconv.FormatInt(int64(api.Accepted(p.In.Context())), 10))
		},
		ModifyResponse: func(r *http.Response) error {
			// A service may have been taken over: it sets no cookies here, nor loosens
			// what pages may do.
			maps.DeleteFunc(r.Header, func(name string, _ []string) bool { return !slices.Contains(answerHeaders, name) })
			return nil
		},
		FlushInterval: -1, // progress is progress only while it happens
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes are sent", d.limit))
				return
			}
			if r.Context().Err() == nil {
				log.Warn("pass on", "to", d.name, "path", r.URL.Path, "err", err)
			}
			fail(w, http.StatusServiceUnavailable, d.away)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What was let in to one part must not be read as another by who comes next.
		if r.URL.RawPath != "" || strings.Contains(r.URL.Path, "..") {
			fail(w, http.StatusBadRequest, "the path is not written plainly")
			return
		}
		conn := http.NewResponseController(w)
		if r.ContentLength == 0 {
			_ = conn.SetReadDeadline(time.Time{}) // see slowBody.Read
		}
		r.Body = &slowBody{http.MaxBytesReader(w, r.Body, d.limit), conn, cmp.Or(d.idle, uploadIdle)}
		proxy.ServeHTTP(&longAnswer{w, conn}, r)
	})
}

// slowBody gives a body the time that it takes, as long as it goes on.
type slowBody struct {
	io.ReadCloser
	conn *http.ResponseController
	idle time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	now := time.Now()
	_ = b.conn.SetReadDeadline(now.Add(b.idle)) // there is one without it, only sooner
	_ = b.conn.SetWriteDeadline(now.Add(writeTime))
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// What comes next from there is another request. A server of HTTP/1 looks for it
		// meanwhile, and would take it for a client that has left if nothing came for long.
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// longAnswer gives an answer the time that it takes, as long as the client takes it.
type longAnswer struct {
	http.ResponseWriter
	conn *http.ResponseController
}

func (a *longAnswer) Write(p []byte) (int, error) {
	_ = a.conn.SetWriteDeadline(time.Now().Add(writeTime)) // there is one without it, only sooner
	return a.ResponseWriter.Write(p)
}

// Unwrap implements what [http.ResponseController] looks for: answers are flushed.
func (a *longAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

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
