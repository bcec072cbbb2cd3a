package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
)

// noPort stands for a port that the box does not have.
const noPort = "none"

// choosePorts says which MAC each port of a backup's configuration has on the box: as
// flags say, as it was if the box is the same, and else as who sits there says.
func (a *app) choosePorts(ctx context.Context, c *api.Client, in *bufio.Reader, b *opened, flags []string) (map[string]model.MAC, error) {
	said, err := portFlags(b.cfg, flags)
	if err != nil {
		return nil, err
	}
	ports, err := c.Ports(ctx)
	if err != nil {
		return nil, err
	}
	w := &wiring{macs: map[string]model.MAC{}, by: map[model.MAC]string{}}
	var open []*model.Port
	for _, p := range b.cfg.Ports {
		word, ok := said[p.Name]
		switch {
		case !ok && !slices.ContainsFunc(ports, func(o api.Port) bool { return o.MAC == p.MAC }):
			open = append(open, p)
			continue
		case !ok:
			word = p.MAC.String()
		}
		if err := w.set(p.Name, word, ports); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	if len(open) > 0 && (!a.asks || a.json) {
		var names []string
		for _, p := range open {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("%w: say which ports %s are, with --port NAME=PORT; the box has %s", errUsage, strings.Join(names, ", "), portList(ports))
	}
	for i, p := range open {
		if i == 0 {
			fmt.Fprintln(a.out, "\nThis box has other ports. Plug a cable into one, or pull it out, and press Enter to see which it is.")
			if err := a.printPorts(ports, slices.Collect(maps.Keys(w.by))...); err != nil {
				return nil, err
			}
		}
		if ports, err = a.askPort(ctx, c, in, b, p, ports, w); err != nil {
			return nil, err
		}
	}
	return w.macs, nil
}

// portFlags reads what --port says: the port's name, and what it is.
func portFlags(cfg *model.Config, flags []string) (map[string]string, error) {
	said := map[string]string{}
	for _, f := range flags {
		name, port, ok := strings.Cut(f, "=")
		known := slices.ContainsFunc(cfg.Ports, func(p *model.Port) bool { return p.Name == name })
		switch {
		case !ok || port == "":
			return nil, fmt.Errorf("%w: --port %s: want NAME=PORT, such as lan=eth1", errUsage, f)
		case !known:
			return nil, fmt.Errorf("%w: --port %s: the configuration in the backup has no port %q", errUsage, f, name)
		case said[name] != "":
			return nil, fmt.Errorf("%w: --port says twice what %s is", errUsage, name)
		}
		said[name] = port
	}
	return said, nil
}

// wiring is what has been decided.
type wiring struct {
	macs map[string]model.MAC
	by   map[model.MAC]string
}

// set decides what a port is: a name or MAC of a port of the box, or none.
func (w *wiring) set(name, word string, ports []api.Port) error {
	if word == noPort {
		return nil
	}
	mac, _ := model.ParseMAC(strings.ToLower(word)) // or it is a name
	i := slices.IndexFunc(ports, func(p api.Port) bool { return p.Name == word || !mac.IsZero() && p.MAC == mac })
	if i < 0 {
		return fmt.Errorf("the box has no port %q; it has %s", word, portList(ports))
	}
	if other := w.by[ports[i].MAC]; other != "" {
		return fmt.Errorf("port %s is %s already", ports[i].Name, other)
	}
	w.macs[name], w.by[ports[i].MAC] = ports[i].MAC, name
	return nil
}

// askPort asks which port of the box one of the configuration is, and looks again as
// often as somebody wants to. It returns the ports as they were last.
func (a *app) askPort(ctx context.Context, c *api.Client, in *bufio.Reader, b *opened, p *model.Port, ports []api.Port, w *wiring) ([]api.Port, error) {
	was := p.MAC.String()
	for _, o := range b.Ports {
		if o.MAC == p.MAC {
			was = o.Name + ", " + was
		}
	}
	for {
		word, err := a.ask(in, fmt.Sprintf("Which is %s? It was %s on %s. [name, MAC, %s, or Enter to look again] ", p.Name, was, b.Box, noPort))
		if err != nil {
			return nil, err
		}
		if word != "" {
			err := w.set(p.Name, word, ports)
			if err == nil {
				return ports, nil
			}
			fmt.Fprintln(a.out, err)
			continue
		}
		if ports, err = c.Ports(ctx); err != nil {
			return nil, err
		}
		if err := a.printPorts(ports, slices.Collect(maps.Keys(w.by))...); err != nil {
			return nil, err
		}
	}
}

// printPorts shows the ports of the box, but those that are decided on.
func (a *app) printPorts(ports []api.Port, but ...model.MAC) error {
	t := table{header: []string{"PORT", "MAC", "DRIVER", "CABLE"}}
	for _, p := range ports {
		if slices.Contains(but, p.MAC) {
			continue
		}
		cable := "-"
		if p.Carrier {
			cable = a.paint(green, "yes")
		}
		t.rows = append(t.rows, []string{p.Name, p.MAC.String(), orDash(p.Driver), cable})
	}
	return a.print(t)
}

func portList(ports []api.Port) string {
	var list []string
	for _, p := range ports {
		cable := ""
		if p.Carrier {
			cable = ", with a cable"
		}
		list = append(list, fmt.Sprintf("%s (%s%s)", p.Name, p.MAC, cable))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}
