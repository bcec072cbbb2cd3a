package wan

import (
	"context"
	cryptorand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
	"bulkhead/services/wan/dhcp4"
)

// Serve runs the daemon until ctx ends. It waits for its configuration and takes
// every new one. The directories of [svcconf.Wand] below dirs exist already.
//
// The uplink file outlives the daemon, because the lease does.
func Serve(ctx context.Context, log *slog.Logger, dirs run.Dirs) error {
	name := svcconf.Wand.Name
	d := newDaemon(log, host{}, files{run: dirs.RunDir(name), state: dirs.StateDir(name)})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return run.WatchConfig(ctx, log, dirs.Config(name), func(c svcconf.WAN) error {
			if err := check(c); err != nil {
				return err
			}
			select {
			case d.configs <- c:
			case <-ctx.Done():
			}
			return nil
		})
	})
	g.Go(func() error { return d.run(ctx) })
	g.Go(func() error { return metrics.Serve(ctx, log, dirs.Run, name, d.metrics) })
	return g.Wait()
}

// check refuses a configuration that netcfgd cannot have meant.
func check(c svcconf.WAN) error {
	switch {
	case c.Mode > model.ModeStatic || c.Mode == model.ModeDelegated:
		return fmt.Errorf("mode %d is none for IPv4", c.Mode)
	case c.Mode == model.ModeStatic && !(c.Address.Addr().Is4() && c.Gateway.Is4()):
		return fmt.Errorf("static uplink with address %s and gateway %s", c.Address, c.Gateway)
	}
	return nil
}

// network is what the daemon needs of the machine.
type network interface {
	// link returns an interface as it is now; ok is false if there is none.
	link(name string) (l link, ok bool)
	// open listens on a link and sends what it hears until the wire is closed.
	open(l link, events chan<- heard) (wire, error)
}

// link is an interface at one moment.
type link struct {
	name  string
	index int
	mac   model.MAC
	up    bool // administratively, and there is a carrier
}

// wire sends on one link and, until close returns, hears.
type wire interface {
	broadcast(msg []byte) error
	unicast(msg []byte, from, to netip.Addr) error
	probe(netip.Addr) error // and hear ARP from now on
	endProbe()
	close()
}

// heard is an event on a wire, or the error that made it deaf.
type heard struct {
	event dhcp4.Event
	err   error
}

// poll is how often the daemon looks at the link, writes its status, and tries
// again what did not work. Looking costs less than subscribing to the kernel's
// messages is worth: a cable takes longer than this to come up, and there is no
// queue that could overflow.
const poll = time.Second

// slew is how far the times in the uplink file may be off before it is written
// again. The clock may be set at any moment, and by decades on a box without one.
const slew = 2 * time.Second

// daemon is one uplink. All of it belongs to the goroutine in run.
type daemon struct {
	log     *slog.Logger
	net     network
	files   files
	configs chan svcconf.WAN
	events  chan heard

	cfg    svcconf.WAN // zero: none yet, and the uplink file is left alone
	begun  bool        // a configuration came
	since  time.Time   // it came, or the link came or went
	client *dhcp4.Machine
	link   link // as last seen; zero: there is none
	wire   wire // nil: the link is not up

	want   *facts.Lease // in force; nil: none
	steady time.Time    // since when it has been, with a carrier; zero: it is not now
	file   *facts.Lease // in the uplink file
	known  bool         // that file is what is in the uplink file

	status  svcconf.WANStatus                 // as last written
	shown   atomic.Pointer[svcconf.WANStatus] // the same, for others to read
	trouble trouble
	logged  trouble // trouble that the log knows
}

// trouble is something that went wrong.
type trouble struct {
	what string
	at   time.Time
}

func newDaemon(log *slog.Logger, n network, f files) *daemon {
	return &daemon{log: log, net: n, files: f, configs: make(chan svcconf.WAN), events: make(chan heard)}
}

func (d *daemon) run(ctx context.Context) error {
	d.files.sweep()
	defer d.unplug()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		var ticked bool
		select {
		case <-ctx.Done():
			now := time.Now()
			d.writeStatus(svcconf.WANStatus{Link: d.cfg.Link, State: "stopped", Since: stamp(now, now)})
			return ctx.Err()
		case c := <-d.configs:
			d.configure(time.Now(), c)
			d.look(time.Now())
		case h := <-d.events:
			d.hear(time.Now(), h)
		case <-tick.C:
			ticked = true
			d.look(time.Now())
		case <-timer.C:
			d.step(time.Now(), dhcp4.Tick{})
		}
		now := time.Now()
		d.settle(now)
		if ticked {
			d.report(now)
		}
		timer.Reset(d.untilNext(now))
	}
}

// untilNext is how long the DHCP client can wait. The ticker would wake it anyway;
// the timer is for what needs to be more exact.
func (d *daemon) untilNext(now time.Time) time.Duration {
	if d.client != nil {
		if at := d.client.Next(); !at.IsZero() {
			return max(at.Sub(now), 0)
		}
	}
	return time.Hour
}

// configure takes a new configuration. The lease of another link or mode ends
// here; a new host name is worth no interruption.
func (d *daemon) configure(now time.Time, c svcconf.WAN) {
	if c.Link == "" {
		c.Mode = model.ModeNone
	}
	first, old := !d.begun, d.cfg
	d.cfg, d.begun = c, true
	if !first && c.Mode == model.ModeDHCP && old.Mode == c.Mode && old.Link == c.Link {
		d.client.SetHostname(c.Hostname)
		return
	}
	if !first && equal(old, c) {
		return
	}
	d.log.Info("configured", "link", c.Link, "dhcp", c.Mode == model.ModeDHCP)
	d.unplug()
	d.client, d.want, d.link, d.since = nil, nil, link{}, now
	d.trouble, d.logged = trouble{}, trouble{}
	if first {
		d.adopt(now)
	}
	if c.Mode == model.ModeDHCP {
		d.startClient(now)
	}
}

func equal(a, b svcconf.WAN) bool {
	return a.Link == b.Link && a.Mode == b.Mode && a.Hostname == b.Hostname &&
		a.Address == b.Address && a.Gateway == b.Gateway && slices.Equal(a.Resolvers, b.Resolvers)
}

// adopt looks for the lease of a daemon that ran before, so that a restart does
// not interrupt the internet. The run directory is empty after a reboot: then
// there is none, and an address is used only once a server has confirmed it.
func (d *daemon) adopt(now time.Time) {
	l, err := d.files.readUplink()
	if err != nil {
		d.log.Warn("uplink file ignored", "err", err)
		return
	}
	d.file, d.known = l, true
	ours := l != nil && d.cfg.Mode == model.ModeDHCP && l.Link == d.cfg.Link &&
		l.Server.IsValid() && l.Address.Addr().Is4() && l.Gateway.Is4()
	if !ours {
		return
	}
	// From here on the lease runs by the monotonic clock. If the wall clock was
	// set back meanwhile, it still does not run longer than it was given for.
	held := *l
	if !l.Expires.IsZero() {
		whole := l.Expires.Sub(l.Obtained)
		left := min(l.Expires.Sub(now), whole)
		if left <= 0 {
			return
		}
		held.Expires = now.Add(left)
		held.Obtained = held.Expires.Add(-whole)
	}
	d.want = &held
}

func (d *daemon) startClient(now time.Time) {
	saved, err := d.files.readSaved()
	if err != nil {
		d.log.Warn("last address ignored", "err", err)
	}
	var held *dhcp4.Lease
	if d.want != nil {
		held = &dhcp4.Lease{Lease: *d.want}
	}
	var seed [32]byte
	cryptorand.Read(seed[:]) // never fails
	d.client = dhcp4.New(now, dhcp4.Config{
		Link:     d.cfg.Link,
		Hostname: d.cfg.Hostname,
		Rand:     rand.NewChaCha8(seed), // transaction IDs are not to be guessed
	}, saved, held)
}

// look takes note of what has become of the link.
func (d *daemon) look(now time.Time) {
	if d.cfg.Mode == model.ModeNone {
		return
	}
	l, _ := d.net.link(d.cfg.Link)
	if l != d.link {
		d.log.Info("link", "link", d.cfg.Link, "present", l.index != 0, "up", l.up)
		d.unplug()
		d.link, d.since = l, now
		d.step(now, dhcp4.Link{}) // whatever is there now may be another cable
	}
	switch d.cfg.Mode {
	case model.ModeStatic:
		d.setStatic(now)
	case model.ModeDHCP:
		if l.up && d.wire == nil {
			d.plug()
		}
		d.step(now, dhcp4.Link{Up: d.wire != nil, MAC: l.mac})
	}
}

// setStatic has the configured lease in force while the link exists.
func (d *daemon) setStatic(now time.Time) {
	l := &facts.Lease{
		Link: d.cfg.Link, Address: d.cfg.Address, Gateway: d.cfg.Gateway,
		Resolvers: d.cfg.Resolvers, Obtained: now,
	}
	switch {
	case d.link.index == 0:
		d.want = nil
	case d.want == nil && d.file != nil && same(*d.file, *l):
		d.want = d.file // since an earlier daemon
	case d.want == nil:
		d.want = l
	}
}

// plug starts to listen on the link. It is tried again at the next poll.
func (d *daemon) plug() {
	w, err := d.net.open(d.link, d.events)
	if err != nil {
		d.fail(err)
		return
	}
	d.wire = w
}

func (d *daemon) unplug() {
	if d.wire != nil {
		d.wire.close()
		d.wire = nil
	}
}

func (d *daemon) fail(err error) { d.trouble = trouble{err.Error(), time.Now()} }

// hear passes on what came in. A wire that went deaf is as good as a lost link
// until the next poll opens it again.
func (d *daemon) hear(now time.Time, h heard) {
	if h.err != nil {
		d.fail(h.err)
		d.unplug()
		h.event = dhcp4.Link{}
	}
	d.step(now, h.event)
}

// step lets something happen to the DHCP client and does what it asks for.
func (d *daemon) step(now time.Time, ev dhcp4.Event) {
	if d.client == nil {
		return
	}
	for _, a := range d.client.Step(now, ev) {
		if err := d.do(a); err != nil {
			d.fail(err)
		}
	}
	if s, _ := d.client.State(); s != dhcp4.Probing && d.wire != nil {
		d.wire.endProbe()
	}
}

func (d *daemon) do(a dhcp4.Action) error {
	switch a := a.(type) {
	case dhcp4.Broadcast:
		return d.wire.broadcast(a.Message.ToBytes())
	case dhcp4.Unicast:
		return d.wire.unicast(a.Message.ToBytes(), a.From, a.To)
	case dhcp4.Probe:
		return d.wire.probe(a.Address)
	case dhcp4.Publish:
		if d.want == nil || !same(*d.want, a.Lease.Lease) {
			d.log.Info("lease", "address", a.Lease.Address, "gateway", a.Lease.Gateway,
				"server", a.Lease.Server, "expires", a.Lease.Expires.Round(0))
		}
		if d.want != nil && d.want.Address != a.Lease.Address {
			d.steady = time.Time{}
		}
		d.want = &a.Lease.Lease
		d.trouble = trouble{}
	case dhcp4.Withdraw:
		d.log.Warn("no lease", "why", a.Why)
		d.want = nil
	case dhcp4.Remember:
		return d.files.writeSaved(a.Saved)
	}
	return nil
}

// same reports whether two leases differ in nothing but their times.
func same(a, b facts.Lease) bool {
	return a.Link == b.Link && a.Address == b.Address && a.Gateway == b.Gateway && a.MTU == b.MTU &&
		a.Server == b.Server && slices.Equal(a.Resolvers, b.Resolvers)
}

// settle makes the uplink file say what is in force. What fails is tried again at
// the next poll.
func (d *daemon) settle(now time.Time) {
	if !d.begun {
		return // whatever an earlier daemon left may well be right
	}
	switch {
	case d.want == nil || !d.link.up:
		d.steady = time.Time{}
	case d.steady.IsZero():
		d.steady = now
	}
	l := onWall(now, d.want)
	if l != nil {
		l.Since = stamp(now, d.steady)
	}
	if d.known && current(d.file, l) {
		return
	}
	if err := d.files.writeUplink(l); err != nil {
		d.fail(err)
		return
	}
	d.file, d.known = l, true
}

// onWall returns a lease with its times as the wall clock counts now. Inside the
// daemon they are kept by the monotonic clock, which nobody sets.
func onWall(now time.Time, l *facts.Lease) *facts.Lease {
	if l == nil {
		return nil
	}
	w := *l
	w.Obtained, w.Expires = stamp(now, l.Obtained), stamp(now, l.Expires)
	return &w
}

// stamp is a time as it is written into files: by the wall clock as it is now.
func stamp(now, t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(t.Sub(now)).Round(0).Truncate(time.Second).UTC()
}

// current reports whether the file's lease need not be written again.
func current(file, l *facts.Lease) bool {
	if file == nil || l == nil {
		return file == l
	}
	near := func(a, b time.Time) bool { return a.IsZero() == b.IsZero() && a.Sub(b).Abs() <= slew }
	return same(*file, *l) && near(file.Obtained, l.Obtained) && near(file.Expires, l.Expires) && near(file.Since, l.Since)
}
