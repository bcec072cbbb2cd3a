//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"bulkhead/netcfg/api"
)

// VMOptions says what lab with a virtual machine to build.
type VMOptions struct {
	File    string // configuration
	Bin     string // directory of the programs
	Image   string // of the box's disk
	Arch    string // of the image, "amd64" or "arm64"; "": this machine's
	Memory  int    // of the box, MiB; 0: 256
	Printer *Printer
}

// StartVM builds a lab whose gateway is the image in a virtual machine, with its VLANs
// on a trunk, and returns when it has been claimed, has its configuration and its
// uplink, and every client has its address. The error holds the last lines of the
// box's console.
func StartVM(ctx context.Context, w *World, o VMOptions) (_ *Lab, err error) {
	if o.Printer == nil {
		o.Printer = &Printer{W: io.Discard}
	}
	o.Arch = cmp.Or(o.Arch, runtime.GOARCH)
	data, err := os.ReadFile(o.File)
	if err != nil {
		return nil, err
	}
	l := &Lab{World: w}
	if err := l.Adopt(api.File{Name: o.File, Data: data}); err != nil {
		return nil, err
	}
	l.Tagged, l.Clients = true, population(l.Config)
	inner := l.live(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.logs(), l.Close())
		}
	}()
	if err := l.buildAround(); err != nil {
		return nil, err
	}
	if err := w.register(); err != nil {
		return nil, err
	}
	o.Printer.Event("%s", l.describe())
	if err := l.startInternet(inner); err != nil {
		return nil, err
	}
	if err := l.newBox(ctx, o); err != nil {
		return nil, err
	}
	if err := l.claim(ctx, inner, o); err != nil {
		return nil, err
	}
	if err := l.awaitAddresses(ctx, o.Printer); err != nil {
		return nil, err
	}
	return l, l.awaitNames(ctx)
}

// buildAround makes all hosts but the gateway, and plugs them into the panel.
func (l *Lab) buildAround() error {
	var err error
	if l.panel, err = newPanel(l.Config); err != nil {
		return err
	}
	if err := l.makeHosts(); err != nil {
		return err
	}
	if err := l.wireInternet(); err != nil {
		return err
	}
	for _, c := range l.Clients {
		if err := l.plugIn(c); err != nil {
			return err
		}
	}
	return nil
}

// awaitNames returns when the box has told a client in every zone with DNS its own
// name.
func (l *Lab) awaitNames(ctx context.Context) error {
	done := make(map[string]bool)
	for _, c := range l.Clients {
		if done[c.Zone.Name] || !c.Zone.DNS.Enabled {
			continue
		}
		done[c.Zone.Name] = true
		name := l.Config.System.Name + "." + l.Config.System.Domain
		for {
			out, err := c.Output("dig", "+short", "+tries=1", "+time=1", "@"+c.Zone.Gateway.String(), name)
			if err == nil && strings.TrimSpace(out) == c.Zone.Gateway.String() {
				break
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("no DNS in %s: dig says %q: %w", c.Zone.Name, out, err)
			}
		}
	}
	return nil
}
