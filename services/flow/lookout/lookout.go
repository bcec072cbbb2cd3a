//go:build linux

// Package lookout is the edge of the inventory: it tells it what the kernel and dhcpd
// see and what is recorded, keeps it and the events on disk, and answers who asks.
package lookout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/phuslu/iploc"
	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/neighbour"
	"bulkhead/services/flow/news"
	"bulkhead/services/flow/oui"
	"bulkhead/services/flow/record"
	"bulkhead/services/run"
)

// The files in flowd's state directory.
const (
	inventoryFile = "inventory.json"
	eventsFile    = "events.jsonl"
)

// The pace of things. The disk may be an SD card: what is only later than it was is
// written a few times in an hour.
const (
	beat      = 5 * time.Second
	look      = 15 * time.Second // at the neighbours
	saveSoon  = time.Minute
	saveLater = 15 * time.Minute
)

// faded is how long ago a neighbour may have been there for it to count as seen.
const faded = time.Hour

// Lookout keeps an inventory. Its methods may be called by several goroutines.
type Lookout struct {
	log    *slog.Logger
	heard  string // file
	state  string // directory
	makers *oui.List

	mu      sync.Mutex
	inv     *inventory.Inventory
	news    *news.Log
	saved   saved
	failing bool
}

// saved is how far things are on the disk.
type saved struct {
	at            time.Time // of the inventory
	news, touches uint64
	events        uint64
}

// Open returns the lookout of a flowd with the directories, with what it knew before.
// Files that are damaged are set aside: nothing that is recorded depends on them.
func Open(log *slog.Logger, dirs run.Dirs) (*Lookout, error) {
	l := &Lookout{
		log: log, state: dirs.StateDir(svcconf.Flowd.Name),
		heard: filepath.Join(dirs.Run, svcconf.HeardDir, svcconf.Dhcpd.Name, svcconf.HeardFile),
	}
	var err error
	if l.makers, err = oui.Open(oui.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("makers of devices are not known", "err", err)
	}
	lists := inventory.Lists{Vendor: l.makers.Vendor, Country: country}
	err = l.load(inventoryFile, inventory.MaxFile, func(data []byte) error {
		l.inv, err = inventory.Decode(data, lists)
		return err
	})
	if l.inv == nil {
		l.inv = inventory.New(time.Now(), lists)
	}
	l.news = new(news.Log)
	err = errors.Join(err, l.load(eventsFile, news.MaxFile, func(data []byte) error {
		var damaged int
		if l.news, damaged = news.Decode(data); damaged > 0 {
			log.Warn("events are lost", "damaged", damaged)
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	l.saved.at = time.Now()
	return l, nil
}

// country says where an address is by the list of IP2Location Lite, which is in the program.
// That for IPv6 would take 3 MB as soon as it is asked, and IPv6 is closed so far.
func country(a netip.Addr) string {
	const none = "ZZ" // no country: nobody has the address, or who has it does not say
	if !a.Is4() {
		return ""
	}
	if c := iploc.IPCountry(a); c != none {
		return c
	}
	return ""
}

// load reads a file, and sets it aside if it makes no sense.
func (l *Lookout) load(name string, limit int64, decode func([]byte) error) error {
	path := filepath.Join(l.state, name)
	data, err := file.Read(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = decode(data)
	}
	if err == nil {
		return nil
	}
	l.log.Error("begun anew: what was known is set aside", "file", path, "err", err)
	return os.Rename(path, path+".damaged")
}

// Configure says which zones and devices there are.
func (l *Lookout) Configure(c svcconf.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inv.Configure(c)
}

// Records takes down what was recorded.
func (l *Lookout) Records(list []record.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inv.Records(time.Now(), list)
	l.news.Add(l.inv.Events()...)
}

// Holder returns the MAC of who was last seen with an address of a zone; zero if nobody was.
func (l *Lookout) Holder(a netip.Addr) model.MAC {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inv.Holder(a)
}

// Tell adds an event that something else than the inventory has noticed.
func (l *Lookout) Tell(e record.Event) { l.news.Add(e) }

// Run looks out until ctx ends and returns ctx's error.
func (l *Lookout) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return run.WatchFile(ctx, l.log, l.heard, func(h svcconf.DHCPHeard) error {
			l.hear(time.Now(), h)
			return nil
		})
	})
	g.Go(func() error { l.neighbours(ctx); return nil })
	g.Go(func() error {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				l.saved.at = time.Time{} // now or never
				l.step(time.Now())
				return ctx.Err()
			case <-tick.C:
				l.step(time.Now())
			}
		}
	})
	return errors.Join(g.Wait(), l.makers.Close())
}

// hear takes down what dhcpd has heard, none of which is from the future.
func (l *Lookout) hear(now time.Time, h svcconf.DHCPHeard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range h.Clients {
		c.Seen = earlier(c.Seen, now)
		l.inv.Client(c)
	}
	for _, s := range h.Servers {
		s.Seen = earlier(s.Seen, now)
		l.inv.Server(now, s)
	}
	l.news.Add(l.inv.Events()...)
}

func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

// neighbours looks at the kernel's neighbours now and then, until ctx ends.
func (l *Lookout) neighbours(ctx context.Context) {
	said := ""
	for {
		if err := l.lookAtNeighbours(time.Now()); err != nil && err.Error() != said {
			said = err.Error()
			l.log.Error("neighbours are not seen", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(look):
		}
	}
}

func (l *Lookout) lookAtNeighbours(now time.Time) error {
	table, err := neighbour.Open(0)
	if err != nil {
		return err
	}
	defer table.Close()
	list, err := table.List()
	if err != nil {
		return err
	}
	links := make(map[int]string)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range list {
		name, ok := links[n.Index]
		if !ok {
			if link, err := net.InterfaceByIndex(n.Index); err == nil { // or it is gone
				name = link.Name
			}
			links[n.Index] = name
		}
		if n.Age < faded {
			l.inv.Neighbour(inventory.Neighbour{Link: name, MAC: n.MAC, Addr: n.Addr, Seen: now.Add(-n.Age)})
		}
	}
	return nil
}

// step lets time pass, and saves what has to be.
func (l *Lookout) step(now time.Time) {
	l.mu.Lock()
	l.inv.Tick(now)
	l.news.Add(l.inv.Events()...)
	added := l.news.Added()
	var files []write
	if added != l.saved.events {
		files = append(files, write{eventsFile, l.news.Encode})
	}
	age := now.Sub(l.saved.at).Abs() // a clock that was set is a reason, too
	dueInventory := l.inv.News != l.saved.news && age >= saveSoon || l.inv.Touches != l.saved.touches && age >= saveLater
	if dueInventory {
		files = append(files, write{inventoryFile, l.inv.Encode})
	}
	data := make([][]byte, len(files))
	var err error
	for i, f := range files {
		var encodeErr error
		data[i], encodeErr = f.encode()
		err = errors.Join(err, encodeErr)
	}
	news, touches := l.inv.News, l.inv.Touches
	l.mu.Unlock()

	for i, f := range files {
		if data[i] != nil {
			err = errors.Join(err, file.Replace(filepath.Join(l.state, f.name), data[i], 0o600, -1))
		}
	}
	if len(files) > 0 {
		err = errors.Join(err, file.SyncDir(l.state))
	}
	if err != nil { // tried again at the next beat
		if !l.failing {
			l.log.Error("the inventory is not saved", "err", fmt.Errorf("%s: %w", l.state, err))
		}
		l.failing = true
		return
	}
	l.failing = false
	l.saved.events = added
	if dueInventory {
		l.saved.at, l.saved.news, l.saved.touches = now, news, touches
	}
}

// write is a file that is to be written.
type write struct {
	name   string
	encode func() ([]byte, error)
}
