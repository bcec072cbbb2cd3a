package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

func (a *app) showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show how the box is; or its zones, rules, leases, devices, isolated machines, drift",
		Long: `Show how the box is: what configuration is in force, or why the box is closed,
what is missing and what went wrong. The subcommands list the rest.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			return show(cmd.Context(), a, s, err, a.printStatus)
		},
	}
	cmd.AddCommand(
		listCommand(a, "zones", "List the zones", (*api.Client).Zones, a.printZones),
		listCommand(a, "rules", "List the rules, and what was refused", (*api.Client).Rules, a.printRules),
		a.leasesCommand(),
		listCommand(a, "devices", "List the inventory", (*api.Client).Devices, a.printDevices),
		listCommand(a, "isolated", "List the machines that are kept from everybody", (*api.Client).Isolated, a.printIsolated),
		listCommand(a, "drift", "List what others changed behind Bulkhead's back", (*api.Client).Drift, a.printDrift),
		a.showUpdateCommand(),
	)
	return cmd
}

func listCommand[T any](a *app, name, short string, ask func(*api.Client, context.Context) (T, error), print func(T) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: short + ".\n\n" + exitHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			v, err := ask(c, cmd.Context())
			return show(cmd.Context(), a, v, err, print)
		},
	}
}

// show prints an answer: for people with times as they are where the box stands, for
// programs with all times in UTC.
func show[T any](ctx context.Context, a *app, v T, err error, print func(T) error) error {
	switch {
	case err != nil:
		return err
	case a.json:
		for _, t := range times(v) {
			*t = t.UTC()
		}
		return a.printJSON(v)
	}
	a.location = a.boxTime(ctx, v)
	return print(v)
}

// times returns the times in an answer.
func times(v any) []*time.Time {
	var list []*time.Time
	switch v := v.(type) {
	case *api.Status:
		list = append(list, &v.Now, &v.Started)
		if v.Confirmed != nil {
			list = append(list, &v.Confirmed.Time)
		}
		if v.Next != nil {
			list = append(list, v.Next)
		}
		if v.Pending != nil {
			list = append(list, &v.Pending.Since, &v.Pending.Deadline)
		}
		if v.Last != nil {
			list = append(list, &v.Last.Time)
		}
		if v.Push != nil {
			list = append(list, &v.Push.Time, &v.Push.Failing)
		}
		if v.Repaired != nil {
			list = append(list, &v.Repaired.Time)
		}
		if v.Uplink != nil {
			list = append(list, &v.Uplink.Obtained, &v.Uplink.Expires)
		}
	case *api.Secrets:
		for i := range v.Secrets {
			list = append(list, &v.Secrets[i].Set, &v.Secrets[i].Rotated)
		}
		list = append(list, times(v.Recipients)...)
	case []api.Recipient:
		for i := range v {
			list = append(list, &v[i].Added)
		}
	case *api.Isolation:
		list = append(list, &v.Since, &v.Until)
	case []api.Isolation:
		for i := range v {
			list = append(list, times(&v[i])...)
		}
	case *api.Outcome:
		list = append(list, &v.Time)
	case *api.Rules:
		for i := range v.Rules {
			list = append(list, &v.Rules[i].Until)
		}
	case []api.Entry:
		for i := range v {
			list = append(list, &v[i].Time)
		}
	case *api.Entry:
		list = append(list, &v.Time)
	case []svcconf.Lease:
		for i := range v {
			list = append(list, &v[i].Granted, &v[i].Expires)
		}
	case *svcconf.LeaseHistory:
		for i := range v.Leases {
			list = append(list, &v.Leases[i].First, &v.Leases[i].Renewed, &v.Leases[i].Ends)
		}
	case []api.Drift:
		for i := range v {
			list = append(list, &v[i].Noticed, &v[i].Last, &v[i].Repaired)
		}
	case []inventory.Device:
		for i := range v {
			list = append(list, &v[i].First, &v[i].Last)
			for j := range v[i].Addresses {
				list = append(list, &v[i].Addresses[j].Last)
			}
			for j := range v[i].Talks {
				list = append(list, &v[i].Talks[j].Last)
			}
		}
	case []record.Event:
		for i := range v {
			list = append(list, &v[i].Time)
		}
	case []api.Device:
		for i := range v {
			if v[i].Lease != nil {
				list = append(list, v[i].Lease)
			}
		}
	}
	return list
}

// boxTime is the box's time zone, or this machine's if the box does not say.
func (a *app) boxTime(ctx context.Context, v any) *time.Location {
	s, ok := v.(*api.Status)
	if !ok && len(times(v)) > 0 {
		if c, err := a.client(ctx); err == nil {
			s, _ = c.Status(ctx) // what was asked for is there: show it in any case
		}
	}
	if s == nil || s.Timezone == "" {
		return a.location
	}
	loc, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return a.location
	}
	return loc
}

func (a *app) printStatus(s *api.Status) error {
	switch s.Mode {
	case api.Setup:
		fmt.Fprintf(a.out, "%s is in %s: nothing is forwarded\n  reason         %s\n", orDash(s.Name), a.paint(yellow, "SETUP"), s.Reason)
	case api.Closed:
		fmt.Fprintf(a.out, "%s is %s: nothing is forwarded, only admin zones reach the box\n  reason         %s\n",
			orDash(s.Name), a.paint(red, "CLOSED"), s.Reason)
	default:
		fmt.Fprintf(a.out, "%s is %s\n", s.Name, a.paint(green, string(s.Mode)))
	}
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.out, "  %-13s  %s\n", key, fmt.Sprintf(format, args...))
	}
	if c := s.Confirmed; c != nil {
		line("configuration", "number %d of %s%s", c.Number, a.when(c.Time), by(c))
	}
	if p := s.Pending; p != nil {
		line("pending", "%s", a.paint(yellow, fmt.Sprintf("a change by %s (%s), undone at %s, in %s, unless they confirm it", orDash(p.Author), p.Via, a.when(p.Deadline), p.Left)))
	}
	if o := s.Last; o != nil && o.End != api.EndConfirmed {
		line("last change", "by %s (%s) at %s: %s", orDash(o.Author), o.Via, a.when(o.Time), o)
	}
	switch u := s.Uplink; {
	case s.NoUplink:
		line("uplink", "no uplink in the configuration")
	case u == nil:
		line("uplink", "has no address")
	default:
		line("uplink", "%s at %s, gateway %s", u.Address, u.Link, u.Gateway)
	}
	if s.Next != nil {
		line("next end", "a rule ends at %s", a.when(*s.Next))
	}
	if len(s.Isolated) > 0 {
		line("isolated", "%s", a.paint(yellow, strings.Join(s.Isolated, ", ")))
	}
	if s.Cut > 0 {
		line("ended", "%s that no rule allowed any more", plural(int(s.Cut), "connection"))
	}
	if r := s.Repaired; r != nil {
		what := r.Found
		if len(what) == 0 {
			what = r.Steps
		}
		line("drift", "%s put right, last at %s: %s", plural(int(s.Repairs), "step"), a.when(r.Time), strings.Join(what, "; "))
	}
	if len(s.Untaken) > 0 {
		line("not taken", "%s", a.paint(yellow, strings.Join(s.Untaken, ", ")+": not running, or still without what is in force"))
	}
	if len(s.Overdue) > 0 {
		line("overdue", "%s", a.paint(yellow, strings.Join(s.Overdue, ", ")+": secrets that have had their value for more than a year; see: bulkhead secret rotate"))
	}
	for _, m := range s.Missing {
		line("missing", "%s", a.paint(yellow, m))
	}
	for _, t := range s.Troubles {
		line("trouble", "%s", a.paint(red, t))
	}
	if p := s.Push; p != nil {
		a.printPush(line, p)
	}
	for _, d := range s.Damage {
		line("damage", "%s", a.paint(red, d))
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(a.out, a.problem(w))
	}
	return nil
}

func (a *app) printPush(line func(key, format string, args ...any), p *api.Push) {
	switch {
	case p.Error != "":
		line("history", "%s", a.paint(red, fmt.Sprintf("not pushed to %s since %s: %s", p.To, a.when(p.Failing), p.Error)))
	case p.Head != "":
		line("history", "pushed to %s at %s", p.To, a.when(p.Time))
	default:
		line("history", "%s", a.paint(yellow, "not yet pushed to "+p.To))
	}
}

func by(c *api.Confirmed) string {
	s := ""
	if c.Author != "" {
		s += " by " + c.Author
	}
	if c.Via != "" {
		s += " (" + string(c.Via) + ")"
	}
	if c.Why != "" {
		s += ": " + c.Why
	}
	return s
}

func (a *app) printZones(zones []api.Zone) error {
	full := table{header: []string{"ZONE", "PORT", "SUBNET", "GATEWAY", "WITH", "DEVICES", "LEASES", "LINK"}}
	narrow := table{header: []string{"ZONE", "PORT", "SUBNET", "WITH", "LEASES", "LINK"}}
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
		subnet, has, leases := z.Subnet.String(), orDash(strings.Join(with, " ")), fmt.Sprint(z.Leases)
		full.rows = append(full.rows, []string{z.Name, port, subnet, z.Gateway.String(), has, fmt.Sprint(z.Devices), leases, link})
		narrow.rows = append(narrow.rows, []string{z.Name, port, subnet, has, leases, link})
	}
	return a.print(full, narrow)
}

func (a *app) printRules(r *api.Rules) error {
	full := table{header: []string{"KIND", "NAME", "FROM", "TO", "PROTOCOLS", "UNTIL", "OWNER", "WHY"}}
	narrow := table{header: []string{"KIND", "NAME", "FROM", "TO", "PROTOCOLS"}}
	for _, rule := range r.Rules {
		until := ""
		if !rule.Until.IsZero() {
			until = a.lastDay(rule.Until)
		}
		why := rule.Why
		if rule.Expired {
			why = a.paint(yellow, "over:") + " " + why
		}
		row := []string{rule.Kind, rule.Name, list(rule.From), list(rule.To), list(rule.Protocols)}
		full.rows = append(full.rows, append(row[:len(row):len(row)], orDash(until), orDash(rule.Owner), why))
		narrow.rows = append(narrow.rows, row)
		narrow.below = append(narrow.below, below(why, prefixed("until", until), prefixed("owner", rule.Owner)))
	}
	if err := a.print(full, narrow); err != nil {
		return err
	}
	var rows [][]string
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
	return a.print(table{header: []string{"FROM", "TO", "PACKETS", "BYTES"}, rows: rows})
}

func (a *app) printDevices(devices []api.Device) error {
	full := table{header: []string{"DEVICE", "ZONE", "ADDRESS", "MAC", "LEASE", "OWNER", "PURPOSE"}}
	narrow := table{header: []string{"DEVICE", "ZONE", "ADDRESS", "MAC", "LEASE"}}
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
			purpose = strings.TrimSpace(purpose + " (critical)")
		}
		row := []string{d.Name, d.Zone, address, d.MAC.String(), lease}
		full.rows = append(full.rows, append(row[:len(row):len(row)], orDash(d.Owner), orDash(purpose)))
		narrow.rows = append(narrow.rows, row)
		narrow.below = append(narrow.below, below(purpose, prefixed("owner", d.Owner)))
	}
	return a.print(full, narrow)
}
