package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
)

func (a *app) showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show how the box is; or its zones, rules, leases, devices",
		Long: `Show how the box is: what configuration is in force, or why the box is closed,
what is missing and what went wrong. The subcommands list the rest.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.client().Status(cmd.Context())
			return show(a, s, err, a.printStatus)
		},
	}
	cmd.AddCommand(
		listCommand(a, "zones", "List the zones", (*api.Client).Zones, a.printZones),
		listCommand(a, "rules", "List the rules, and what was refused", (*api.Client).Rules, a.printRules),
		listCommand(a, "leases", "List the addresses given to clients", (*api.Client).Leases, a.printLeases),
		listCommand(a, "devices", "List the inventory", (*api.Client).Devices, a.printDevices),
	)
	return cmd
}

func listCommand[T any](a *app, name, short string, ask func(*api.Client, context.Context) (T, error), print func(T) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: short + ".\n\n" + exitHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := ask(a.client(), cmd.Context())
			return show(a, v, err, print)
		},
	}
}

func show[T any](a *app, v T, err error, print func(T) error) error {
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(v)
	}
	return print(v)
}

func (a *app) printStatus(s *api.Status) error {
	if s.Mode == api.Closed {
		fmt.Fprintf(a.out, "%s is %s: nothing is forwarded, only admin zones reach the box\n  reason         %s\n",
			orDash(s.Name), a.paint(red, "CLOSED"), s.Reason)
	} else {
		fmt.Fprintf(a.out, "%s is %s\n", s.Name, a.paint(green, string(s.Mode)))
	}
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.out, "  %-13s  %s\n", key, fmt.Sprintf(format, args...))
	}
	if c := s.Confirmed; c != nil {
		line("configuration", "number %d of %s%s", c.Number, a.when(c.Time), by(c))
	}
	switch u := s.Uplink; {
	case u == nil:
		line("uplink", "has no address")
	default:
		line("uplink", "%s at %s, gateway %s", u.Address, u.Link, u.Gateway)
	}
	if s.Next != nil {
		line("next end", "a rule ends at %s", a.when(*s.Next))
	}
	if s.Cut > 0 {
		line("ended", "%s that no rule allowed any more", plural(int(s.Cut), "connection"))
	}
	if r := s.Repaired; r != nil {
		line("drift", "%s put right, last at %s: %s", plural(int(s.Repairs), "step"), a.when(r.Time), strings.Join(r.Steps, "; "))
	}
	for _, m := range s.Missing {
		line("missing", "%s", a.paint(yellow, m))
	}
	for _, t := range s.Troubles {
		line("trouble", "%s", a.paint(red, t))
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(a.out, a.problem(w))
	}
	return nil
}

func by(c *api.Confirmed) string {
	s := ""
	if c.Author != "" {
		s += " by " + c.Author
	}
	if c.Why != "" {
		s += ": " + c.Why
	}
	return s
}

func (a *app) printZones(zones []api.Zone) error {
	var rows [][]string
	for _, z := range zones {
		port := z.Port
		if z.VLAN != 0 {
			port += fmt.Sprintf(" vlan %d", z.VLAN)
		}
		var with []string
		for _, f := range []struct {
			on   bool
			name string
		}{{z.Admin, "admin"}, {z.DHCP, "dhcp"}, {z.DNS, "dns"}} {
			if f.on {
				with = append(with, f.name)
			}
		}
		link := a.paint(red, "missing")
		if z.Link != "" {
			link = z.Link
		}
		rows = append(rows, []string{z.Name, port, z.Subnet.String(), z.Gateway.String(), orDash(strings.Join(with, " ")),
			fmt.Sprint(z.Devices), fmt.Sprint(z.Leases), link})
	}
	return a.table([]string{"ZONE", "PORT", "SUBNET", "GATEWAY", "WITH", "DEVICES", "LEASES", "LINK"}, rows)
}

func (a *app) printRules(r *api.Rules) error {
	var rows [][]string
	for _, rule := range r.Rules {
		until := "-"
		if !rule.Until.IsZero() {
			until = a.lastDay(rule.Until)
		}
		why := rule.Why
		if rule.Expired {
			why = a.paint(yellow, "over: ") + why
		}
		rows = append(rows, []string{rule.Kind, rule.Name, list(rule.From), list(rule.To), list(rule.Protocols), until, orDash(rule.Owner), why})
	}
	if err := a.table([]string{"KIND", "NAME", "FROM", "TO", "PROTOCOLS", "UNTIL", "OWNER", "WHY"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, c := range r.Refused {
		if c.Packets > 0 {
			from, to, _ := strings.Cut(c.Name, "_")
			rows = append(rows, []string{from, orDash(to), fmt.Sprint(c.Packets), fmt.Sprint(c.Bytes)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.out, "\nRefused so far:")
	return a.table([]string{"FROM", "TO", "PACKETS", "BYTES"}, rows)
}

func list(names []string) string { return strings.Join(names, ",") }

func (a *app) printLeases(leases []svcconf.Lease) error {
	var rows [][]string
	for _, l := range leases {
		rows = append(rows, []string{
			l.Address.String(), l.Zone, l.MAC.String(), orDash(l.Hostname), orDash(l.Device), a.remaining(l.Expires),
		})
	}
	return a.table([]string{"ADDRESS", "ZONE", "MAC", "NAME", "DEVICE", "LEFT"}, rows)
}

func (a *app) printDevices(devices []api.Device) error {
	var rows [][]string
	for _, d := range devices {
		address := "-"
		if d.Address.IsValid() {
			address = d.Address.String()
		}
		if d.Given {
			address += " (given)"
		}
		lease := "-"
		if d.Lease != nil {
			lease = a.remaining(*d.Lease)
		}
		purpose := d.Purpose
		if d.Critical {
			purpose += " (critical)"
		}
		rows = append(rows, []string{d.Name, d.Zone, address, d.MAC.String(), lease, orDash(d.Owner), orDash(strings.TrimSpace(purpose))})
	}
	return a.table([]string{"DEVICE", "ZONE", "ADDRESS", "MAC", "LEASE", "OWNER", "PURPOSE"}, rows)
}
