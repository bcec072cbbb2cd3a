//go:build linux

// Package webui is the management interface: the API over HTTPS on the addresses of
// the admin zones, and pages that work without JavaScript.
//
// It passes on what people ask and what they have shown: authd knows who they are, netcfgd
// alone changes the network, updated alone writes images, and each of them looks for
// itself who asks. webui holds no right of its own.
package webui

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/run"
	update "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// Options are where the server finds things.
type Options struct {
	Run   string // the service's own directory, gone after a reboot
	State string // its own directory, kept over reboots

	Base    string // directory in which services have theirs
	Netcfgd string // socket
	Updated string // socket
	Flowd   string // socket
	Exportd string // socket
	Authd   string // socket
	Image   string // file that says what image this is; there may be none
	Bill    string // file that says what is in it

	HTTPS, HTTP uint16 // ports

	page time.Duration    // see pageTime
	now  func() time.Time // see clock
}

// pageTime is how long a page may take: a little less than there is to write it.
func (o *Options) pageTime() time.Duration { return cmp.Or(o.page, writeTime-10*time.Second) }

// clock says how late it is.
func (o *Options) clock() time.Time {
	if o.now != nil {
		return o.now()
	}
	return time.Now()
}

// NewOptions returns those of a service with the directories.
func NewOptions(d run.Dirs) Options {
	me := svcconf.Webuid.Name
	return Options{
		Run: d.RunDir(me), State: d.StateDir(me), Base: d.Run,
		Netcfgd: filepath.Join(d.Run, api.SocketFile),
		Updated: filepath.Join(d.Run, update.SocketFile),
		Flowd:   filepath.Join(d.RunDir(svcconf.Flowd.Name), svcconf.FlowsSocket),
		Exportd: filepath.Join(d.RunDir(svcconf.Exportd.Name), svcconf.ExportSocket),
		Authd:   filepath.Join(d.Run, auth.SocketFile),
		Image:   "/etc/bulkhead/image.json",
		Bill:    "/etc/gokrazy/sbom.json",
		HTTPS:   443, HTTP: 80,
	}
}

// server is the running service.
type server struct {
	o        Options
	log      *slog.Logger
	identity *identity
	clients  *clients
	access   *auth.Client
	box      *api.Client  // for what anybody may know
	netcfgd  http.Handler // these answer who has shown that they may ask
	updated  http.Handler
	flowd    http.Handler
	exportd  http.Handler
	authd    http.Handler
	refused  *seldom // log of who was not let in
	pages    collector
	nav      []page // that stand in the navigation
	count    counters
	watchers quota[auth.Holder] // who follows flows
	returned quota[netip.Addr]  // where texts are given back to that nobody knows
	upload   upload
	image    manifest.Info

	conf   atomic.Pointer[svcconf.Web] // never nil
	tried  atomic.Pointer[tried]       // the last change that was; nil: none was
	parsed atomic.Pointer[parsed]      // the file that was read last
}

// Serve runs the service until ctx ends and returns ctx's error then.
func Serve(ctx context.Context, log *slog.Logger, o Options) error {
	id, err := openIdentity(o.State, log, o.clock)
	if err != nil {
		return err
	}
	image := imageIn(o.Image)
	s := &server{
		o: o, log: log, identity: id,
		clients:  openClients(o.State, log, func() time.Time { return latest(o.clock(), image.Built) }),
		access:   auth.NewClient(o.Authd),
		box:      api.NewClient(o.Netcfgd),
		netcfgd:  passOn(daemon{"netcfgd", unixTransport(o.Netcfgd), noNetcfgd, maxPassed, true, 0}, log),
		updated:  passOn(daemon{"updated", unixTransport(o.Updated), noUpdated, maxUpload, true, 0}, log),
		authd:    passOn(daemon{"authd", unixTransport(o.Authd), noAuthd, maxBody, true, 0}, log),
		flowd:    passOn(daemon{"flowd", ownTransport(o.Flowd), noFlowd, maxBody, false, 0}, log),
		exportd:  passOn(daemon{"exportd", ownTransport(o.Exportd), noExportd, maxBody, false, 0}, log),
		watchers: quota[auth.Holder]{all: maxFollowers, each: maxOwnFollowed},
		returned: quota[netip.Addr]{all: maxReturned, each: 1},
		refused:  &seldom{log: log, every: 10 * time.Second},
		pages:    collector{run: o.Base},
		image:    image,
		nav:      slices.DeleteFunc(allPages(), func(p page) bool { return !p.nav }),
	}
	s.conf.Store(new(svcconf.Web))
	log.Info("started", "fingerprint", id.fingerprint())

	secure, plain := s.httpsServer(), s.httpServer()
	pages := newListeners(log, o.HTTPS, s.admits, func(l net.Listener) error { return secure.ServeTLS(l, "", "") })
	signs := newListeners(log, o.HTTP, s.admits, func(l net.Listener) error { return plain.Serve(l) })

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serveControl(ctx) })
	group.Go(func() error { return pages.run(ctx) })
	group.Go(func() error { return signs.run(ctx) })
	group.Go(func() error {
		return run.WatchConfig(ctx, log, filepath.Join(o.Run, svcconf.ConfigFile), func(c svcconf.Web) error {
			if err := id.cover(c); err != nil {
				return err
			}
			s.conf.Store(&c)
			pages.follow(c.Listen)
			signs.follow(c.Listen)
			return nil
		})
	})
	group.Go(func() error {
		<-ctx.Done()
		return errors.Join(end(secure), end(plain))
	})
	return group.Wait()
}

// latest is how late it is at least: a box that has no clock yet is not older than its image.
func latest(now, built time.Time) time.Time {
	if built.After(now) {
		return built
	}
	return now
}

// admits reports whether an address is in an admin zone.
func (s *server) admits(a netip.Addr) bool {
	nets := s.conf.Load().From
	return len(nets) == 0 || slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
}

// goodbye is how long requests may take that are under way when the service ends.
const goodbye = 5 * time.Second

func end(srv *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close() // what is still open is cut, as it was going to be
	}
	return nil
}
