//go:build linux

// Package lab is a small world in network namespaces: a gateway made of the real
// daemons, a pretended internet, and a client in every zone that gets its address
// by a real DHCP client. It measures with real packets what reaches what, and holds
// that against the policy.
//
// It needs root and never touches a link, rule or file of the machine it runs on,
// apart from one directory below /run that it removes.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// daemons of the gateway.
var daemons = []string{"netcfgd", "wand", "dhcpd", "dnsd", "flowd", "authd", "webuid"}

// runDir is where the daemons meet. It is the default of all of them, so that
// programs run with lab exec need no flags; it is inside the world.
const runDir = "/run/bulkhead"

// Options says what lab to build.
type Options struct {
	File    string   // configuration
	Bin     string   // directory of the daemons' programs
	Printer *Printer // nil: silence
	Spare   []uint16 // VLANs beside those of the file, see [Lab.Spare]
	Empty   bool     // nobody lives in the zones
}

// runningLab is what a started lab owns.
type runningLab struct {
	Daemons map[string]*Daemon
	Box     *Box // the gateway, if it is a virtual machine
	API     api.Backend
	file    api.File

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Start builds a lab, starts everything in it, applies the configuration and
// returns when the gateway has its uplink and every client its address. The error
// holds the last lines of the daemons' logs.
func Start(ctx context.Context, w *World, o Options) (_ *Lab, err error) {
	if o.Printer == nil {
		o.Printer = &Printer{W: io.Discard}
	}
	data, err := os.ReadFile(o.File)
	if err != nil {
		return nil, err
	}
	l := &Lab{World: w}
	if err := l.Adopt(api.File{Name: o.File, Data: data}); err != nil {
		return nil, err
	}
	l.Daemons = make(map[string]*Daemon)
	l.API = api.NewClient(filepath.Join(runDir, api.SocketFile))
	l.spares(o.Spare)
	if !o.Empty {
		l.Clients = population(l.Config)
	}
	inner := l.live(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.logs(), l.Close())
		}
	}()
	if err := l.build(); err != nil {
		return nil, err
	}
	if err := w.register(); err != nil {
		return nil, err
	}
	o.Printer.Event("%s", l.describe())
	if err := l.run(inner, o.Bin); err != nil {
		return nil, err
	}
	return l, l.settle(ctx, o.Printer)
}

// live returns the context of what the lab runs until it is closed.
func (l *Lab) live(ctx context.Context) context.Context {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	return inner
}

// Adopt makes a configuration the lab's: the one that the box has in force.
func (l *Lab) Adopt(f api.File) error {
	cfg, problems := conf.Parse(f.Name, f.Data, time.Now())
	if cfg == nil {
		return problems.Err()
	}
	l.Config, l.file = cfg, f
	for _, c := range l.Clients {
		c.Zone = cfg.Zone(c.Zone.Name)
		if c.Device != nil {
			c.Device = cfg.Device(c.Device.Name)
		}
	}
	return nil
}

func (l *Lab) describe() string {
	how := "one link for each VLAN: this kernel has no 802.1Q"
	if l.Tagged {
		how = "on a trunk with tags"
	} else if len(l.provided) == 0 {
		how = "on whole ports"
	}
	return fmt.Sprintf("%d zones (%s), %d clients", len(l.Config.Zones), how, len(l.Clients))
}

// run starts the internet, the daemons (all at once, in no order, as gokrazy does)
// and the clients.
func (l *Lab) run(ctx context.Context, bin string) error {
	if err := l.startInternet(ctx); err != nil {
		return err
	}
	perm := filepath.Join(l.World.Dir, "perm")
	if err := errors.Join(os.RemoveAll(perm), os.Mkdir(perm, 0o755)); err != nil { // of a lab before
		return err
	}
	provided, err := l.writeProvided(l.World.Dir)
	if err != nil {
		return err
	}
	for _, i := range rand.Perm(len(daemons)) {
		args := []string{"-run", runDir, "-state", perm}
		if daemons[i] == "netcfgd" {
			args = append(args, "-provided", provided)
		}
		d, done, err := l.supervise(ctx, l.Gateway, filepath.Join(bin, daemons[i]), args...)
		if err != nil {
			return err
		}
		l.Daemons[d.Name] = d
		l.wg.Go(func() { <-done })
	}
	return l.startClients(ctx)
}

func (l *Lab) startInternet(ctx context.Context) error {
	wait, err := l.serveInternet(ctx)
	if err == nil {
		l.wg.Go(wait)
	}
	return err
}

// startClients starts the clients' DHCP clients.
func (l *Lab) startClients(ctx context.Context) error {
	for _, c := range l.Clients {
		if c.Program == "" {
			continue
		}
		done, err := l.dhcp(ctx, c)
		if err != nil {
			return err
		}
		l.wg.Go(func() { <-done })
	}
	return nil
}

// settle applies the configuration and waits for what follows from it.
func (l *Lab) settle(ctx context.Context, p *Printer) error {
	p.Event("gateway started: %s", strings.Join(daemons, ", "))
	if err := l.Apply(ctx, l.file, "the lab"); err != nil {
		return err
	}
	p.Event("applied %s", filepath.Base(l.file.Name))
	return l.awaitAddresses(ctx, p)
}

// awaitAddresses returns when every client has its address and the box its uplink's.
func (l *Lab) awaitAddresses(ctx context.Context, p *Printer) error {
	type got struct {
		c   *Client
		err error
	}
	arrivals := make(chan got, len(l.Clients))
	waiting := 0
	for _, c := range l.Clients {
		if c.Program == "" {
			p.client(c)
			continue
		}
		waiting++
		go func() {
			var err error
			c.Addr, err = c.awaitAddress(ctx)
			arrivals <- got{c, err}
		}()
	}
	lease := make(chan error, 1)
	go func() { lease <- l.awaitUplink(ctx) }()
	uplink := lease
	for waiting > 0 || uplink != nil {
		select {
		case g := <-arrivals:
			waiting--
			if g.err != nil {
				return g.err
			}
			p.client(g.c)
		case err := <-uplink:
			uplink = nil
			if err != nil {
				return err
			}
			if l.Uplink.IsValid() {
				p.Event("%-15s %-15s %-12s by wand", "the box", l.Uplink.Addr(), model.Internet)
			}
		}
	}
	return nil
}

// Apply puts a configuration in force, confirms it, and makes it the lab's.
func (l *Lab) Apply(ctx context.Context, f api.File, why string) error {
	for {
		_, err := api.Keep(ctx, l.API, api.Change{File: f, Author: "lab", Why: why})
		switch {
		case err == nil:
			return l.Adopt(f)
		case !errors.Is(err, api.ErrUnreachable):
			return fmt.Errorf("apply %s: %w", f.Name, err)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("netcfgd does not come up: %w", err)
		}
	}
}

// pause waits before something that cannot be waited for is looked at again.
func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitUplink returns when the box has an address on its uplink.
func (l *Lab) awaitUplink(ctx context.Context) error {
	u := l.Config.Uplink
	if u == nil || u.IPv4.Mode == model.ModeNone {
		return nil
	}
	for {
		s, err := l.API.Status(ctx)
		if err != nil && !errors.Is(err, api.ErrUnreachable) {
			return err
		}
		if err == nil && s.Uplink != nil && len(s.Troubles) == 0 {
			l.Uplink = s.Uplink.Address
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("no uplink address: %w", err)
		}
	}
}

// Policy returns what the configuration in force means with what the box knows.
func (l *Lab) Policy(ctx context.Context) (*policy.Policy, error) {
	s, err := l.API.Status(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := l.API.Devices(ctx)
	if err != nil {
		return nil, err
	}
	f := facts.Facts{Now: s.Now, Uplink: s.Uplink, Devices: make(map[string]netip.Addr)}
	for _, d := range devices {
		if d.Given {
			f.Devices[d.Name] = d.Address
		}
	}
	return compile.Compile(l.Config, f).Policy, nil
}

// logs returns an error that says what the daemons wrote last.
func (l *Lab) logs() error {
	var errs []error
	if l.Box != nil && l.Box.Machine != nil {
		errs = append(errs, fmt.Errorf("last lines of the box's console:\n%s", l.Box.Tail(30)))
	}
	for _, d := range l.Daemons {
		if text := d.Log(6); text != "" {
			errs = append(errs, fmt.Errorf("last lines of %s:\n%s", d.Name, text))
		}
	}
	return errors.Join(errs...)
}

// Close ends all programs of the lab, waits for them and removes its hosts, so that
// another lab can be built in the same world. The error names daemons that did not
// end when they were asked to, with the last lines of their logs.
func (l *Lab) Close() error {
	var errs []error
	if l.cancel != nil {
		l.cancel()
		l.wg.Wait()
	}
	if l.Box != nil {
		errs = append(errs, l.Box.close())
	}
	if l.panel != nil {
		errs = append(errs, l.panel.close())
	}
	for _, d := range l.Daemons {
		if d.Stubborn() {
			errs = append(errs, fmt.Errorf("%s did not end within %v of SIGTERM:\n%s", d.Name, grace, d.Log(200)))
		}
	}
	for _, h := range l.hosts() {
		l.World.Remove(h)
	}
	_ = os.RemoveAll(runDir) // the world's, and gone with it anyway
	return errors.Join(errs...)
}

func (l *Lab) hosts() []*Host {
	list := []*Host{l.sw, l.Gateway, l.Internet, l.Outside, l.Far}
	for _, c := range l.Clients {
		list = append(list, c.Host)
	}
	return slices.DeleteFunc(list, func(h *Host) bool { return h == nil || h.net == nil })
}
