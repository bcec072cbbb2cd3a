package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/services/flow/inventory"
)

func (a *app) devicesCommand() *cobra.Command {
	var onlyNew, known bool
	var zone string
	cmd := &cobra.Command{
		Use:   "devices [DEVICE]",
		Short: "List the devices that were seen; or all about one of them",
		Long: `List the devices that were seen in the zones, in the configuration or not, or tell all
there is to know about one: DEVICE is its name, its MAC, an address or what it calls
itself.

What a device calls itself is its own choice, and in quotes. A MAC that is made up is
another every day for some devices. "bulkhead show devices" lists the ones of the file.

` + exitHelp,
		Example: "  bulkhead devices --new\n  bulkhead devices 52:54:00:40:00:12",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if onlyNew && known {
				return fmt.Errorf("%w: --new and --known leave nothing", errUsage)
			}
			query := make(url.Values)
			if zone != "" {
				query.Set("zone", zone)
			}
			if onlyNew || known {
				query.Set("known", fmt.Sprint(known))
			}
			if len(args) == 1 {
				query.Set("device", args[0])
			}
			return a.devices(cmd.Context(), query)
		},
	}
	cmd.Flags().BoolVar(&onlyNew, "new", false, "only those that are not in the configuration")
	cmd.Flags().BoolVar(&known, "known", false, "only those that are")
	cmd.Flags().StringVar(&zone, "zone", "", "only those that were seen last in a `zone`")
	return cmd
}

func (a *app) devices(ctx context.Context, query url.Values) error {
	var list []inventory.Device
	err := a.askFlowd(ctx, "/v1/devices/seen", query, &list)
	one := query.Get("device")
	if err == nil && one != "" && len(list) == 0 {
		return api.Unknown(fmt.Errorf("no device was seen that is called %q, or has that MAC or address", one))
	}
	return show(ctx, a, list, err, func(list []inventory.Device) error {
		if one == "" {
			return a.printSeen(list)
		}
		for i := range list {
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			a.printDevice(&list[i])
		}
		return nil
	})
}

func (a *app) printSeen(list []inventory.Device) error {
	full := table{header: []string{"DEVICE", "KNOWN", "ZONE", "ADDRESS", "MAC", "MAKER", "FIRST", "LAST"}}
	narrow := table{header: []string{"DEVICE", "KNOWN", "ZONE", "ADDRESS", "LAST"}}
	for i := range list {
		d := &list[i]
		known := "yes"
		if !d.Known {
			known = a.paint(yellow, "no")
		}
		address, last := "-", a.ago(d.Last)
		if len(d.Addresses) > 0 {
			address = d.Addresses[0].Address.String()
		}
		full.rows = append(full.rows, []string{title(d), known, d.Zone, address, d.MAC.String(), maker(d), a.ago(d.First), last})
		narrow.rows = append(narrow.rows, []string{title(d), known, d.Zone, address, last})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.out, "No device was seen.")
		return err
	}
	return a.print(full, narrow)
}

// title is what a device is called, in quotes if it calls itself so.
func title(d *inventory.Device) string {
	if d.Name == "" && len(d.Hostnames) > 0 {
		return fmt.Sprintf("%q", d.Hostnames[0])
	}
	return d.Title()
}

func maker(d *inventory.Device) string {
	if d.Randomised {
		return "(made up)"
	}
	return orDash(d.Vendor)
}

func (a *app) printDevice(d *inventory.Device) {
	fmt.Fprintln(a.out, title(d))
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.out, "  %-12s  %s\n", key, fmt.Sprintf(format, args...))
	}
	switch {
	case d.Critical:
		line("known", "in the configuration, critical")
	case d.Known:
		line("known", "in the configuration")
	default:
		line("known", "%s", a.paint(yellow, "not in the configuration"))
	}
	line("zone", "%s", d.Zone)
	line("MAC", "%s, %s", d.MAC, maker(d))
	line("seen", "%s to %s", a.when(d.First), a.when(d.Last))
	for i, u := range d.Addresses {
		line(first(i, "address"), "%s, last at %s", u.Address, a.when(u.Last))
	}
	for i, name := range d.Hostnames {
		line(first(i, "calls itself"), "%q", name)
	}
	if f := d.Fingerprint; f.Options != "" {
		line("asks for", "DHCP options %s", f.Options)
	}
	if f := d.Fingerprint; f.Class != "" {
		line("class", "%q", f.Class)
	}
	switch {
	case d.Varied:
		line("habits", "too many to tell what is new")
	case d.Learning:
		line("habits", "being learnt, for a week")
	default:
		line("habits", "learnt: what is new is an event")
	}
	if len(d.Talks) == 0 {
		return
	}
	t := table{header: []string{"SPEAKS WITH", "ZONE", "SERVICE", "CONNECTIONS", "BYTES", "LAST"}}
	for _, k := range d.Talks {
		service := k.Service
		if k.App != "" {
			service = fmt.Sprintf("%s (%s)", k.App, k.Service)
		}
		t.rows = append(t.rows, []string{k.Peer, k.Zone, service, fmt.Sprint(k.Connections), fmt.Sprint(k.Bytes), a.ago(k.Last)})
	}
	fmt.Fprintln(a.out)
	_ = a.print(t) // to a terminal that may be gone
}

// first is a key for the first of several lines, and nothing for the others.
func first(i int, key string) string {
	if i > 0 {
		return ""
	}
	return key
}

// ago says how long ago something was.
func (a *app) ago(t time.Time) string {
	d := a.now().Sub(t)
	if d < time.Minute {
		return "now"
	}
	return a.remaining(a.now().Add(d)) + " ago"
}
