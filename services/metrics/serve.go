//go:build linux

package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// Service is a daemon that has a page.
type Service struct {
	Name   string
	Prefix string // of its metrics, behind "bulkhead_"
}

// Services lists them. webuid, which collects the pages, has one as well.
var Services = []Service{
	{"netcfgd", "netcfg"},
	{svcconf.Wand.Name, "wan"},
	{svcconf.Dhcpd.Name, "dhcp"},
	{svcconf.Dnsd.Name, "dns"},
	{svcconf.Updated.Name, "update"},
	{svcconf.Pushd.Name, "push"},
	{svcconf.Exportd.Name, "export"},
	{svcconf.Authd.Name, "auth"},
	{svcconf.Flowd.Name, "flow"},
	{svcconf.Diagd.Name, "diag"},
}

// Dir returns the directory, below the run directory, in which each service has one for
// its socket: its own, and with webuid's group. netcfgd makes them.
func Dir(run string) string { return filepath.Join(run, "metrics") }

func (s Service) socket(run string) string { return filepath.Join(Dir(run), s.Name, "metrics.sock") }

// Bounds of one scrape, which is one connection.
const (
	patience = 2 * time.Second
	atOnce   = 4
)

// Serve answers each caller at the socket of the named service below run with the page
// that fill writes, and hangs up, until ctx ends. It returns ctx's error. fill is called
// by several goroutines. Only webuid and root are answered.
//
// A socket that cannot be opened is tried again: without it there are no metrics, and
// everything else goes on. A directory that is not there yet is not worth a word.
func Serve(ctx context.Context, log *slog.Logger, run, name string, fill func(*Page)) error {
	s, err := find(name)
	if err != nil {
		return err
	}
	listen := func() (net.Listener, error) {
		return sock.Listen(s.socket(run), svcconf.Webuid.ID, svcconf.Webuid.ID)
	}
	tell := func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(patience)) // a unix socket has deadlines
		_, _ = c.Write(s.page(fill))                // a caller that left needs no page
	}
	return sock.Serve(ctx, listen, atOnce, tell, func(err error) {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("there are no metrics", "err", err)
		}
	})
}

func find(name string) (Service, error) {
	for _, s := range Services {
		if s.Name == name {
			return s, nil
		}
	}
	return Service{}, fmt.Errorf("%s has no metrics", name)
}

func (s Service) page(fill func(*Page)) []byte {
	p := NewPage(s.Prefix)
	fill(p)
	Process(p)
	return p.Bytes()
}

// Collect returns the page of a service that runs below run. It has passed [Check].
func (s Service) Collect(ctx context.Context, run string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := sock.Dial(ctx, s.socket(run))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // as above
	page, err := io.ReadAll(io.LimitReader(c, MaxPage+1))
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", s.Name, err)
	}
	if err := Check(page, s.Prefix); err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", s.Name, err)
	}
	return page, nil
}

var started = time.Now()

// Process writes what every process has.
func Process(p *Page) {
	p.Gauge("process_start_time_seconds", "When the process began, since 1970.", Of(float64(started.UnixMilli())/1000))
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err == nil {
		p.Counter("process_cpu_seconds_total", "Processor time of the process.", Of((time.Duration(used.Utime.Nano()) + time.Duration(used.Stime.Nano())).Seconds()))
	}
	if pages, ok := resident(); ok {
		p.Gauge("process_resident_memory_bytes", "Memory of the process that is in use.", Of(pages*os.Getpagesize()))
	}
	p.Gauge("process_goroutines", "Goroutines of the process.", Of(runtime.NumGoroutine()))
}

// resident returns how many pages of memory the process has: proc(5), statm.
func resident() (int, bool) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	var size, pages int
	_, err = fmt.Fscan(bytes.NewReader(data), &size, &pages)
	return pages, err == nil
}
