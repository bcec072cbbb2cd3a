package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	diag "bulkhead/services/diag/api"
)

func (a *app) pingCommand() *cobra.Command {
	var in diag.Ping
	cmd := &cobra.Command{
		Use:   "ping HOST",
		Short: "Have the box ask a host whether it answers",
		Long: `Have the box ask HOST, which is a device, a name or an IPv4 address, for echoes. It is a
difference if the host never answers.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Target = args[0]
			return a.ping(cmd.Context(), in)
		},
	}
	cmd.Flags().IntVarP(&in.Count, "count", "c", diag.DefaultCount, "how often, at most 10")
	return cmd
}

func (a *app) ping(ctx context.Context, in diag.Ping) error {
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	var echoes []diag.Echo
	err = c.Ping(ctx, in, func(e diag.Echo) { echoes = append(echoes, e) })
	err = show(ctx, a, echoes, err, func(echoes []diag.Echo) error {
		t := table{header: []string{"NUMBER", "FROM", "MS", "ANSWER"}}
		for _, e := range echoes {
			t.rows = append(t.rows, append([]string{strconv.Itoa(e.Number)}, echoCells(e)...))
		}
		return a.print(t)
	})
	if err == nil && !slices.ContainsFunc(echoes, func(e diag.Echo) bool { return e.Trouble == "" }) {
		err = errShown
	}
	return err
}

// echoCells are who answered, after how long, and what.
func echoCells(e diag.Echo) []string {
	cells := []string{"", "", e.Trouble}
	if e.From.IsValid() {
		cells[0], cells[1] = e.From.String(), strconv.FormatFloat(e.Milliseconds, 'f', 2, 64)
	}
	if e.Trouble == "" {
		cells[2] = "echo"
	}
	return cells
}

func (a *app) tracerouteCommand() *cobra.Command {
	var in diag.Traceroute
	cmd := &cobra.Command{
		Use:   "traceroute HOST",
		Short: "Have the box ask over which hops a host is reached",
		Long: `Have the box ask over which hops HOST is reached, which is a device, a name or an IPv4
address. Each is asked three times; routers need not answer. It is a difference if the
host is not reached.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Target = args[0]
			return a.traceroute(cmd.Context(), in)
		},
	}
	cmd.Flags().IntVar(&in.Hops, "hops", diag.DefaultHops, "how far, at most 30")
	return cmd
}

func (a *app) traceroute(ctx context.Context, in diag.Traceroute) error {
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	var hops []diag.Hop
	reached := false
	err = c.Traceroute(ctx, in, func(h diag.Hop) {
		hops = append(hops, h)
		reached = reached || slices.ContainsFunc(h.Echoes, func(e diag.Echo) bool { return e.Trouble == "" })
	})
	err = show(ctx, a, hops, err, func(hops []diag.Hop) error {
		t := table{header: []string{"HOP", "FROM", "MS", "ANSWER"}}
		for _, h := range hops {
			hop := strconv.Itoa(h.Number)
			for i, e := range h.Echoes {
				if i > 0 && slices.Equal(echoCells(e), echoCells(h.Echoes[i-1])) {
					continue // silence is said once
				}
				t.rows = append(t.rows, append([]string{hop}, echoCells(e)...))
				hop = ""
			}
		}
		return a.print(t)
	})
	if err == nil && !reached {
		err = errShown
	}
	return err
}

func (a *app) captureCommand() *cobra.Command {
	var in diag.Capture
	var path string
	var force bool
	cmd := &cobra.Command{
		Use:   "capture ZONE [FILTER]",
		Short: "Have the box take the packets on the link of a zone",
		Long: `Have the box take the packets on the link of ZONE, or of "internet", which FILTER wants,
and write them as a file for tcpdump, Wireshark and the like, until there are enough or
you interrupt it. What this command itself speaks with the box over HTTPS is left out.

FILTER is such as: host 192.168.20.5 and not (tcp and port 443). Its words are host, net,
port, mac, tcp, udp, icmp, arp, ip and ip6, joined by and, or, not and parentheses, which
a shell wants quoted.

` + exitHelp,
		Example: "  bulkhead capture iot udp and port 53 -w dns.pcap\n  bulkhead capture internet icmp | tcpdump -nr -",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Zone, in.Filter = args[0], strings.Join(args[1:], " ")
			return a.capture(cmd.Context(), in, path, force)
		},
	}
	cmd.Flags().StringVarP(&path, "write", "w", "-", "the `file`; -: standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file")
	cmd.Flags().IntVarP(&in.Packets, "packets", "c", diag.DefaultPackets, "end after so many, at most 100000")
	cmd.Flags().IntVar(&in.Seconds, "seconds", diag.DefaultSeconds, "end after so long, at most 60")
	cmd.Flags().IntVar(&in.Bytes, "bytes", diag.DefaultBytes, "end before the file is larger, at most 33554432")
	cmd.Flags().IntVar(&in.Snap, "snap", diag.MaxSnap, "keep so many bytes of each packet")
	return cmd
}

func (a *app) capture(ctx context.Context, in diag.Capture, path string, force bool) (err error) {
	switch f, ok := a.out.(*os.File); {
	case a.json:
		return fmt.Errorf("%w: packets are no JSON", errUsage)
	case path == "-" && ok && terminal(f):
		return fmt.Errorf("%w: packets are nothing for a terminal: name a file with -w", errUsage)
	}
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	out, begin := a.out, func() error { return nil }
	if path != "-" { // first: a capture that nobody can keep is none to ask for
		how := os.O_CREATE | os.O_WRONLY
		if !force {
			how |= os.O_EXCL
		}
		f, ferr := os.OpenFile(path, how, 0o600) // it may hold secrets
		if ferr != nil {
			return ferr
		}
		begun := false
		defer func() {
			err = errors.Join(err, f.Close())
			if !begun && !force {
				err = errors.Join(err, os.Remove(path))
			}
		}()
		begin = func() error {
			begun = true
			if i, err := f.Stat(); err != nil || !i.Mode().IsRegular() { // a pipe, perhaps
				return err
			}
			return errors.Join(f.Chmod(0o600), f.Truncate(0))
		}
		out = f
	}
	packets, err := c.Capture(ctx, in)
	if err != nil {
		return err
	}
	defer packets.Close()
	if err := begin(); err != nil {
		return err
	}
	if _, err := io.Copy(out, packets); err != nil && ctx.Err() == nil {
		return err // an interrupt is how one has had enough
	}
	return nil
}
