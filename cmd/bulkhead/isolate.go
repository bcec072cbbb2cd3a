package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

const machineHelp = `MACHINE is the name of a device, a MAC, or an address in one of the zones. It is
known by its MAC then, if the box has seen that, and another address does not help it.`

func (a *app) isolateCommand() *cobra.Command {
	in := api.Isolate{Via: api.ViaCLI}
	var until string
	cmd := &cobra.Command{
		Use:   "isolate MACHINE",
		Short: "Keep a machine from everybody, at once",
		Long: `Keep a machine from everybody, at once and without confirmation: it reaches nothing
but the box's DHCP server and a page that says so, nobody reaches it, and its open
connections end. It stays so over restarts and other changes, until WHEN or until it is
released. Within its zone the box is not in the path.

Whatever name the machine asks for is the box's, and whatever page it opens over HTTP is
the one that says so. Over HTTPS it finds nobody: no certificate is good for every name.
What it tries is recorded: questions for names and pages as allowed by box:isolated, which
answers them here, and all else as refused.

` + machineHelp + `

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Machine = args[0]
			return a.isolate(cmd.Context(), in, until)
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "`when` it ends: a time of the box such as 18:00, \"2027-03-31 18:00\" or 2027-03-31, the end of that day; or in how long, such as 2h")
	cmd.Flags().StringVar(&in.Author, "author", author(), "who wants it, for the history; with --box it is who claimed the box")
	cmd.Flags().StringVarP(&in.Why, "why", "m", "", "why, for the history")
	cmd.Flags().BoolVar(&in.AcceptLockout, "accept-lockout", false, "at the box itself: go on, once you have agreed, although nobody may reach the box over the network afterwards")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	in := api.Release{Via: api.ViaCLI}
	cmd := &cobra.Command{
		Use:   "release MACHINE",
		Short: "Isolate a machine no longer",
		Long: `Isolate a machine no longer: what it may do is up to the configuration again.

` + machineHelp + `

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Machine = args[0]
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			i, err := c.Release(cmd.Context(), in)
			return show(cmd.Context(), a, i, err, func(i *api.Isolation) error {
				fmt.Fprintf(a.out, "%s is free. It was isolated since %s.\n", machineOf(i), a.when(i.Since))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&in.Author, "author", author(), "who wants it, for the history; with --box it is who claimed the box")
	cmd.Flags().StringVarP(&in.Why, "why", "m", "", "why, for the history")
	return cmd
}

func (a *app) isolate(ctx context.Context, in api.Isolate, until string) error {
	if in.AcceptLockout && (a.box != "" || !a.asks) {
		return fmt.Errorf("%w: --accept-lockout is for somebody who sits at the box and agrees to it by hand", errUsage)
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	if until != "" {
		if in.Until, err = a.time(ctx, until); err != nil {
			return err
		}
	}
	accept := in.AcceptLockout
	in.AcceptLockout = false
	i, err := c.Isolate(ctx, in)
	if r, ok := errors.AsType[*api.Refused](err); ok && r.Lockout != "" && accept {
		if err := a.agreeToLockout(bufio.NewReader(a.in), r.Lockout); err != nil {
			return err
		}
		in.AcceptLockout = true
		i, err = c.Isolate(ctx, in)
	}
	return show(ctx, a, i, err, func(i *api.Isolation) error {
		fmt.Fprintf(a.out, "%s is isolated%s. To let it go: bulkhead release %s\n", machineOf(i), a.untilWhen(i), i.Machine)
		if i.MAC.IsZero() {
			fmt.Fprintf(a.out, "The box has never seen its MAC: with another address it is not isolated.\n")
		}
		return nil
	})
}

// time reads a time as people say it, where the box stands.
func (a *app) time(ctx context.Context, text string) (time.Time, error) {
	now := a.now().In(a.boxTime(ctx, &api.Status{}))
	if c, err := a.client(ctx); err == nil {
		if s, err := c.Status(ctx); err == nil {
			now = s.Now.In(a.boxTime(ctx, s))
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation("2006-01-02 15:04", text, now.Location()); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return t.AddDate(0, 0, 1), nil // the end of that day
	}
	t, err := time.ParseInLocation("15:04", text, now.Location())
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %q is no time: write 18:00, \"2027-03-31 18:00\", 2027-03-31 or 2h", errUsage, text)
	}
	t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
	if !t.After(now) {
		t = t.AddDate(0, 0, 1)
	}
	return t, nil
}

func (a *app) untilWhen(i *api.Isolation) string {
	if i.Until.IsZero() {
		return ""
	}
	return " until " + a.when(i.Until)
}

// machineOf is a machine with what else is known of it.
func machineOf(i *api.Isolation) string {
	known := []string{i.Device}
	if !i.MAC.IsZero() {
		known = append(known, i.MAC.String())
	}
	known = append(known, addresses(i.Addresses)...)
	var others []string
	for _, k := range known {
		if k != "" && k != i.Machine {
			others = append(others, k)
		}
	}
	if len(others) == 0 {
		return i.Machine
	}
	return fmt.Sprintf("%s (%s)", i.Machine, strings.Join(others, ", "))
}

func addresses(list []netip.Addr) []string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return texts
}

func (a *app) printIsolated(list []api.Isolation) error {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "No machine is isolated.")
		return nil
	}
	t := table{header: []string{"MACHINE", "MAC", "ADDRESSES", "SINCE", "UNTIL", "BY", "WHY"}}
	for _, i := range list {
		until, mac := "-", "-"
		if !i.Until.IsZero() {
			until = a.when(i.Until)
		}
		if !i.MAC.IsZero() {
			mac = i.MAC.String()
		}
		t.rows = append(t.rows, []string{i.Machine, mac, orDash(strings.Join(addresses(i.Addresses), ", ")), a.when(i.Since), until, orDash(i.Author), orDash(i.Why)})
	}
	return a.print(t)
}
