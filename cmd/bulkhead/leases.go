package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
)

// leasesCommand is there on its own and below show.
func (a *app) leasesCommand() *cobra.Command {
	var history bool
	cmd := &cobra.Command{
		Use:   "leases [--history [DEVICE]]",
		Short: "List the addresses given to clients, now or in the past",
		Long: `List the addresses that are given to clients; or with --history those that they had: the
last 16 leases of a device, which is named as in the configuration or by its MAC, or the
last 1,000 of all devices.

What a device calls itself is its own choice, and in quotes.

` + exitHelp,
		Example: "  bulkhead leases --history tv",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && !history {
				return fmt.Errorf("%w: a device has a list of its own with --history only", errUsage)
			}
			return a.leases(cmd.Context(), history, strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "those of the past as well")
	return cmd
}

func (a *app) leases(ctx context.Context, history bool, device string) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	if !history {
		v, err := c.Leases(ctx)
		return show(ctx, a, v, err, a.printLeases)
	}
	v, err := c.LeaseHistory(ctx, device)
	return show(ctx, a, v, err, func(h *svcconf.LeaseHistory) error {
		devices, _ := c.Devices(ctx) // without the names, MACs say who it was
		return a.printPast(h, devices)
	})
}

func (a *app) printLeases(leases []svcconf.Lease) error {
	var rows [][]string
	for _, l := range leases {
		rows = append(rows, []string{
			l.Address.String(), l.Zone, l.MAC.String(), orDash(l.Hostname), orDash(l.Device), a.remaining(l.Expires),
		})
	}
	return a.print(table{header: []string{"ADDRESS", "ZONE", "MAC", "NAME", "DEVICE", "LEFT"}, rows: rows})
}

func (a *app) printPast(h *svcconf.LeaseHistory, devices []api.Device) error {
	if len(h.Leases) == 0 {
		_, err := fmt.Fprintln(a.out, "No lease is remembered.")
		return err
	}
	full := table{header: []string{"ADDRESS", "ZONE", "MAC", "NAME", "DEVICE", "GIVEN", "RENEWED", "UNTIL"}}
	narrow := table{header: []string{"ADDRESS", "DEVICE", "GIVEN", "UNTIL"}}
	for _, l := range h.Leases {
		device, who := "-", l.MAC.String()
		for _, d := range devices {
			if d.MAC == l.MAC {
				device, who = d.Name, d.Name
			}
		}
		name := "-"
		if l.Hostname != "" {
			name = fmt.Sprintf("%q", l.Hostname)
		}
		given, renewed, until := a.when(l.First), "-", a.when(l.Ends)
		if l.Renewed.After(l.First) {
			renewed = a.when(l.Renewed)
		}
		if l.Ends.After(a.now()) {
			until = a.paint(green, "in force")
		}
		full.rows = append(full.rows, []string{l.Address.String(), orDash(l.Zone), l.MAC.String(), name, device, given, renewed, until})
		narrow.rows = append(narrow.rows, []string{l.Address.String(), who, given, until})
	}
	if err := a.print(full, narrow); err != nil || h.Older == 0 {
		return err
	}
	_, err := fmt.Fprintf(a.out, "And %s before those: name a device to see its own.\n", plural(h.Older, "lease"))
	return err
}
